"""A run that begins with the weights of another: after another log, a divergence, or from a copy."""

import errno
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.arrays.byte_strings import unpack
from model.errors import DivergedError, ModelError
from model.storage.aliases import find, move
from model.storage.checkpoint import farewell, free_name
from model.storage.snapshot import list_snapshots
from model.trainer.checkpointer import Checkpointer
from model.trainer.run import Origin, Training
from stream.example import Example, decode, encode_example, farewell as forgotten
from tests.factories import START_MS, Record, make_examples
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
    assert farewell(tmp_path / "train" / "silu") == "diverged"
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
    event_ms = old.report["event_ms"]
    assert report["weights_from"] == {"name": "silu", "step": 4, "event_ms": event_ms, "since_ms": event_ms + 1}
    assert (before, report["examples"], new.ended) == (32, 75, True)
    new.close()
    with pytest.raises(ModelError, match=r"Trainer new has begun already.*with a new --name"):
        start(tmp_path, name="new", origin=Origin("other"))
    with pytest.raises(
        ModelError, match=rf"Trainer new has begun already, with --since {report['weights_from']['since_ms']};"
    ):
        start(tmp_path, name="new", origin=Origin("silu", 1))
    with pytest.raises(ModelError, match=r"There is no checkpoint of a trainer nobody"):
        start(tmp_path, name="newer", origin=Origin("nobody"))
    with pytest.raises(ModelError, match=r"made with train.seed = 0, but now it is 1"):
        start(tmp_path, name="newer", origin=Origin("silu"), seed=1)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_user_who_was_forgotten_in_what_is_passed_over_is_forgotten(stopped: bool, tmp_path: Path) -> None:
    """The weights begin with the user's past, which the old trainer would have dropped; not if it has already."""
    old = run(start(tmp_path), after_step=lambda step: step == 4)
    old.checkpoint()
    old.close()
    event_ms, own = old.report["event_ms"], [decode(record.value) for record in LOGS[1]]
    *before, last = [example for example in own if isinstance(example, Example)]
    first, since_ms = next(example for example in before if example.user != last.user), last.final_ms

    def forgetting(final_ms: int) -> Training:
        """Run, to the first step, with a log in which the first example's user is forgotten at a time."""
        told = encode_example(forgotten(1, 1, final_ms, first.user))
        at = next(n for n, each in enumerate(own) if isinstance(each, Example) and each.final_ms > final_ms)
        values = [record.value for record in LOGS[1]]
        log = [Record(offset, None, value, 0) for offset, value in enumerate((*values[:at], told, *values[at:]))]
        new = start(tmp_path, name=f"new-{final_ms}", origin=Origin("silu", since_ms), items=False)
        assert first.user in replayed(new)
        while not new.step():
            for partition, records in enumerate((LOGS[0], log, LOGS[2])):
                new.inbox.offer("examples", partition, records)
            if stopped:
                new.checkpoint()
                new.close()
                new = start(tmp_path, name=f"new-{final_ms}", items=False)
                for partition, records in enumerate((LOGS[0], log, LOGS[2])):
                    new.inbox.offer("examples", partition, records[new.inbox.position("examples", partition) :])
        return new

    told, untold = forgetting(event_ms), forgetting(event_ms - 1)
    assert first.user not in replayed(told)
    assert first.user in replayed(untold)
    assert stopped or untold.report["passed_over"] == told.report["passed_over"] + 1
    told.close()
    untold.close()


def replayed(training: Training) -> set[int]:
    """Return whose examples a run has kept to learn from again."""
    state = training.learner.state()
    messages = unpack(state["past.messages"], state["past.offsets"])
    return {decode(message).user for message in messages}  # type: ignore[union-attr]


def test_a_new_run_may_have_more_partitions(tmp_path: Path) -> None:
    """After `hstu topics rescale`: the weights go on, and all partitions are waited for, also after a restart."""
    old = run(start(tmp_path), after_step=lambda step: step == 4)
    old.checkpoint()
    old.close()
    with pytest.raises(ModelError, match=r"stream\.partitions = 3, but now it is 5.*--weights-from silu lets begin"):
        start(tmp_path, partitions=5)
    start(tmp_path, name="new", partitions=5, origin=Origin("silu")).close()
    new = start(tmp_path, name="new", partitions=5)
    assert new.learner.digest() == old.learner.digest()
    assert [queue.partition for queue in new.inbox.merge.queues["examples"]] == [0, 1, 2, 3, 4]
    assert [new.inbox.position("examples", number) for number in range(5)] == [0] * 5
    new.close()


