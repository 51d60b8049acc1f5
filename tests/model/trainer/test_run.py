import json
import shutil
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.serving.scorer import Scorer
from model.storage.aliases import LATEST, resolve
from model.storage.snapshot import list_snapshots, load_snapshot
from model.trainer.run import Training
from stream.example import FormatError
from tests.factories import START_MS, Record, make_examples, make_items

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, window_targets=20, checkpoint_s=1e9, snapshot_s=1e9)
LOGS = make_examples(seed=3, users=9, items=30, count=75, partitions=3)
HOUR_MS = 3_600_000
ITEMS = make_items(
    [
        (START_MS, "item 3", {"title": "Three"}),
        (START_MS + HOUR_MS // 4, "item 1", None),
        (START_MS + HOUR_MS // 2, "item 2", None),
        (START_MS + HOUR_MS, "item 1", {"title": "One, again"}),
    ],
    partitions=2,
)


def start(folder: Path, items: bool = True, **changes: Any) -> Training:
    """Start, or resume, a run in a folder."""
    model = MODEL.model_copy(update={k: v for k, v in changes.items() if k in ModelSettings.model_fields})
    train = TRAIN.model_copy(update={k: v for k, v in changes.items() if k in TrainSettings.model_fields})
    now = changes.get("now", lambda: 0.0)
    return Training(folder, train, model, partitions=3, items_partitions=2 if items else 0, now=now)


def lanes(training: Training, items: bool = True) -> list[tuple[str, int, list[Record]]]:
    """Give what each partition still has for a run."""
    logs = [("examples", p, log) for p, log in enumerate(LOGS)]
    logs += [("items", p, log) for p, log in enumerate(ITEMS)] if items else []
    return [(topic, p, log[training.position(topic, p) :]) for topic, p, log in logs]


def run(
    training: Training,
    *,
    chunk: int = 1000,
    rng: np.random.Generator | None = None,
    items: bool = True,
    after_step: Callable[[int], bool] = lambda step: False,
) -> Training:
    """Feed a run until it has ended, or until after_step says so; chunks in turn, or of random lanes and sizes."""
    left = lanes(training, items)
    while True:
        while training.step():
            if after_step(training.learner.counts["steps"]):
                return training
        if training.ended:
            return training
        left = [(topic, p, log) for topic, p, log in left if log]
        turn = int(rng.integers(len(left))) if rng else 0
        size = int(rng.integers(1, chunk + 1)) if rng else chunk
        topic, p, log = left.pop(turn)
        training.offer(topic, p, log[:size])
        left.append((topic, p, log[size:]))


def lines(folder: Path) -> list[dict[str, Any]]:
    """Give the lines of metrics, without what the wall clock decides."""
    text = (folder / "train" / "silu" / "metrics.jsonl").read_text()
    by_chance = ("wall_s", "tokens_per_s")
    return [{k: v for k, v in json.loads(line).items() if k not in by_chance} for line in text.splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[dict[str, Any]], int]:
    """Give digests, lines and steps of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    training = run(start(folder))
    digests, steps = training.digests, training.learner.counts["steps"]
    training.close()
    return digests, lines(folder), steps


def test_everything_is_learnt_once(whole: tuple[Any, list[dict[str, Any]], int]) -> None:
    """75 examples make nine micro-batches of eight and a last one of three; every figure is there at the end."""
    _, metrics, steps = whole
    assert steps == 10
    last = metrics[-1]
    assert (last["step"], last["examples"]) == (10, 75)
    assert set(last["retrieval"]) == {"hstu", "popularity", "last_items"}
    assert {scorer["total"]["all"]["targets"] for scorer in last["retrieval"].values()} == {last["targets"]}
    assert last["ranking"]["total"]["click"]["all"]["targets"] == last["rank_targets"]


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


@pytest.mark.parametrize("seed", range(3))
def test_killed_between_steps_it_ends_as_if_nothing_had_happened(
    tmp_path: Path, seed: int, whole: tuple[Any, ...]
) -> None:
    """Checkpoints fall where the wall clock wants them, also while a micro-batch is half gathered."""
    rng, folder, ticks, half = np.random.default_rng(seed), tmp_path / "0", count(), 0
    for life in range(60):
        training = start(folder, checkpoint_s=3.0, now=lambda: float(next(ticks)))
        left, calls = lanes(training), int(rng.integers(5, 40))
        while calls and not training.ended:
            calls -= 1
            topic, p, log = left.pop(int(rng.integers(len(left))))
            size = int(rng.integers(1, 6))
            training.offer(topic, p, log[:size])
            left.append((topic, p, log[size:]))
            while training.step():
                pass
            half += bool(training.intake.batch)
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
    """Nothing is wanted, learnt or written once more."""
    training = run(start(tmp_path))
    training.close()
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    again = start(tmp_path)
    assert again.ended
    assert not again.step()
    again.close()
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_the_last_partial_micro_batch_waits_for_the_end_of_time(tmp_path: Path) -> None:
    """Idle partitions let everything out, yet a batch is only cut short when all logs are over."""
    training = start(tmp_path, items=False)
    for p, log in enumerate(LOGS):
        training.offer("examples", p, log[:-1])
    for p in range(3):
        training.let_go("examples", p)
    while training.step():
        pass
    assert training.learner.counts["examples"] == 72
    assert not training.ended
    for p, log in enumerate(LOGS):
        training.offer("examples", p, log[-1:])
    assert training.step()
    assert training.ended
    assert training.learner.counts["examples"] == 75


def test_position_offers_and_marks(tmp_path: Path) -> None:
    """The position moves with what is offered; a checkpoint's marks are what is not yet learnt."""
    training = start(tmp_path, items=False)
    training.offer("examples", 0, LOGS[0])
    training.offer("examples", 0, LOGS[0][:5])
    assert training.position("examples", 0) == len(LOGS[0])
    assert not training.step()
    training.checkpoint()
    training.close()
    again = start(tmp_path, items=False)
    assert again.position("examples", 0) == 0
    assert run(again, items=False).learner.counts["examples"] == 75


def test_the_catalogue_takes_its_place_in_the_order(tmp_path: Path) -> None:
    """Withdrawn items are withdrawn at the end, and one that came back is not; without items the model differs."""
    training = run(start(tmp_path / "with"))
    items = training.learner.items
    withdrawn = {items.texts[row] for row in np.flatnonzero(items.withdrawn)}
    assert withdrawn == {"item 2"}
    assert len(training.learner.catalogue) == 2
    without = run(start(tmp_path / "without", items=False), items=False)
    assert training.digests["examples"] == without.digests["examples"]
    assert training.digests["model"] != without.digests["model"]


def test_an_items_topic_may_come_later(tmp_path: Path) -> None:
    """A run that began without a catalogue goes on with one."""
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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dim": 32}, r"model\.dim = 16, but now it is 32"),
        ({"batch_examples": 4}, r"train\.batch_examples = 8, but now it is 4"),
        ({"seed": 5}, r"train\.seed = 0, but now it is 5"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    """Whatever decides the bits stays as the checkpoint has it; the sentence names key and values."""
    training = start(tmp_path)
    training.checkpoint()
    training.close()
    with pytest.raises(ModelError, match=sentence):
        start(tmp_path, **change)
    start(tmp_path, checkpoint_s=5.0, keep_snapshots=3).close()


def test_two_processes_do_not_train_under_one_name(tmp_path: Path) -> None:
    """The second is refused, and may come once the first has closed."""
    training = start(tmp_path)
    with pytest.raises(ModelError, match="Another process trains as silu"):
        start(tmp_path)
    training.close()
    start(tmp_path).close()


def test_checkpoints_and_snapshots_follow_the_wall_clock(tmp_path: Path) -> None:
    """One each when its time has passed and something was learnt since; both at the end; parents form a line."""
    wall = [1_700_000_000.0]

    def tick(step: int) -> bool:
        wall[0] += 4.0
        return False

    training = start(tmp_path, checkpoint_s=10.0, snapshot_s=20.0, now=lambda: wall[0])
    run(training, after_step=tick)
    manifests = list_snapshots(tmp_path / "snapshots" / "silu")
    assert [manifest.step for manifest in manifests] == [6, 10]
    assert [manifest.parent for manifest in manifests] == ["", manifests[0].id]
    assert len(list((tmp_path / "train" / "silu").glob("cut-*"))) == 2
    assert training.tokens_per_s > 0


def test_tokens_per_second_fall_while_nothing_is_learnt(tmp_path: Path) -> None:
    """In silence the figure falls, to 0 after ten seconds; of hours of it no more than these count afterwards."""
    wall = [1000.0]

    def tick(step: int) -> bool:
        wall[0] += 2.0
        return step == 4

    training = run(start(tmp_path, now=lambda: wall[0]), after_step=tick)
    busy = training.report["tokens_per_s"]
    wall[0] += 4.0
    assert 0 < training.report["tokens_per_s"] < busy / 1.5
    wall[0] += 6.0
    assert training.report["tokens_per_s"] == 0
    wall[0] += 7200.0
    before = training.learner.counts["tokens"]
    training.step()
    wall[0] += 2.0
    assert training.report["tokens_per_s"] == pytest.approx((training.learner.counts["tokens"] - before) / 12)


def test_the_snapshot_holds_the_model_that_trained(tmp_path: Path) -> None:
    """`latest` names the last one; its scorer loads; digests, offsets and metrics are those of the run."""
    training = run(start(tmp_path))
    snapshot = load_snapshot(resolve(tmp_path / "snapshots" / "silu", LATEST))
    manifest, learner = snapshot.manifest, training.learner
    assert manifest.digests == training.digests
    assert manifest.offsets["examples"] == [len(log) for log in LOGS]
    assert manifest.metrics == json.loads(json.dumps(learner.metrics.as_dict()))
    assert (manifest.examples, manifest.rank_targets) == (75, learner.metrics.rank_targets)
    scorer = Scorer(snapshot)
    assert scorer.items.keys.tolist() == learner.items.keys.tolist()
    assert len(snapshot.arrays["popularity.counts"]) == len(learner.items)


def test_the_snapshot_says_how_far_it_has_learnt(tmp_path: Path) -> None:
    """In the middle of a log the watermark is the time of the first example that is not learnt."""
    training = start(tmp_path, items=False)
    run(training, items=False, after_step=lambda step: step == 4)
    manifest = load_snapshot(training.snapshot()).manifest
    gathered = training.intake.batch
    finals = sorted(
        placed.place_ms
        for placed in [*gathered, *(w for lane in training.intake.merge.lanes["examples"] for w in lane.waiting)]
    )
    assert manifest.watermark_ms == finals[0] > START_MS


def test_a_missing_example_stops_the_run(tmp_path: Path) -> None:
    """Lost data is not learnt around; the position stays before the gap."""
    training = start(tmp_path)
    examples = [record for record in LOGS[0] if len(record.value or b"") > 48]
    training.offer("examples", 0, examples[:2])
    with pytest.raises(ModelError, match="1 examples are missing"):
        training.offer("examples", 0, examples[3:])
    assert training.position("examples", 0) == examples[1].offset + 1


def test_foreign_records_are_passed_over_and_damaged_ones_are_not(tmp_path: Path) -> None:
    """Others may have written to the topic; a broken example of ours would be a hole in the order."""
    training = start(tmp_path)
    training.offer("examples", 0, [Record(0, None, b"hello", 0), Record(1, None, None, 0)])
    training.offer("items", 0, [Record(0, b"x", b"{", 0)])
    assert training.report["refused"] == 3
    with pytest.raises(FormatError, match=r"Offset 2 of examples, partition 0: .*truncated"):
        training.offer("examples", 0, [Record(2, None, (LOGS[0][0].value or b"")[:-8], 0)])
    with pytest.raises(ModelError, match="partition 1, holds a message of partition 0"):
        training.offer("examples", 1, [LOGS[0][0]])
    with pytest.raises(ModelError, match="Partition 7 of examples"):
        training.offer("examples", 7, LOGS[0])


def test_a_step_that_failed_is_not_kept(tmp_path: Path) -> None:
    """Divergence names the step; closing afterwards leaves the checkpoint before it."""
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


def test_lines_come_one_per_window(tmp_path: Path) -> None:
    """Each line stands where the number of targets passes a multiple of the window, and one at the end."""
    training = run(start(tmp_path))
    counts = [max(line["targets"], line["rank_targets"]) for line in lines(tmp_path)]
    assert all(a // 20 < b // 20 for a, b in pairwise(counts[:-1]))
    assert lines(tmp_path)[-1]["step"] == training.learner.counts["steps"]
