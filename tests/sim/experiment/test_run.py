"""Runs: what is compared is what a trainer learns, and nothing that measures it changes it."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import Tombstone
from model.learning.learner import Learner
from sim.config import Settings
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.experiment import run
from sim.experiment.feeds import Joined, WholeRecords, micro_batches
from sim.experiment.request_time import at_requests, part
from sim.experiment.run import Run, RunSpec, StoppedError
from sim.replay.in_process import DirectRun
from sim.sources.source import action, impression
from stream.config import StreamSettings
from stream.example import Example

MODEL = {"dim": 8, "layers": 1, "heads": 1, "max_len": 16, "bias": "none"}
TRAIN = {"batch_examples": 4, "negatives": 8}


def spec(contestant: str = "silu", **changes: object) -> RunSpec:
    settings = {"model": MODEL, "train": TRAIN} if contestant in ("silu", "softmax") else {"train": TRAIN}
    return RunSpec(**({"scenario": "x", "seed": 1, "contestant": contestant} | settings | changes))  # type: ignore[arg-type]


def records(count: int = 60) -> WholeRecords:
    return WholeRecords(DirichletStream(DirichletSettings(records=count, length=12, items=60, categories=5)))


class Slates:
    """Users are shown three items and click one of them a while later."""

    name, fingerprint, first_ms, catalogue = "slates", "slates", 1_000, ()

    def __len__(self) -> int:
        return len(list(self.events()))

    def events(self, start: int = 0):
        rng, found = np.random.default_rng(0), []
        for n in range(120):
            user, ts, shown = f"u{n % 9}", 1_000 + n * 10_000, [f"i{i}" for i in rng.choice(20, 3, replace=False)]
            found += [impression(user, f"r{n}", shown, ts), action(user, shown[n % 3], "click", ts + 45_000, f"r{n}")]
        yield from sorted(found, key=lambda event: event.ts_ms)[start:]


def slates() -> Joined:
    return Joined(Slates(), StreamSettings(action_window_s=60, gather_s=5, gather_targets=3, example_tokens=16))


def test_a_run_is_what_a_trainer_learns(tmp_path: Path) -> None:
    """The same events through stores and trainer in one process give the digests and the figures of the run."""
    stream = StreamSettings(partitions=1, action_window_s=60, gather_s=5, gather_targets=3, example_tokens=16)
    settings = Settings(
        data_dir=tmp_path, stream=stream, model=ModelSettings(**MODEL), train=TrainSettings(**TRAIN, seed=1)
    )
    with DirectRun(settings) as direct:
        assert direct.run(Slates())
        digests, metrics = direct.training.digests, direct.training.learner.metrics.as_dict()["retrieval"]
    found = Run(spec(), slates()).run()
    assert (found["examples_digest"], found["model_digest"]) == (digests["examples"], digests["model"])
    whole = metrics["hstu"]["total"]["all"]
    assert [found["targets"], found["hr10"], found["mrr"]] == [whole["targets"], whole["hr@10"], whole["mrr"]]
    for rival in ("popularity", "last_items"):
        whole = metrics[rival]["total"]["all"]
        own = Run(spec(rival), slates()).run()
        assert [own["hr10"], own["hr50"], own["mrr"]] == [whole["hr@10"], whole["hr@50"], whole["mrr"]], rival


@pytest.mark.parametrize("score_at", ["label", "request"])
def test_a_run_goes_on_to_the_same_bits(tmp_path: Path, score_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle, and again after the frozen test, it ends with the digest and all the figures of one go."""
    monkeypatch.setattr(run, "CHECKPOINT_S", 1e9)
    made = spec(score_at=score_at)
    whole = Run(made, records()).run()
    for stop_at in (20, 56):
        done = [0]

        def progress(examples: int, whole: int, done: list[int] = done) -> None:
            done[0] = examples

        with pytest.raises(StoppedError):
            Run(made, records(), tmp_path, progress, lambda done=done, at=stop_at: done[0] >= at).run()  # type: ignore[misc]
        assert done[0] == stop_at
    rest = Run(made, records(), tmp_path).run()
    timing = {"train_s", "test_s", "wall_s", "tokens_per_s"}
    assert {key: rest[key] for key in rest if key not in timing} == {
        key: whole[key] for key in whole if key not in timing
    }