@pytest.mark.parametrize(("stopped", "since_ms"), [(True, None), (False, START_MS)])
def test_a_new_run_that_ends_before_it_trains_keeps_the_weights(
    stopped: bool, since_ms: int | None, tmp_path: Path
) -> None:
    """Stopped or killed, it goes on without the flags where it would have, or with them, to the same bits."""
    old = run(start(tmp_path), after_step=lambda step: step == 4)
    old.checkpoint()
    old.close()
    whole = run(start(tmp_path, name="whole", origin=Origin("silu", since_ms)))
    whole.close()
    new = start(tmp_path, name="new", origin=Origin("silu", since_ms))
    new.inbox.offer("examples", 0, LOGS[0])
    if stopped:
        new.close()
    else:
        new._checkpoints.close()  # as the operating system does
    start(tmp_path, name="new", origin=Origin("silu", since_ms)).close()
    new = start(tmp_path, name="new")
    assert (new.learner.digest(), new.report["step"]) == (old.learner.digest(), 4)
    run(new)
    assert (new.digests, new.report["weights_from"]) == (whole.digests, whole.report["weights_from"])
    assert new.report["passed_over"] == whole.report["passed_over"]
    new.close()


@pytest.mark.parametrize("origin", [Origin("silu"), Origin("", START_MS + 1)])
def test_a_new_run_that_is_killed_before_its_first_checkpoint_begins_with_the_same(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started without flags it does not train from nothing; nor where it is refused in between."""
    old = run(start(tmp_path), after_step=lambda step: step == 2)
    old.close()
    whole = run(start(tmp_path, name="whole", origin=origin))
    whole.close()

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    for killed_in in ("of_another", "write") if origin.name else ("write",):
        with monkeypatch.context() as patch:
            patch.setattr(Checkpointer, killed_in, kill)
            patch.setattr(Checkpointer, "abandon", Checkpointer.close)  # as the operating system does
            with pytest.raises(KeyboardInterrupt):
                start(tmp_path, name="new", origin=origin)
    if origin.name:
        with pytest.raises(ModelError, match=r"made with train\.seed = 0, but now it is 1"):
            start(tmp_path, name="new", seed=1)
        with pytest.raises(ModelError, match=r"There is no checkpoint of a trainer typo"):
            start(tmp_path, name="new", origin=Origin("typo"))
    new = run(start(tmp_path, name="new"))
    assert (new.digests, new.report["weights_from"]) == (whole.digests, whole.report["weights_from"])
    assert new.report["passed_over"] == whole.report["passed_over"]
    new.close()
    assert not (tmp_path / "train" / "new" / "beginning").exists()


def test_a_beginning_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A run does not begin with nothing by it; the flags replace it."""
    folder = tmp_path / "train" / "new"
    folder.mkdir(parents=True)
    (folder / "beginning").write_text('{"name": "silu", "since')
    with pytest.raises(ModelError, match=r"beginning, which says how a run begins, cannot be read.*--since again"):
        start(tmp_path, name="new")
    start(tmp_path, name="new", origin=Origin("", 5)).close()
    with pytest.raises(ModelError, match=r"Trainer new has begun already, with --since 5;"):
        start(tmp_path, name="new", origin=Origin("", 6))


def test_a_new_run_whose_first_checkpoint_cannot_be_written_has_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence; nothing is left of it, so the same command works once there is room."""
    old = run(start(tmp_path), after_step=lambda step: step == 1)
    old.close()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("model.storage.checkpoint.write_arrays", full)
        with pytest.raises(ModelError, match=r"No checkpoint could be written.*No space left on device"):
            start(tmp_path, name="new", origin=Origin("silu"))
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["silu"]
    start(tmp_path, name="new", origin=Origin("silu")).close()


TTL = {"item_ttl_d": 0.02}
BOUNDS = [
    ({}, TTL | {"admit_after": 2}, "expired"),
    ({}, {"evict": "frequent"}, "evicted"),
    ({"max_items": 12, "unknown_items": "dropped"}, TTL | {"unknown_items": "frozen"}, "expired"),
    (TTL | {"admit_after": 2, "unknown_items": "frozen"}, {}, ""),
]


@pytest.mark.parametrize(("before", "now", "counted"), BOUNDS)
def test_a_new_run_may_have_other_bounds_than_the_weights_it_begins_with(
    before: dict[str, Any], now: dict[str, Any], counted: str, tmp_path: Path
) -> None:
    """They hold from its first micro-batch on, turned on or off, and after a restart; resuming with them is refused."""
    old = run(start(tmp_path, **before), after_step=lambda step: step == 5)
    old.checkpoint()
    old.close()
    if counted == "evicted":
        now = now | {"max_items": old.learner.items.known}
    with pytest.raises(
        ModelError, match=r"train\.\w+ = .* but now it is .*, which --weights-from silu lets begin with"
    ):
        start(tmp_path, **now)
    new = start(tmp_path, name="new", origin=Origin("silu"), **now)
    assert new.learner.items.known == old.learner.items.known
    new.close()
    new = start(tmp_path, name="new", **now)
    gone, born = old.report["expired"] + old.report["evicted"], new.report["born"]
    run(new, after_step=lambda step: step == 6)
    new.checkpoint()
    shutil.copytree(tmp_path / "train" / "new", tmp_path / "train" / "again")
    run(new)
    new.close()
    assert not counted or new.report[counted] > old.report[counted]
    assert counted or new.report["expired"] + new.report["evicted"] == gone
    assert new.report["born"] - born == new.learner.items.known + new.report["expired"] + new.report["evicted"] - (
        old.learner.items.known + gone
    )
    again = run(start(tmp_path, name="again", **now))
    assert again.digests == new.digests
    again.close()


def test_a_cap_below_the_items_of_the_weights_is_refused(tmp_path: Path) -> None:
    """In one sentence, and nothing is left of the new run."""
    old = run(start(tmp_path), after_step=lambda step: step == 4)
    old.checkpoint()
    old.close()
    used = old.learner.items.known
    with pytest.raises(ModelError, match=rf"max_items = {used - 1} is less than the {used} items in use"):
        start(tmp_path, name="new", origin=Origin("silu"), max_items=used - 1)
    assert [path.name for path in (tmp_path / "train").iterdir()] == ["silu"]
    start(tmp_path, name="new", origin=Origin("silu"), max_items=used).close()


def test_a_refusal_names_the_topic_and_a_name_that_is_free(tmp_path: Path) -> None:
    """As it is called in Kafka, with its prefix, and the next number that no trainer of the data directory has."""
    for name in ("silu-2", "silu-3"):
        start(tmp_path, name=name).close()
    old = run(start(tmp_path, items=False, topic_prefix="a-"), items=False)
    other = make_examples(seed=4, users=9, items=30, count=120, partitions=3)[0]
    with pytest.raises(ModelError, match=r"of a-examples, partition 0, belongs to.*train --name silu-4 --weights-from"):
        old.inbox.offer("examples", 0, [replace(record, offset=record.offset + 1000) for record in other])
    old.close()
    assert [free_name(tmp_path / "train" / name) for name in ("silu-2", "new", "lr-01")] == [
        "silu-4",
        "new-2",
        "lr-01-2",
    ]


def test_a_new_run_goes_on_where_the_examples_of_the_old_one_are_gone(tmp_path: Path) -> None:
    """The old run stops at examples of another log; the sentence names a point from which a new one goes on.

    It is the same in each partition. One that begins there needs no weights of the old one.
    """
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
    found = [re.search(r"hstu train --name silu-2 --weights-from silu --since (\d+)", each) for each in refused]
    [since_ms] = {int(each[1]) for each in found if each}
    for name in ("silu", ""):
        start(tmp_path, items=False, name=f"{name}-2", origin=Origin(name, since_ms)).close()
        new = start(tmp_path, items=False, name=f"{name}-2")
        for p in range(3):
            after = [replace(record, offset=record.offset + 1000) for record in log[p]]
            new.inbox.offer("examples", p, [*LOGS[p][:-1], *after])
        while new.step():
            pass
        assert new.ended
        assert new.report["examples"] > (75 if name else 0)
        assert new.report["passed_over"] > 75
        new.close()
