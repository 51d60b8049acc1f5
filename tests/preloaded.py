"""`hstu` as forks of one process that has imported everything, since to import it anew takes each command 2 s.

    python -m tests.preloaded <socket>       the process; it ends with its standard input
    python tests/preloaded.py <arguments>    runs `hstu <arguments>` in a fork of the one at $PRELOADED

The fork has the caller's arguments, variables, directory and files. It gets the signals that the caller gets, and dies
with the caller.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

_FORWARDED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def preloaded(path: Path) -> Iterator[None]:
    """Have the process at a socket while the block runs."""
    command = [sys.executable, "-m", "tests.preloaded", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == b"ready\n"
        yield


def _serve(path: str) -> None:
    for module in ("model.serving.http.server", "model.trainer.kafka", "sim.compare.command", "sim.main"):
        import_module(module)

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            caller, _ = listener.accept()
            with caller:
                if os.fork() == 0:
                    listener.close()
                    _follow(caller)
                    return


def _follow(caller: socket.socket) -> None:
    """Run the caller's command in a fork, and tell the caller its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, files, _, _ = socket.recv_fds(caller, 1 << 20, 3)
    child = os.fork()
    if child == 0:
        caller.close()
        _run(**json.loads(asked), files=files)
        return
    ended = os.pidfd_open(child)
    while ended not in select.select([caller, ended], [], [])[0]:
        number = caller.recv(1)
        os.kill(child, number[0] if number else signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    caller.send(bytes([code % 256]))
    os._exit(0)


def _run(arguments: list[str], variables: dict[str, str], directory: str, files: list[int]) -> None:
    from sim.main import main

    for to, file in enumerate(files):
        os.dup2(file, to)
        os.close(file)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = ["hstu", *arguments]
    main()


def _call() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["PRELOADED"])
        asked = {"arguments": sys.argv[1:], "variables": dict(os.environ), "directory": str(Path.cwd())}
        socket.send_fds(server, [json.dumps(asked).encode()], [0, 1, 2])
        for number in _FORWARDED:
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        sys.exit(server.recv(1)[0])


if __name__ == "__main__":
    if __package__:
        _serve(sys.argv[1])
    else:
        _call()
