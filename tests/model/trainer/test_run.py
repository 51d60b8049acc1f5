import os
import shutil
import signal
import socket
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.errors import ModelError
from model.storage.aliases import find
from model.storage.background import POSSIBLE
from model.storage.checkpoint import farewell, farewell_address
from model.storage.snapshot import list_snapshots
from model.trainer.metrics_log import MetricsLog
from model.trainer.run import Training
from tests.factories import START_MS
from tests.runs import LOGS, lines, remaining, run, start


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[dict[str, Any]], int]:
    """Return digests, lines and steps of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    training = run(start(folder))
    digests, steps = training.digests, training.learner.counts["steps"]
    training.close()
    return digests, lines(folder), steps


def test_every_example_is_trained_on_once(whole: tuple[Any, list[dict[str, Any]], int]) -> None:
    """75 examples make nine micro-batches of eight and a last one of three; every figure is there at the end."""
    _, metrics, steps = whole
    assert steps == 10
    last = metrics[-1]
    assert (last["step"], last["examples"]) == (10, 75)
    assert set(last["retrieval"]) == {"hstu", "encoder", "stack", "popularity", "last_items"}
    assert {scorer["total"]["all"]["targets"] for scorer in last["retrieval"].values()} == {last["targets"]}
    assert set(last["ranking"]) == {"hstu", "encoder", "logistic"}
    assert {ranker["total"]["click"]["all"]["targets"] for ranker in last["ranking"].values()} == {last["rank_targets"]}


def test_the_first_window_has_points_on_its_way(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    """A log shorter than a window is more than one dot: lines at a 16th, an 8th, a quarter and half of the first."""
    training = run(start(tmp_path, window_targets=10_000))
    training.close()
    assert len(lines(tmp_path)) == 1
    window = whole[1][-1]["targets"]
    training = run(start(tmp_path / "short", window_targets=window + 1))
    training.close()
    found = [line["targets"] for line in lines(tmp_path / "short")]
    assert len(found) == 5
    assert found[-1] == window
    assert found[0] < window / 4


def test_a_metrics_file_that_is_refused_keeps_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the name as well, which the run would have taken out."""
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"name": "silu", "step": 7}\n{"name": "other", "step": 1}\n')

    def refuse(log: MetricsLog) -> None:
        raise ModelError(f"The metrics file {log.path} cannot be written.")

    before = file.read_bytes()
    monkeypatch.setattr(MetricsLog, "check_writable", refuse)
    with pytest.raises(ModelError, match="cannot be written"):
        start(tmp_path, metrics_file=str(file))
    assert file.read_bytes() == before


def test_a_run_leaves_a_farewell(tmp_path: Path) -> None:
    """Ended or stopped in good order; one that runs, was killed, or broke within a step has left none."""
    training, folder = start(tmp_path), tmp_path / "train" / "silu"
    run(training, after_step=lambda step: step == 2)
    assert farewell(folder) is None
    training.close()
    assert farewell(folder) == "stopped"
    training = start(tmp_path)
    assert farewell(folder) is None
    run(training)
    training.close()
    assert farewell(folder) == "ended"
    assert farewell_address(folder) is None
    training = start(tmp_path, metrics_port=9102)
    run(training)
    training.close()
    assert farewell_address(folder) == f"{socket.gethostname()}:9102"
    training = start(tmp_path)
    training._failed = True
    training.close()
    assert farewell(folder) is None


@pytest.mark.parametrize("seed", range(5))
def test_arrival_does_not_matter(tmp_path: Path, seed: int, whole: tuple[Any, ...]) -> None:
    """Partitions interleaved at random, in pieces of any size, end with the same digests and the same metrics."""
    training = run(start(tmp_path), chunk=1 + 7 * seed, rng=np.random.default_rng(seed))
    assert training.digests == whole[0]
    assert lines(tmp_path) == whole[1]


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path, seed: int, whole: tuple[Any, ...]) -> None:
    """Killed after any step, with or without a checkpoint at it, in several places, it ends with the same bits."""
    rng, folder = np.random.default_rng(seed), tmp_path / "0"
    for life in range(40):
        training = start(folder)
        stop = training.learner.counts["steps"] + int(rng.integers(1, 4))
        cut_at = stop - int(rng.integers(0, 2))

        def after(step: int, training: Training = training, cut_at: int = cut_at, stop: int = stop) -> bool:
            if step == cut_at:
                training.checkpoint()
            return step == stop

        run(training, chunk=9, rng=rng, after_step=after)
        if training.ended:
            assert training.digests == whole[0]
            assert lines(folder) == whole[1]
            return
        folder = Path(shutil.copytree(folder, tmp_path / str(life + 1)))  # the disk as a kill -9 leaves it
    pytest.fail("the run made no progress")


