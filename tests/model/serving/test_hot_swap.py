import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from model.serving.answerer import answerer_at
from model.serving.hot_swap import RETRY_S, Swapper
from model.serving.sequences import NoSequences
from model.storage.aliases import move
from model.storage.snapshot import ARRAYS
from tests.served import write_model
from tests.snapshots import write_some


class Loads:
    """Loads answerers and keeps a list of them; its clock is set by hand."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.now_s = 0.0

    def __call__(self, path: Path) -> Any:
        self.paths.append(path)
        return answerer_at(path, "latest", NoSequences())

    def swapper(self, directory: Path) -> Swapper:
        return Swapper(directory, "latest", self, clock=lambda: self.now_s)


def test_the_answerer_follows_the_alias(tmp_path: Path) -> None:
    """Nothing before the first snapshot, then each that the alias names, loaded once."""
    loads = Loads()
    swapper = loads.swapper(tmp_path / "silu")
    assert not swapper.poll()
    assert swapper.answerer is None
    assert "There is no snapshot in" in (swapper.problem or "")
    paths = [write_model(tmp_path / "silu", step) for step in (1, 2)]
    for path in (paths[1], paths[0]):
        move(tmp_path / "silu", "latest", path.name)
        assert [swapper.poll(), swapper.poll()] == [True, False]
        assert swapper.answerer is not None
        assert swapper.answerer.snapshot_id == path.name
        assert swapper.problem is None
    assert loads.paths == [paths[1], paths[0]]
    assert swapper.swaps == 2


def test_a_broken_snapshot_keeps_the_last_good_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The problem is reported, logged once, and gone as soon as the alias names a good one."""
    loads = Loads()
    good, swapper = write_model(tmp_path, 1), loads.swapper(tmp_path)
    swapper.poll()
    broken = write_model(tmp_path, 2)
    data = bytearray((broken / ARRAYS).read_bytes())
    data[-1] ^= 1
    (broken / ARRAYS).write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert [swapper.poll() for _ in range(3)] == [False] * 3
    assert swapper.answerer is not None
    assert swapper.answerer.snapshot_id == good.name
    assert f"{broken.name} is damaged" in (swapper.problem or "")
    assert [record.getMessage().count(good.name) for record in caplog.records] == [1]
    write_model(tmp_path, 3)
    assert swapper.poll()
    assert swapper.problem is None


def test_a_snapshot_that_is_no_model_is_a_problem_like_any_other(tmp_path: Path) -> None:
    """It is whole on disk, but no answers can come from it."""
    loads = Loads()
    swapper = loads.swapper(tmp_path)
    move(tmp_path, "latest", write_some(tmp_path, 1).name)
    swapper.poll()
    assert "cannot answer" in (swapper.problem or "")


def test_what_failed_is_tried_again_after_a_while(tmp_path: Path) -> None:
    """Loading is expensive, so not at each poll; but a disk may recover."""
    loads = Loads()
    swapper, path = loads.swapper(tmp_path), write_model(tmp_path, 1)
    whole = (path / ARRAYS).read_bytes()
    (path / ARRAYS).write_bytes(whole[:-1] + b"?")
    swapper.poll()
    (path / ARRAYS).write_bytes(whole)
    loads.now_s = RETRY_S - 1
    assert not swapper.poll()
    assert len(loads.paths) == 1
    loads.now_s = RETRY_S
    assert swapper.poll()


def test_answering_goes_on_when_the_directory_is_gone(tmp_path: Path) -> None:
    """The answerer in memory stays; the problem says what is missing."""
    swapper = Loads().swapper(tmp_path / "silu")
    write_model(tmp_path / "silu", 1)
    swapper.poll()
    shutil.rmtree(tmp_path / "silu")
    assert not swapper.poll()
    assert swapper.answerer is not None
    assert "There is no snapshot in" in (swapper.problem or "")


def test_an_unforeseen_error_does_not_end_the_polling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported as a problem, with one traceback in the log however often it comes again."""

    def fail(_: Path) -> Any:
        raise MemoryError("no room")

    write_model(tmp_path, 1)
    now_s = 0.0
    swapper = Swapper(tmp_path, "latest", fail, clock=lambda: now_s)
    for _ in range(5):
        assert not swapper.poll()
        now_s += RETRY_S
    assert "was not loaded: MemoryError('no room')" in (swapper.problem or "")
    assert len([record for record in caplog.records if record.exc_info]) == 1
