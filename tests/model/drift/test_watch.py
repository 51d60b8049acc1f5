"""The watch on whole examples: which change raises which signal, and a state that goes through JSON."""

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from model.drift.watch import BINS, BLOCK, SIGNALS, Alarm, DriftWatch
from model.evaluation.prequential import MODEL, Outcome
from stream.example import Example


def outcome(ranks: Sequence[float]) -> Outcome:
    none = np.zeros(0, np.int64)
    return Outcome({MODEL: np.array(ranks, np.float64)}, none, none, {}, np.zeros((0, 0), np.bool_), none)


def stream(seed: int, *, risen: str = "", steps: int = 600) -> Iterator[tuple[list[Example], Outcome, float]]:
    """Yield micro-batches of twenty targets; what `risen` names changes after half of them."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        late = risen if step >= steps // 2 else ""
        examples = [made(rng, late) for _ in range(4)]
        hits = rng.random(20) < (0.1 if late == "misses" else 0.3)
        loss = rng.normal(5.8 if late == "loss" else 5.0, 0.4)
        yield examples, outcome(np.where(hits, 1.0, np.inf).tolist()), float(loss)


def made(rng: np.random.Generator, late: str) -> Example:
    """Return an example of five targets after one token each."""
    items = rng.integers(50, size=10) + (40 if late == "items" else 0)
    if late == "concentration":
        items[1::2] = np.where(rng.random(5) < 0.3, 7, items[1::2])
    gap_ms = rng.exponential(30_000 if late != "gaps" else 3_000_000, 5)
    ts_ms = 1_700_000_000_000 + np.zeros(10, np.int64)
    return Example(
        *(0, 1, 1_700_000_000_000, 7, 0),
        keys=items.astype(np.uint64),
        actions=np.zeros(10, np.uint64),
        ts_ms=ts_ms,
        kinds=np.ones(10, np.uint8),
        positions=np.arange(1, 10, 2, dtype=np.int32),
        queries=np.arange(0, 10, 2, dtype=np.int32),
        requests=np.arange(5, dtype=np.uint32),
        request_ms=ts_ms[:5] + gap_ms.astype(np.int64),
        label_offsets=np.arange(6, dtype=np.uint32),
        labels=rng.integers(2 if late != "actions" else 9, size=5).astype(np.uint64),
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )


def add(watch: DriftWatch, examples: list[Example], tested: Outcome | None, loss: float, step: int) -> list[Alarm]:
    return watch.add(examples, tested, loss, candidates=50, targets=20 * (step + 1), event_ms=step)


def alarms(watch: DriftWatch, seed: int, risen: str = "") -> list[Alarm]:
    return [
        alarm
        for step, (examples, tested, loss) in enumerate(stream(seed, risen=risen))
        for alarm in add(watch, examples, tested, loss, step)
    ]


@pytest.mark.parametrize("signal", SIGNALS)
def test_each_change_raises_its_signal(signal: str) -> None:
    """Within ten blocks of the change, and that signal alone (a fashion also moves the mix); before it none."""
    watch = DriftWatch()
    found = alarms(watch, 1, signal)
    found = [alarm for alarm in found if (signal, alarm.signal) != ("concentration", "items")]
    assert {alarm.signal for alarm in found} == {signal}
    assert 6000 < found[0].targets <= 6000 + 10 * BLOCK
    assert watch.counts[signal] == len(found)


def block(labels: np.ndarray) -> list[Example]:
    """Return an example of BLOCK targets of one item, each at once after its token, with these labels."""
    ts_ms = np.full(BLOCK, 1_700_000_000_000)
    return [
        Example(
            *(0, 1, 1_700_000_000_000, 7, 0),
            keys=np.ones(BLOCK, np.uint64),
            actions=np.zeros(BLOCK, np.uint64),
            ts_ms=ts_ms,
            kinds=np.ones(BLOCK, np.uint8),
            positions=np.arange(BLOCK, dtype=np.int32),
            queries=np.arange(BLOCK, dtype=np.int32),
            requests=np.arange(BLOCK, dtype=np.uint32),
            request_ms=ts_ms,
            label_offsets=np.arange(BLOCK + 1, dtype=np.uint32),
            labels=np.asarray(labels, np.uint64),
            text_keys=np.empty(0, np.uint64),
            texts=(),
        )
    ]


def first_alarm(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> int | None:
    """Return in which block after the change `actions` has its first alarm; None without one."""
    watch = DriftWatch()
    for labels in before:
        assert add(watch, block(labels), None, math.nan, 0) == []
    for number, labels in enumerate(after):
        if [alarm.signal for alarm in add(watch, block(labels), None, math.nan, 0)] == ["actions"]:
            return number
    return None


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("within", [0.0, 0.5])
def test_an_action_that_appears_is_found(share: float, within: float) -> None:
    """On twenty seeds, at the edge of a block or within it; the keys are equal in their lowest bits."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        late = [np.where(rng.random(BLOCK) < share, 3 + 2**63, 3) for _ in range(4)]
        late[0][: int(within * BLOCK)] = 3
        assert first_alarm([np.full(BLOCK, 3)] * 20, late) is not None, seed


def test_actions_beyond_the_bins_share_one() -> None:
    """Names without an end: what is kept is bounded."""
    watch = DriftWatch()
    for number in range(3):
        add(watch, block(np.arange(BLOCK) + number * BLOCK), None, math.nan, number)
    assert watch.state()["actions"] == list(range(BINS["actions"] - 1))


def test_what_was_not_tested_is_no_value() -> None:
    """Without tests and losses there are no misses; an empty stream has no block."""
    watch = DriftWatch()
    for step, (examples, _, _) in enumerate(stream(1, steps=100)):
        assert add(watch, examples, None, math.nan, step) == []
    assert add(watch, [], None, math.nan, 0) == []


def test_the_state_is_all_there_is() -> None:
    """A watch that goes through JSON in the middle of a block has the same alarms from there on."""
    whole, steps = DriftWatch(), list(stream(2, risen="misses"))
    half = DriftWatch()
    for examples, tested, loss in steps[:305]:
        add(whole, examples, tested, loss, 0)
        add(half, examples, tested, loss, 0)
    resumed = DriftWatch()
    resumed.load_state(json.loads(json.dumps(half.state())))
    for examples, tested, loss in steps[305:]:
        assert add(whole, examples, tested, loss, 0) == add(resumed, examples, tested, loss, 0)
    assert whole.state() == resumed.state()
    assert whole.counts["misses"]
