"""A run that begins with the weights of another: after another log, a divergence, or from a copy."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from model.errors import DivergedError, ModelError
from model.storage.aliases import find, move
from model.storage.snapshot import list_snapshots
from model.trainer.run import Origin
from tests.factories import make_examples
from tests.runs import LOGS, run, start


def test_a_run_that_diverged_goes_on_from_its_last_good_checkpoint(tmp_path: Path) -> None:
    """The sentence names it and the command; what it names works, with another learning rate, and loses no example."""
    training = run(start(tmp_path, promote="champion"), after_step=lambda step: step == 4)
    good, digest = training.snapshot().name, training.learner.digest()
    training.checkpoint()
    move(tmp_path / "snapshots" / "silu", "champion", good)
    training.learner.weights.items.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"checkpoint is of step 4\. .*--name silu-2 --weights-from silu`"):
        run(training)
    training.close()
    assert [each.id for each in list_snapshots(tmp_path / "snapshots" / "silu")] == [good]
    assert find(tmp_path / "snapshots" / "silu", "champion") == good
    new = start(tmp_path, name="silu-2", origin=Origin("silu"), learning_rate=1e-4, embedding_rate_ratio=5.0)
    assert new.learner.digest() == digest
    run(new, after_step=lambda step: step == 6)
    new.close()
    new = run(start(tmp_path, name="silu-2", learning_rate=1e-4, embedding_rate_ratio=5.0))
    assert (new.report["examples"], new.ended) == (75, True)
    new.close()


def test_a_run_that_diverged_before_any_checkpoint_begins_again(tmp_path: Path) -> None:
    """The sentence says so."""
    training = run(start(tmp_path), after_step=lambda step: step == 1)
    training.learner.weights.items.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"There is no checkpoint yet: begin again under another --name"):
        run(training)
    training.close()


def test_a_copy_of_a_checkpoint_is_a_trainer_to_go_on_from(tmp_path: Path) -> None:
    """What has been learned since is passed over, or learned again, by the point that is given."""
    training = run(start(tmp_path), after_step=lambda step: step == 3)
    training.checkpoint()
    since_ms = training.report["event_ms"] + 1
    shutil.copytree(tmp_path / "train" / "silu", tmp_path / "train" / "silu-good")
    run(training, after_step=lambda step: step == 6)
    learned_ms = training.report["event_ms"] + 1
    training.close()
    new = run(start(tmp_path, name="again", origin=Origin("silu-good", since_ms)))
    assert new.report["examples"] == 75
    new.close()
    new = run(start(tmp_path, name="without", origin=Origin("silu-good", learned_ms)))
    assert (new.report["examples"], new.report["passed_over"]) == (75 - 24, 48)
    new.close()


def test_a_new_run_goes_on_with_the_weights_of_another(tmp_path: Path) -> None:
    """What that one was trained on is passed over, all else is trained on once; it is said, and survives a restart."""
    old = run(start(tmp_path), after_step=lambda step: step == 4)
    old.checkpoint()
    old.close()
    before = old.learner.counts["examples"]
    new = start(tmp_path, name="new", origin=Origin("silu"))
    assert new.learner.digest() == old.learner.digest()
    run(new, after_step=lambda step: step == 6)
    new.checkpoint()
    new.close()
    new = run(start(tmp_path, name="new"))
    report = new.report
    assert report["weights_from"] == {"name": "silu", "step": 4, "since_ms": old.report["event_ms"] + 1}
    assert (before, report["examples"], new.ended) == (32, 75, True)
    new.close()
    with pytest.raises(ModelError, match=r"Trainer new has begun already.*with a new --name"):
        start(tmp_path, name="new", origin=Origin("other"))
    with pytest.raises(ModelError, match=r"There is no checkpoint of a trainer nobody"):
        start(tmp_path, name="newer", origin=Origin("nobody"))
    with pytest.raises(ModelError, match=r"made with train.seed = 0, but now it is 1"):
        start(tmp_path, name="newer", origin=Origin("silu"), seed=1)


def test_a_new_run_goes_on_where_the_examples_of_the_old_one_are_gone(tmp_path: Path) -> None:
    """The old run stops at examples of another log; the sentence names a point from which the new one goes on."""
    old = run(start(tmp_path, items=False), items=False)
    old.checkpoint()
    old.close()
    log = make_examples(seed=4, users=9, items=30, count=120, partitions=3)
    old = start(tmp_path, items=False)
    refused: list[str] = []
    for p in range(3):
        with pytest.raises(ModelError, match=r"belongs to another log") as error:
            old.inbox.offer("examples", p, [replace(r, offset=r.offset + 1000) for r in log[p]])
        refused.append(str(error.value))
    old.close()
    since_ms = max(int(re.search(r"--since (\d+)", each)[1]) for each in refused)  # type: ignore[index]
    new = start(tmp_path, items=False, name="new", origin=Origin("silu", since_ms))
    for p in range(3):
        after = [replace(record, offset=record.offset + 1000) for record in log[p]]
        new.inbox.offer("examples", p, [*LOGS[p][:-1], *after])
    while new.step():
        pass
    assert new.ended
    assert new.report["examples"] > 75
    assert new.report["passed_over"] > 75
    new.close()
