"""Runs: a run learns what a trainer learns, and measuring changes nothing."""

from pathlib import Path

import numpy as np
import pytest

from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from sim.config import Settings
from sim.experiment import run
from sim.experiment.feeds import micro_batches
from sim.experiment.run import Run, StoppedError
from sim.replay.in_process import DirectRun
from stream.config import StreamSettings
from tests.sim.experiment.small_runs import MODEL, TRAIN, Slates, records, slates, spec


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
    for baseline in ("popularity", "last_items"):
        whole = metrics[baseline]["total"]["all"]
        own = Run(spec(baseline), slates()).run()
        assert [own["hr10"], own["hr50"], own["mrr"]] == [whole["hr@10"], whole["hr@50"], whole["mrr"]], baseline


@pytest.mark.parametrize("score_at", ["label", "request"])
def test_a_run_goes_on_to_the_same_bits(tmp_path: Path, score_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the middle, and again after the frozen test, it ends with the result of an uninterrupted run."""
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
    """Neither test_share nor the frozen test changes the model's bits."""
    feed = slates()
    whole = Run(spec(score_at=score_at), feed).run()
    for changes in ({"test_share": 0.25}, {"frozen": False}):
        other = Run(spec(score_at=score_at, **changes), feed).run()
        assert other["model_digest"] == whole["model_digest"]
    assert Run(spec(score_at=score_at, test_share=0.25), feed).run()["targets"] < whole["targets"] / 2
    assert other["frozen_hr10"] is None
    assert whole["frozen_targets"] == whole["late_targets"] > 0


def test_frozen_weights_do_not_learn() -> None:
    """The frozen test equals that of a learner which stops learning after nine tenths."""
    feed, learner = records(), Learner(ModelSettings(**MODEL), TrainSettings(**TRAIN, seed=1))
    ranks = []
    for number, (_, batch) in enumerate(micro_batches(feed, 4)):
        report = learner.step(batch, learn=number * 4 < 54)
        if number * 4 >= 54:
            assert report.outcome is not None
            ranks.append(report.outcome.ranks["hstu"])
    found = Run(spec(), feed).run()
    assert found["frozen_mrr"] == pytest.approx(np.mean(1 / np.concatenate(ranks)), abs=1e-12)


def test_labels_that_come_late_are_asked_earlier() -> None:
    """With labels 45 s after the slate, a model that is asked at the request has learned less."""
    label, request = (Run(spec(score_at=at), slates()).run() for at in ("label", "request"))
    assert label["targets"] == request["targets"]
    assert label["mrr"] != request["mrr"]