@pytest.mark.parametrize("unknown_items", ["stand_in", "frozen"])
def test_a_killed_run_whose_items_die_ends_as_if_nothing_had_happened(tmp_path: Path, unknown_items: str) -> None:
    """With admission and expiry the bits are those of the events, too; the lines say how many died and came back."""
    bounds = {"admit_after": 2, "item_ttl_d": 8 / 1440, "unknown_items": unknown_items}
    training = run(start(tmp_path / "whole", **bounds))
    digests, report = training.digests, training.report
    assert report["expired"] > 10
    assert min(report["readmitted"], report["not_admitted"]) > 3
    assert report["born"] == report["items"] + report["expired"]
    assert report["lookups"] - report["hits"] > report["born"]  # a second occurrence is admitted, and missed the first
    rng, folder = np.random.default_rng(1), tmp_path / "0"
    for life in range(40):
        again = start(folder, **bounds)
        stop = again.learner.counts["steps"] + int(rng.integers(1, 4))
        run(again, chunk=9, rng=rng, after_step=lambda step, stop=stop: step == stop)
        if again.ended:
            assert again.digests == digests
            assert lines(folder) == lines(tmp_path / "whole")
            return
        again.checkpoint()
        folder = Path(shutil.copytree(folder, tmp_path / str(life + 1)))
    pytest.fail("the run made no progress")


@pytest.mark.parametrize("seed", range(3))
def test_killed_between_steps_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, seed: int, whole: tuple[Any, ...]
) -> None:
    """Checkpoints come when the wall clock says so, also while a micro-batch is half gathered."""
    rng, folder, ticks, half = np.random.default_rng(seed), tmp_path / "0", count(), 0
    for life in range(60):
        training = start(folder, checkpoint_s=3.0, now=lambda: float(next(ticks)))
        left, calls = remaining(training), int(rng.integers(5, 40))
        while calls and not training.ended:
            calls -= 1
            topic, p, log = left.pop(int(rng.integers(len(left))))
            size = int(rng.integers(1, 6))
            training.inbox.offer(topic, p, log[:size])
            left.append((topic, p, log[size:]))
            while training.step():
                pass
            half += bool(training.inbox.batch)
        if training.ended:
            assert half
            assert training.digests == whole[0]
            assert lines(folder) == whole[1]
            return
        folder = Path(shutil.copytree(folder, tmp_path / str(life + 1)))
    pytest.fail("the run made no progress")


