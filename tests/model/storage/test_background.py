import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from model.errors import ModelError
from model.storage import background
from model.storage.background import Background

pytestmark = pytest.mark.skipif(not background.POSSIBLE, reason="forks beside threads are for Linux")


def test_a_job_sees_the_memory_of_its_beginning(tmp_path: Path) -> None:
    """What is changed while it runs is not in what it writes; its text reaches the parent, once."""
    numbers, ended = np.zeros(4), []
    writer, (reader, go) = Background(), os.pipe()

    def job() -> str:
        os.read(reader, 1)
        (tmp_path / "numbers").write_text(str(numbers.tolist()))
        return "written"

    writer.begin("numbers", job, ended.append)
    assert writer.busy
    numbers += 1
    writer.note()
    assert ended == []
    os.write(go, b"!")
    writer.wait()
    assert not writer.busy
    writer.note()
    assert ended == ["written"]
    assert (tmp_path / "numbers").read_text() == "[0.0, 0.0, 0.0, 0.0]"


def test_what_goes_wrong_reaches_the_parent() -> None:
    """A sentence as it is, a bug by its name, a kill by its status; then the next job may begin."""
    writer = Background()

    def fails(error: Exception) -> str:
        raise error

    writer.begin("a checkpoint", lambda: fails(ModelError("The disk is full.")), print)
    with pytest.raises(ModelError, match=r"^The disk is full\.$"):
        writer.wait()
    writer.begin("a checkpoint", lambda: fails(KeyError("x")), print)
    with pytest.raises(ModelError, match=r"could not be written: KeyError\('x'\)"):
        writer.wait()
    writer.begin("a snapshot", lambda: str(os.kill(os.getpid(), signal.SIGKILL)), print)
    with pytest.raises(ModelError, match=r"writes a snapshot has ended with status -9 .*was memory short"):
        writer.wait()
    ended: list[str] = []
    writer.begin("a snapshot", lambda: "", ended.append)
    writer.wait()
    assert ended == [""]


def test_a_job_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says so, and the training can end."""
    monkeypatch.setattr(background, "_MOST_S", 0.0)
    writer = Background()
    writer.begin("a snapshot", lambda: str(time.sleep(60)), print)
    time.sleep(0.01)
    with pytest.raises(ModelError, match="status -9"):
        writer.note()


def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    """After a kill -9 of the parent nothing writes on: the child's end closes a pipe that both hold."""
    reader, held = os.pipe()
    parent = os.fork()
    if not parent:
        os.close(reader)
        Background().begin("a checkpoint", lambda: str(time.sleep(60)), print)
        os.write(held, b"!")
        time.sleep(60)
    os.close(held)
    assert os.read(reader, 1) == b"!"
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert os.read(reader, 1) == b""
    os.close(reader)
