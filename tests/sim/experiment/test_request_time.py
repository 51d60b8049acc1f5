"""Targets at the time of their request."""

from itertools import chain

import numpy as np

from model.data.catalogue import Tombstone
from sim.experiment.feeds import micro_batches
from sim.experiment.request_time import at_requests, part
from stream.example import Example
from tests.sim.experiment.small_runs import slates


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
