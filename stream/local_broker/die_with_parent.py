"""Run a command that dies with the process that started it.

    python -I -S die_with_parent.py PARENT COMMAND [ARGUMENT…]

PARENT is the process id of the starter. On Linux the kernel kills the command as soon as the starter's thread is gone,
even by kill -9. On other systems nothing does that: only a starter that ends cleanly stops the command. This is a
program, since code between fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel to be killed with the parent, check that it still runs, and become the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the process that started this is gone")
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