def test_killed_at_every_step(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    """A checkpoint of each single step leads to the end of the undisturbed run."""
    first = start(tmp_path / "run")

    def keep(step: int) -> bool:
        first.checkpoint()
        shutil.copytree(tmp_path / "run", tmp_path / f"after {step}")
        return False

    run(first, chunk=5, rng=np.random.default_rng(0), after_step=keep)
    for step in range(1, whole[2] + 1):
        again = start(tmp_path / f"after {step}")
        assert again.learner.counts["steps"] == step
        assert run(again).digests == whole[0], step
        assert lines(tmp_path / f"after {step}") == whole[1]


def test_a_run_that_has_ended_resumes_as_ended(tmp_path: Path) -> None:
    """Nothing is read, trained on or written once more."""
    training = run(start(tmp_path))
    training.close()
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    again = start(tmp_path)
    assert again.ended
    assert not again.step()
    again.close()
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_the_last_partial_micro_batch_waits_for_the_end_of_time(tmp_path: Path) -> None:
    """A batch that is not full waits until all logs are over, even if nothing can come before it any more."""
    training = start(tmp_path, items=False)
    for p, log in enumerate(LOGS):
        training.inbox.offer("examples", p, log[:-1])
        training.inbox.merge.beat("examples", p, 2 * START_MS)
    while training.step():
        pass
    assert training.learner.counts["examples"] == 72
    assert not training.ended
    for p, log in enumerate(LOGS):
        training.inbox.offer("examples", p, log[-1:])
    assert training.step()
    assert training.ended
    assert training.learner.counts["examples"] == 75


def test_position_offers_and_marks(tmp_path: Path) -> None:
    """The position moves with what is offered; a checkpoint's marks are where the untrained part begins."""
    training = start(tmp_path, items=False)
    training.inbox.offer("examples", 0, LOGS[0])
    training.inbox.offer("examples", 0, LOGS[0][:5])
    assert training.inbox.position("examples", 0) == len(LOGS[0])
    assert not training.step()
    training.checkpoint()
    training.close()
    again = start(tmp_path, items=False)
    assert again.inbox.position("examples", 0) == 0
    assert run(again, items=False).learner.counts["examples"] == 75


def test_the_catalogue_takes_its_place_in_the_order(tmp_path: Path) -> None:
    """One item stays withdrawn and another comes back; without the catalogue the model differs."""
    training = run(start(tmp_path / "with"))
    items = training.learner.items
    withdrawn = {items.texts[row] for row in np.flatnonzero(items.withdrawn)}
    assert withdrawn == {"item 2"}
    assert len(training.learner.catalogue) == 2
    without = run(start(tmp_path / "without", items=False), items=False)
    assert training.digests["examples"] == without.digests["examples"]
    assert training.digests["model"] != without.digests["model"]


def test_an_items_topic_may_come_later(tmp_path: Path) -> None:
    """A run that began without a catalogue continues with one."""
    training = start(tmp_path, items=False)
    run(training, items=False, after_step=lambda step: step == 3)
    training.close()
    assert len(run(start(tmp_path)).learner.catalogue) == 2
    assert start_again_is_refused(tmp_path, attention="softmax")


def start_again_is_refused(folder: Path, **changes: Any) -> bool:
    """Copy a folder, since its run holds the lock, and start there with other settings."""
    copy = Path(shutil.copytree(folder, folder.with_name(f"{folder.name} copy")))
    with pytest.raises(ModelError, match="but now it is"):
        start(copy, **changes)
    return True


def test_a_step_that_failed_is_not_kept(tmp_path: Path) -> None:
    """The error names the step; closing afterwards leaves the checkpoint before it."""
    training = start(tmp_path)
    run(training, after_step=lambda step: step == 2)
    training.checkpoint()
    training.learner.weights.items.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="At step 3 of trainer silu"):
        run(training)
    with pytest.raises(ModelError, match="failed within a step"):
        training.checkpoint()
    training.close()
    again = start(tmp_path)
    assert again.learner.counts["steps"] == 2


