"""The run in one process: the same digests for any batches and interleaving, and refusals."""

import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings as checks, strategies as st

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.storage.locks import lock_file
from sim.config import Settings
from sim.dirichlet.stream import DirichletSettings, DirichletStream, whole_records
from sim.errors import SimError
from sim.replay.direct_folders import claimed
from sim.replay.in_process import DirectRun
from sim.sources.log_columns import LogSettings
from sim.sources.open_log import Items, read_log
from sim.sources.source import TOPICS, Source, SourceEvent, replay_events
from stream.config import StreamSettings
from stream.store.reader import SequenceReader
from stream.store.rocksdb import open_store, partition_path

PARTITIONS, USERS, ITEMS = 3, 12, 30


def make_settings(data_dir: Path, **stream: object) -> Settings:
    return Settings(
        data_dir=data_dir,
        stream=StreamSettings(partitions=PARTITIONS, action_window_s=300, gather_targets=4, **stream),
        model=ModelSettings(dim=8, layers=1, heads=1, max_len=512),
        train=TrainSettings(batch_examples=8, negatives=16),
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Slates of a few users and actions on them, in disorder, with a catalogue."""
    rng, folder = random.Random(7), tmp_path_factory.mktemp("log")
    rows = ["user_id,item_id,ts,slate,what"]
    for slate in range(150):
        user, ts = rng.randrange(USERS), 1_700_000_000 + 20 * slate
        for item in rng.sample(range(ITEMS), 3):
            rows.append(f"u{user},i{item},{ts},s{slate},{rng.choice(['', '', 'click', 'skip'])}")
    (folder / "log.csv").write_text("\n".join(rows))
    titles = [f"i{item},Title {item}" for item in range(ITEMS)]
    (folder / "items.csv").write_text("\n".join(["id,title", *titles]))
    mapping = LogSettings(user="user_id", item="item_id", time="ts", action="what", request="slate")
    return read_log([str(folder / "log.csv")], mapping, Items(str(folder / "items.csv")))


def as_it_is(events: list[SourceEvent]) -> list[SourceEvent]:
    return events


def topic_by_topic(events: list[SourceEvent]) -> list[SourceEvent]:
    """Return the events topic by topic: the greatest disorder between topics."""
    return sorted(events, key=lambda event: TOPICS.index(event.topic))


def digests(
    data_dir: Path, source: Source, batch: int, order: Callable[[list[SourceEvent]], list[SourceEvent]]
) -> dict[str, str]:
    with DirectRun(make_settings(data_dir)) as run:
        events = iter(order(list(replay_events(source, PARTITIONS))))
        while some := list(islice(events, batch)):
            run.feed(some)
        assert run.training.ended
        assert run.refused() == {}
        assert run.training.report["targets"] > 50
        return run.training.digests


@pytest.fixture(scope="module")
def plain(log: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the plain run."""
    with DirectRun(make_settings(tmp_path_factory.mktemp("plain"))) as run:
        assert run.run(log)
        return run.training.digests


@pytest.mark.parametrize("order", [as_it_is, topic_by_topic])
@pytest.mark.parametrize("batch", [1, 37, 100_000])
def test_a_run_is_a_function_of_its_events(
    log: Source,
    plain: dict[str, str],
    tmp_path: Path,
    batch: int,
    order: Callable[[list[SourceEvent]], list[SourceEvent]],
) -> None:
    """Neither the size of the batches nor the order of the topics changes sequences, examples or model."""
    assert digests(tmp_path, log, batch, order) == plain


@checks(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_interleaving_of_the_topics_will_do(
    log: Source, plain: dict[str, str], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """If the events of one topic keep their order."""

    def interleaved(events: list[SourceEvent]) -> list[SourceEvent]:
        rng = random.Random(seed)
        left = [iter([event for event in events if event.topic == topic]) for topic in TOPICS]
        mixed: list[SourceEvent] = []
        while left:
            queue = rng.choice(left)
            some = list(islice(queue, rng.randrange(1, 40)))
            mixed += some
            if not some:
                left.remove(queue)
        return mixed

    assert digests(tmp_path_factory.mktemp("mixed"), log, 50, interleaved) == plain


def test_other_events_make_another_run(log: Source, plain: dict[str, str], tmp_path: Path) -> None:
    """All three digests notice one missing event."""

    def without_one(events: list[SourceEvent]) -> list[SourceEvent]:
        lost = next(n for n, event in enumerate(events) if event.topic == "actions" and event.partition is None)
        return events[:lost] + events[lost + 1 :]

    other = digests(tmp_path, log, 1000, without_one)
    assert all(other[name] != plain[name] for name in plain)


def test_what_a_run_leaves_can_be_read(log: Source, tmp_path: Path) -> None:
    """The stores hold every user's sequence, the snapshot is there, progress reaches the end."""
    settings, seen = make_settings(tmp_path), list[int]()
    with DirectRun(settings) as run:
        assert run.run(log, seen.append)
    reader = SequenceReader(tmp_path, settings.stream)
    assert all(len(reader.tokens(f"u{user}", 10)) == 10 for user in range(USERS))
    reader.close()
    assert any((tmp_path / "snapshots" / "silu").iterdir())
    assert seen[-1] == len(log) + ITEMS


def test_records_of_the_papers_stream_leave_whole(tmp_path: Path) -> None:
    """One example a record, with all of its targets."""
    source = DirichletStream(DirichletSettings(records=40, length=20, items=100, categories=5))
    settings = make_settings(tmp_path)
    settings = settings.model_copy(update={"stream": whole_records(settings.stream, 20)})
    with DirectRun(settings) as run:
        assert run.run(source)
        assert (run.training.report["examples"], run.training.report["targets"]) == (40, 800)


def test_a_run_does_not_begin_in_what_is_there(log: Source, tmp_path: Path) -> None:
    """Stores of an earlier run are refused, deleted by restart, and only if such a run has made them."""
    settings = make_settings(tmp_path)
    with DirectRun(settings) as first:
        first.feed(islice(replay_events(log, PARTITIONS), 200))
    with pytest.raises(SimError, match=r"store is there already, and --direct begins with nothing; .*--restart"):
        DirectRun(settings)
    with DirectRun(settings, restart=True) as again:
        assert again.run(log)
    (tmp_path / "store" / "direct.json").unlink()
    with pytest.raises(SimError, match=r"store was not made by --direct, so --restart keeps it"):
        DirectRun(settings, restart=True)
    assert (tmp_path / "store" / "p0").exists()


def test_a_store_in_use_is_not_deleted(tmp_path: Path) -> None:
    """The store of a running process is kept."""
    holder = (
        "import sys; from pathlib import Path; from stream.store.rocksdb import open_store, partition_path\n"
        "store = open_store(partition_path(Path(sys.argv[1]), 0)); print('open', flush=True); sys.stdin.read()\n"
    )
    with DirectRun(make_settings(tmp_path)):
        pass
    command = [sys.executable, "-c", holder, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        with pytest.raises(SimError, match="is in use by another process; stop that first"):
            DirectRun(make_settings(tmp_path), restart=True)
        process.communicate()


def test_a_model_shorter_than_its_examples_is_refused(tmp_path: Path) -> None:
    """Before any folder is made."""
    settings = make_settings(tmp_path)
    short = settings.model_copy(update={"model": settings.model.model_copy(update={"max_len": 64})})
    with pytest.raises(ModelError, match=r"model\.max_len = 64 is less than stream\.example_tokens = 512"):
        DirectRun(short)
    assert not any(tmp_path.iterdir())


REFUSED = {
    "model.item_rows makes items share rows": ({"max_items": 40}, {"item_rows": 100}),
    "train.max_items": ({"max_items": 10**12}, {}),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_trainer_that_cannot_begin_changes_nothing(sentence: str, log: Source, tmp_path: Path) -> None:
    """No folder is made, so that the same command runs with other settings; an earlier run is kept from --restart."""
    good, (train, model) = make_settings(tmp_path / "data"), REFUSED[sentence]
    tables = {"train": good.train.model_copy(update=train), "model": good.model.model_copy(update=model)}
    bad = good.model_copy(update=tables)
    with pytest.raises(ModelError, match=sentence):
        DirectRun(bad)
    assert not any(tmp_path.iterdir())
    with DirectRun(good) as run:
        assert run.run(log)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ModelError, match=sentence):
        DirectRun(bad, restart=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with DirectRun(good, restart=True) as again:
        assert again.run(log)
    assert not list((tmp_path / "data").rglob(".*.old"))
    assert again.training.digests == run.training.digests


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KILLED = """
import os, signal, sys
from pathlib import Path
from sim.replay.direct_folders import claimed

left, rename = int(sys.argv[2]), Path.rename
def counted(path, target):
    global left
    left -= 1
    return rename(path, target) if left >= 0 else os.kill(os.getpid(), signal.SIGKILL)
Path.rename = counted
with claimed(Path(sys.argv[1]), "silu", restart=True) as make_folders:
    make_folders()
"""
NEW = {"store/direct.json", "train/silu/direct.json"}


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Return a data directory with an earlier run."""
    for folder in ("store", "train/silu"):
        (tmp_path / folder / "p0").mkdir(parents=True)
        (tmp_path / folder / "p0" / "earlier").write_text("earlier")
        (tmp_path / folder / "direct.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("renames", range(5))
def test_a_start_that_is_killed_leaves_no_half_of_a_folder(renames: int, earlier: Path) -> None:
    """Each folder is the earlier one, whole, or none, or new; the next one begins, and leaves nothing of it."""
    before = contents(earlier)
    subprocess.run([sys.executable, "-c", KILLED, str(earlier), str(renames)], check=False)
    for folder in ("store", "train/silu"):
        found = {name for name in contents(earlier) if name.startswith(folder)}
        assert found in ({name for name in before if name.startswith(folder)}, set(), {f"{folder}/direct.json"})
    with claimed(earlier, "silu", restart=True) as make_folders:
        make_folders()
    assert set(contents(earlier)) == NEW


def test_what_is_refused_or_fails_changes_nothing(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a folder cannot be moved, such as a mount point: the other one is put back."""
    before, rename = contents(earlier), Path.rename
    with pytest.raises(SimError, match="is there already"), claimed(earlier, "silu", restart=False):
        pass
    with pytest.raises(ZeroDivisionError), claimed(earlier, "silu", restart=True):
        raise ZeroDivisionError
    assert contents(earlier) == before
    for bad in ("store", "silu", ".store.new", ".silu.new"):

        def refusing(path: Path, target: Path, bad: str = bad) -> Path:
            if path.name == bad:
                raise OSError(16, "Device or resource busy")
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", refusing)
        with (
            pytest.raises(SimError, match=r"cannot be made: .*busy; make room"),
            claimed(earlier, "silu", restart=True) as make_folders,
        ):
            make_folders()
        assert contents(earlier) == before


def test_who_comes_between_two_renames_keeps_what_is_there(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is deleted: the sentence says where the earlier run lies."""
    before, rename = contents(earlier), Path.rename

    def coming(path: Path, target: Path) -> Path:
        done = rename(path, target)
        if path.name == "store":
            (path / "p0").mkdir(parents=True)
            (path / "p0" / "live").write_text("live")
        return done

    monkeypatch.setattr(Path, "rename", coming)
    with (
        pytest.raises(SimError, match=r"store is in use by another process now; what was there lies in .*\.store\.old"),
        claimed(earlier, "silu", restart=True) as make_folders,
    ):
        make_folders()
    after = {name.replace(".store.old/", "store/"): data for name, data in contents(earlier).items()}
    assert (earlier / "store" / "p0" / "live").exists()
    assert after.items() >= {k: v for k, v in before.items() if k.startswith("store")}.items()


def test_who_comes_meanwhile_keeps_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the settings are tried, or between the last look and the renames."""
    with (
        claimed(tmp_path, "silu", restart=True) as make_folders,
        closing(open_store(partition_path(tmp_path, 0))),
        pytest.raises(SimError, match="store was not made by --direct"),
    ):
        make_folders()
    assert (tmp_path / "store" / "p0" / "LOCK").exists()
    (tmp_path / "store" / "direct.json").write_text("{}")
    held = lock_file(tmp_path / "store" / ".lock")
    monkeypatch.setattr("sim.replay.direct_folders.check_folders", lambda *_, **__: held.acquire())
    with (
        pytest.raises(SimError, match="store is in use by another process"),
        claimed(tmp_path, "silu", restart=True) as make_folders,
    ):
        make_folders()
    held.release()
    assert (tmp_path / "store" / "p0" / "LOCK").exists()
    assert not (tmp_path / "store" / ".store.old").exists()


@pytest.mark.parametrize("place", ["a file", "snapshots", "metrics", "inside", "itself", "a folder to be", "link"])
def test_places_that_cannot_be_written_are_refused_before(place: str, earlier: Path) -> None:
    """Nothing of the earlier run is gone."""
    settings, before = make_settings(earlier), contents(earlier)
    blocked = earlier / ("snapshots" if place == "snapshots" else "blocked")
    blocked.write_text("a file")
    inside = earlier / "store" / "x" / "m.jsonl"
    named = {
        "a file": blocked / "m.jsonl",
        "metrics": Path("/proc/nope/m.jsonl"),
        "inside": inside,
        "itself": inside.parents[1],
        "a folder to be": earlier / "snapshots",
    }
    if place == "link":
        (earlier / "store" / "link").symlink_to(earlier.parent)
        named[place], before = earlier / "store" / "link" / "m.jsonl", contents(earlier)
    metrics = named.get(place)
    train = settings.train.model_copy(update={"metrics_file": str(metrics or "")})
    with pytest.raises(
        (ModelError, SimError), match=r"cannot be written|is no f|which --direct makes anew|would be where"
    ):
        DirectRun(settings.model_copy(update={"train": train}), restart=True)
    assert contents(earlier) == before | {blocked.name: b"a file"}


def test_links_and_folders_in_use_are_kept(earlier: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link is not followed, and what a trainer holds is not taken from it."""
    before = contents(earlier)
    with lock_file(earlier / "train/silu/.lock"):
        with pytest.raises(SimError, match="is in use by another process"), claimed(earlier, "silu", restart=True):
            pass
        assert contents(earlier).keys() - {"train/silu/.lock"} == before.keys()
    elsewhere = tmp_path_factory.mktemp("disk") / "store"
    (earlier / "store").rename(elsewhere)
    (earlier / "store").symlink_to(elsewhere)
    with pytest.raises(SimError, match="store is a link or a file, where --direct makes a folder"):
        DirectRun(make_settings(earlier), restart=True)
    assert (elsewhere / "p0" / "earlier").read_text() == "earlier"


def test_two_do_not_begin_at_once(tmp_path: Path) -> None:
    """The second is refused, and takes nothing from the first."""
    with claimed(tmp_path / "data", "silu", restart=False) as make_folders:
        make_folders()
        with (
            pytest.raises(SimError, match=r"Another process begins a --direct in .*data; wait for it"),
            claimed(tmp_path / "data", "silu", restart=True),
        ):
            pass
        assert set(contents(tmp_path)) == {"data/store/direct.json", "data/train/silu/direct.json"}
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["store", "train"]
