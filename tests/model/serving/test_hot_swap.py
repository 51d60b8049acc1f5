import logging
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from model.serving.answerer import answerer_for
from model.serving.hot_swap import RETRY_S, Swapper
from model.serving.http.errors import NotReadyError
from model.serving.http.queries import answerer_of
from model.serving.sequences import NoSequences
from model.storage.aliases import move
from model.storage.delta_log import DeltaLog
from model.storage.snapshot import ARRAYS, Snapshot, as_numpy, load_snapshot
from tests.served import NOW_MS, SETTINGS, model_arrays, snapshot_of, write_model
from tests.snapshots import some_manifest, write_some


class Loads:
    """Loads answerers and keeps a list of them; its clock is set by hand."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.now_s = 0.0

    def __call__(self, snapshot: Snapshot) -> Any:
        self.paths.append(snapshot.path)
        return answerer_for(snapshot, "latest", NoSequences())

    def swapper(self, directory: Path) -> Swapper:
        return Swapper(directory, "latest", self, clock=lambda: self.now_s)


def test_the_answerer_follows_the_alias(tmp_path: Path) -> None:
    """Nothing before the first snapshot, then each that the alias names, loaded once."""
    loads = Loads()
    swapper = loads.swapper(tmp_path / "silu")
    assert not swapper.poll()
    assert swapper.answerer is None
    assert "There is no snapshot in" in (swapper.problem or "")
    assert (swapper.waits, swapper.brief) == (True, "latest names no snapshot yet.")
    paths = [write_model(tmp_path / "silu", step) for step in (1, 2)]
    for path in (paths[1], paths[0]):
        move(tmp_path / "silu", "latest", path.name)
        assert [swapper.poll(), swapper.poll()] == [True, False]
        assert swapper.answerer is not None
        assert swapper.answerer.snapshot_id == path.name
        assert (swapper.problem, swapper.waits, swapper.brief) == (None, False, None)
    assert loads.paths == [paths[1], paths[0]]
    assert swapper.swaps == 2


def test_the_first_snapshot_is_being_loaded_meanwhile(tmp_path: Path) -> None:
    """It may compile for minutes: nobody is told that there is none. Of the next ones no word is said."""
    said: list[str | None] = []

    def make(snapshot: Snapshot) -> Any:
        with pytest.raises(NotReadyError) if swapper.answerer is None else nullcontext() as refused:
            answerer_of(swapper)
        said.append(str(refused.value) if refused else swapper.brief)
        assert swapper.problem is None
        return answerer_for(snapshot, "latest", NoSequences())

    path, swapper = write_model(tmp_path / "silu", 1), Swapper(tmp_path / "silu", "latest", make)
    swapper.poll()
    write_model(tmp_path / "silu", 2)
    swapper.poll()
    assert said == [
        f"Snapshot {path.name} is being loaded; on a machine that is new to it, it compiles first, for minutes.",
        None,
    ]
    assert (swapper.loading, swapper.brief, swapper.swaps) == (None, None, 2)


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
    assert swapper.answerer is None
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
    assert not swapper.waits
    later = Loads().swapper(tmp_path / "silu")
    (tmp_path / "silu" / "aliases").mkdir(parents=True)
    (tmp_path / "silu" / "aliases" / "latest").write_text("00000001-00000000\n")
    later.poll()
    assert (later.waits, later.brief) == (
        False,
        "The snapshot that latest names is not loaded; the server's log says why.",
    )


class Published:
    """A trainer's snapshots of one model, whose weights change a little with each step, and its deltas."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.log = directory, DeltaLog(directory, 0.0)
        self.arrays, self.step = as_numpy(model_arrays()), 0

    def snapshot(self, alias: str = "latest") -> str:
        self.step += 1
        path = write_model(self.directory, self.step, arrays=self.arrays, alias=None)
        self.log.begin(path.name, self.arrays, load_snapshot(path).manifest)
        move(self.directory, alias, path.name)
        return path.name

    def delta(self) -> Path:
        self.step += 1
        self.arrays["items.weight"][self.step] += 1
        manifest = some_manifest(self.step, settings={"model": SETTINGS.model_dump(mode="json")})
        return self.log.append(self.arrays, manifest)


def answers(swapper: Swapper) -> Any:
    assert swapper.answerer is not None
    return swapper.answerer.topk_sequence(["i1", "i2"], 5, NOW_MS).items