def test_snapshots_pass_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With train.promote an alias moves to each new snapshot that is no worse; one that is held is logged."""
    monkeypatch.setattr("model.storage.promotion.LEAST_TARGETS", 10)
    training = run(start(tmp_path, promote="champion"))
    path = training.snapshot()
    assert find(path.parent, "champion") == path.name
    monkeypatch.setattr("model.storage.promotion.LEAST_TARGETS", 10**9)
    training.learner.counts["steps"] += 1
    held = training.snapshot()
    training.close()
    assert find(path.parent, "champion") == path.name != held.name
    assert f"{held.name} is not the champion: its window has fewer than" in caplog.text


@pytest.mark.skipif(not POSSIBLE, reason="forks beside threads are for Linux")
def test_a_run_that_writes_beside_itself_ends_as_if_nothing_had_happened(
    tmp_path: Path, whole: tuple[dict[str, str], list[dict[str, Any]], int]
) -> None:
    """Snapshots and checkpoints in turns, each as of the step at which its writing began; parents form a line."""
    every = {"beside": True, "checkpoint_s": 1.0, "snapshot_s": 1.0}
    training = start(tmp_path / "whole", **every, clock=count(0.0).__next__)
    run(training, after_step=lambda step: bool(training._wait()))
    assert training.digests == whole[0]
    manifests = list_snapshots(tmp_path / "whole" / "snapshots" / "silu")
    assert len(manifests) > 4
    assert [each.parent for each in manifests] == ["", *(each.id for each in manifests[:-1])]
    training.close()


@pytest.mark.slow
@pytest.mark.skipif(not POSSIBLE, reason="forks beside threads are for Linux")
def test_a_kill_in_any_moment_of_writing_beside_changes_no_bit(
    tmp_path: Path, whole: tuple[dict[str, str], list[dict[str, Any]], int]
) -> None:
    """The writer and the run die; what is on the disk then goes on to the digests of a run that nothing disturbs."""
    every = {"beside": True, "checkpoint_s": 1.0, "snapshot_s": 1.0}
    rng, folder = np.random.default_rng(0), tmp_path / "0"
    for life in range(40):
        training = start(folder, **every, clock=count(0.0).__next__)
        at = training.learner.counts["steps"]
        stop = at + int(rng.integers(1, 4))

        def after(step: int, training: Training = training, stop: int = stop) -> bool:
            if rng.random() < 0.5:
                training._wait()
            return step == stop

        run(training, chunk=9, rng=rng, after_step=after)
        if training.ended:
            assert training.digests == whole[0]
            training.close()
            return
        with suppress(ModelError):  # at any moment of the writing
            if training._beside.busy:
                os.kill(training._beside._child, signal.SIGKILL)
            training._wait()
        folder = Path(shutil.copytree(folder, tmp_path / str(life + 1)))  # the disk as a kill -9 leaves it
    pytest.fail("the run made no progress")


@pytest.fixture
def nervous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have drift detectors that raise alarms on a short log."""
    monkeypatch.setattr("model.drift.watch.BLOCK", 10)
    for constant, value in (("WARM_UP", 2), ("SETTLE", 0), ("WARM_UP_AGAIN", 2), ("SLACK", 0.0), ("LIMIT", 0.2)):
        monkeypatch.setattr(f"model.drift.page_hinkley.{constant}", value)


BOOST: dict[str, Any] = {"drift_boost": 4.0, "drift_boost_steps": 2}


@pytest.mark.usefixtures("nervous")
def test_a_rate_boost_is_a_function_of_the_examples(tmp_path: Path, whole: tuple[Any, ...]) -> None:
    """It moves bits, and says so; killed at any step, and with its tests sampled, a run ends with the same ones."""
    first = start(tmp_path / "run", **BOOST)
    left = []

    def keep(step: int) -> bool:
        first.checkpoint()
        left.append(first.report["drift_boost_left"])
        if step in (4, 6, 8):
            shutil.copytree(tmp_path / "run", tmp_path / f"after {step}")
        return False

    run(first, after_step=keep)
    assert {0, 1, 2} == set(left)
    assert first.digests["model"] != whole[0]["model"]
    assert first.digests["examples"] == whole[0]["examples"]
    for step in (4, 6, 8):
        again = start(tmp_path / f"after {step}", **BOOST)
        assert run(again).digests == first.digests
        assert lines(tmp_path / f"after {step}") == lines(tmp_path / "run")
    assert run(start(tmp_path / "sampled", **BOOST, test_share=0.3)).digests == first.digests


@pytest.mark.usefixtures("nervous")
def test_an_alarm_alone_moves_no_bit(tmp_path: Path, whole: tuple[Any, ...], caplog: pytest.LogCaptureFixture) -> None:
    """By default it is a line and a count; an early snapshot and a hold of promotion change no bit either."""
    training = run(start(tmp_path / "default"))
    assert training.digests == whole[0]
    assert sum(training.report["drift_alarms"].values()) > 0
    assert len(list_snapshots(tmp_path / "default" / "snapshots" / "silu")) == 1  # the last
    acting = run(start(tmp_path / "acting", drift_snapshot=True, drift_hold_targets=10**6, promote="champion"))
    assert acting.digests == whole[0]
    folder = tmp_path / "acting" / "snapshots" / "silu"
    steps = {line["step"] for line in lines(tmp_path / "acting") if line["drift"]}
    made = {each.step: each for each in list_snapshots(folder)}
    assert steps <= made.keys()
    assert all("and the model has not recovered: HR@10 unknown since" in made[step].hold for step in steps)
    assert f"{made[min(steps)].id} is not the champion: {made[min(steps)].hold}." in caplog.text