@pytest.mark.parametrize("score_at", ["label", "request"])
def test_measuring_changes_nothing(score_at: str) -> None:
    """Testing a share of the stream, or the last tenth by frozen weights, leaves the model's bits alone."""
    feed = slates()
    whole = Run(spec(score_at=score_at), feed).run()
    for changes in ({"test_share": 0.25}, {"frozen": False}):
        other = Run(spec(score_at=score_at, **changes), feed).run()
        assert other["model_digest"] == whole["model_digest"]
    assert Run(spec(score_at=score_at, test_share=0.25), feed).run()["targets"] < whole["targets"] / 2
    assert other["frozen_hr10"] is None
    assert whole["frozen_targets"] == whole["late_targets"] > 0


def test_frozen_weights_do_not_learn() -> None:
    """The frozen test gives what a learner gives that learnt nine tenths and then only looked on."""
    feed, learner = records(), Learner(ModelSettings(**MODEL), TrainSettings(**TRAIN, seed=1))
    ranks = []
    for number, (_, batch) in enumerate(micro_batches(feed, 4)):
        report = learner.step(batch, learn=number * 4 < 54)
        if number * 4 >= 54:
            assert report.outcome is not None
            ranks.append(report.outcome.ranks["hstu"])
    found = Run(spec(), feed).run()
    assert found["frozen_mrr"] == pytest.approx(np.mean(1 / np.concatenate(ranks)), abs=1e-12)


def test_every_target_is_asked_once_at_its_request() -> None:
    """Nothing learnt before the question was final after its request, and the next micro-batch was not final then."""
    feed, size = slates(), 4
    batches = [batch for _, batch in micro_batches(feed, size)]
    asked = at_requests(feed, size)
    found = []
    for number, groups in asked.items():
        for example in chain.from_iterable(examples for _, examples in groups):
            assert len(example.keys) == example.positions.max() + 1
            for position, request_ms in zip(example.positions, example.request_ms, strict=True):
                found.append((example.user, int(example.first + position)))
                assert not number or batches[number - 1][-1].final_ms <= request_ms
                assert batches[number][-1].final_ms > request_ms or example in batches[number]
    targets = [
        (example.user, int(example.first + position))
        for batch in batches
        for example in batch
        for position in example.positions
    ]
    assert sorted(found) == sorted(targets)
    assert any(number for number in asked)


def test_what_was_withdrawn_after_the_request_is_a_candidate_still() -> None:
    """Of the item records before a micro-batch, a question is asked behind those up to its request alone."""
    feed, size = slates(), 4
    stones = [Tombstone(ts_ms, f"gone {ts_ms}", ts_ms) for ts_ms in range(5_000, 1_200_000, 15_000)]
    feed.all = sorted([*feed.all, *stones], key=lambda entry: getattr(entry, "final_ms", 0) or entry.ts_ms)
    feed._at = [at for at, entry in enumerate(feed.all) if isinstance(entry, Example)]
    batches, split = list(micro_batches(feed, size)), 0
    for number, groups in at_requests(feed, size).items():
        records = batches[number][0]
        assert [known for known, _ in groups] == sorted({known for known, _ in groups})
        for known, examples in groups:
            split += 0 < known < len(records)
            for example in examples:
                assert all(stone.ts_ms <= example.request_ms.min() for stone in records[:known])
                assert all(stone.ts_ms > example.request_ms.max() for stone in records[known:])
    assert split


def test_labels_that_come_late_are_asked_earlier() -> None:
    """With labels 45 s after the slate, the model that is asked at the request has learnt less."""
    label, request = (Run(spec(score_at=at), slates()).run() for at in ("label", "request"))
    assert label["targets"] == request["targets"]
    assert label["mrr"] != request["mrr"]


def test_part_keeps_labels_with_their_targets() -> None:
    """Of targets with none, one and two labels, any choice has the labels of those chosen."""
    labels = np.arange(3, dtype=np.uint64)
    whole = Example(
        *(0, 1, 5, 7, 0),
        keys=np.arange(4, dtype=np.uint64),
        actions=np.zeros(4, np.uint64),
        ts_ms=np.arange(4),
        kinds=np.ones(4, np.uint8),
        positions=np.array([1, 2, 3], np.int32),
        queries=np.array([0, 0, 0], np.int32),
        requests=np.array([1, 1, 1], np.uint32),
        request_ms=np.array([1, 2, 3]),
        label_offsets=np.array([0, 0, 1, 3], np.uint32),
        labels=labels,
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )
    assert part(whole, np.array([0])).labels.tolist() == []
    assert part(whole, np.array([1])).labels.tolist() == [0]
    both = part(whole, np.array([0, 2]))
    assert (both.labels.tolist(), both.label_offsets.tolist()) == ([1, 2], [0, 0, 2])
    assert len(part(whole, np.array([1])).keys) == 3