def test_deltas_are_followed_into_the_next_snapshot(tmp_path: Path) -> None:
    """Each changes the answers to those of a snapshot made then, and only the first snapshot is ever loaded."""
    trainer, loads = Published(tmp_path), Loads()
    swapper = loads.swapper(tmp_path)
    first = trainer.snapshot()
    assert swapper.poll()
    before = answers(swapper)
    for _ in range(2):
        trainer.delta()
        assert [swapper.poll(), swapper.poll()] == [True, False]
    assert answers(swapper) == answerer_for(snapshot_of(trainer.arrays), "latest", NoSequences()).topk_sequence(
        ["i1", "i2"], 5, NOW_MS
    ).items != before  # fmt: skip
    trainer.delta()
    second = trainer.snapshot()
    assert swapper.poll()
    assert swapper.answerer is not None
    assert swapper.answerer.snapshot_id == second
    assert [path.parent.name for path in loads.paths] == [tmp_path.name, *[first] * 3]
    assert (swapper.swaps, swapper.problem) == (4, None)


def test_a_chain_that_is_begun_anew_is_followed_from_its_snapshot(tmp_path: Path) -> None:
    """As by a trainer that was killed, began again at an older step and wrote the same snapshot once more."""
    trainer, loads = Published(tmp_path), Loads()
    swapper = loads.swapper(tmp_path)
    first = trainer.snapshot()
    for _ in range(3):
        trainer.delta()
    assert [swapper.poll(), swapper.poll()] == [True, True]
    again = Published(tmp_path)
    assert again.snapshot() == first
    for _ in range(2):
        assert swapper.poll()
        assert swapper.problem is None
        wanted = answerer_for(snapshot_of(again.arrays), "latest", NoSequences())
        assert answers(swapper) == wanted.topk_sequence(["i1", "i2"], 5, NOW_MS).items
        again.delta()


def check_that_it_begins_again(swapper: Swapper, directory: Path) -> None:
    """A trainer writes the same snapshot and goes on; the server loads that, then follows."""
    again = Published(directory)
    again.snapshot()
    again.delta()
    assert [swapper.poll(), swapper.poll(), swapper.poll()] == [True, True, False]
    assert swapper.answerer is not None
    assert (swapper.answerer.manifest.step, swapper.problem) == (2, None)


def test_a_chain_that_comes_after_its_snapshot_was_loaded_is_followed(tmp_path: Path) -> None:
    """As where deltas are turned on, or their folder was lost: the trainer writes the same snapshot and goes on."""
    trainer, loads = Published(tmp_path), Loads()
    swapper = loads.swapper(tmp_path)
    trainer.snapshot()
    shutil.rmtree(tmp_path / "deltas")
    assert [swapper.poll(), swapper.poll()] == [True, False]
    check_that_it_begins_again(swapper, tmp_path)


def test_a_refusal_ends_with_its_chain(tmp_path: Path) -> None:
    """The one that is begun anew is whole."""
    trainer, loads = Published(tmp_path), Loads()
    swapper = loads.swapper(tmp_path)
    trainer.snapshot()
    assert swapper.poll()
    trainer.delta().write_bytes(b"torn")
    assert not swapper.poll()
    assert "is damaged" in (swapper.problem or "")
    check_that_it_begins_again(swapper, tmp_path)


def test_a_refused_delta_changes_nothing_until_the_next_snapshot(tmp_path: Path) -> None:
    """It is reported as long as it holds the answers back, and what came before it is answered from."""
    trainer, loads = Published(tmp_path), Loads()
    swapper = loads.swapper(tmp_path)
    trainer.snapshot()
    swapper.poll()
    trainer.delta()
    trainer.delta().unlink()
    trainer.delta()
    assert [swapper.poll(), swapper.poll()] == [True, False]
    assert swapper.answerer is not None
    assert swapper.answerer.manifest.step == 2
    assert "Delta 2 is missing" in (swapper.problem or "")
    assert swapper.brief == "A delta after the snapshot that latest names was refused; the server's log says why."
    second = trainer.snapshot()
    assert swapper.poll()
    assert loads.paths[-1].name == second
    assert swapper.problem is None
    trainer.delta()
    assert swapper.poll()


def test_an_alias_of_the_users_own_stays_where_it_is(tmp_path: Path) -> None:
    """A champion is the snapshot that was chosen, and not what became of it."""
    trainer, loads = Published(tmp_path), Loads()
    chosen = trainer.snapshot("champion")
    swapper = Swapper(tmp_path, "champion", loads)
    swapper.poll()
    trainer.delta()
    assert not swapper.poll()
    assert swapper.answerer is not None
    assert swapper.answerer.snapshot_id == chosen


def test_an_unforeseen_error_does_not_end_the_polling(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported as a problem, with one traceback in the log however often it comes again."""

    def fail(_: Snapshot) -> Any:
        raise MemoryError("no room")

    write_model(tmp_path, 1)
    now_s = 0.0
    swapper = Swapper(tmp_path, "latest", fail, clock=lambda: now_s)
    for _ in range(5):
        assert not swapper.poll()
        now_s += RETRY_S
    assert "was not loaded: MemoryError('no room')" in (swapper.problem or "")
    assert len([record for record in caplog.records if record.exc_info]) == 1
