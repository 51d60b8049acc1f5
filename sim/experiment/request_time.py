"""Targets tested at the time of their request, as a recommender of that moment would have answered.

A label is learned when it is final, up to one action window after the request; by then the model has learned from later
events. Tested at the request, each target is asked before the first micro-batch that was not yet final then, with only
the tokens up to it, among the items that were live then.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.experiment.feeds import Feed, micro_batches
from stream.example import Example


def at_requests(feed: Feed, size: int) -> dict[int, list[tuple[int, list[Example]]]]:
    """Return what is asked before each micro-batch: its number to groups of examples with the targets of that moment.

    Each group comes with the number of the micro-batch's item records to learn before it: those up to the request, so
    that an item withdrawn later is still a candidate. All examples are held at once; a joined feed is in memory anyway.
    """
    batches = list(micro_batches(feed, size))
    final_ms = np.array([batch[-1].final_ms for _, batch in batches], np.int64)
    record_ms = [np.maximum.accumulate([record.ts_ms for record in records]) for records, _ in batches]
    asked: defaultdict[int, defaultdict[int, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for number, (_, batch) in enumerate(batches):
        for example in batch:
            at_T = np.minimum(np.searchsorted(final_ms, example.request_ms, side="right"), number)
            for at in np.unique(at_T).tolist():
                here = np.flatnonzero(at_T == at)
                records_T = np.searchsorted(record_ms[at], example.request_ms[here], side="right")
                for count in np.unique(records_T).tolist():
                    asked[at][count].append(part(example, here[records_T == count]))
    return {at: sorted(groups.items()) for at, groups in asked.items()}


def part(example: Example, targets: NDArray[np.intp]) -> Example:
    """Return an example with some of its targets, and the tokens up to the last of these."""
    stop = int(example.positions[targets].max()) + 1
    begin, end = example.label_offsets[targets].tolist(), example.label_offsets[targets + 1].tolist()
    labels = [example.labels[a:b] for a, b in zip(begin, end, strict=True)]
    counts = np.array([len(own) for own in labels], np.uint32)
    return replace(
        example,
        keys=example.keys[:stop],
        actions=example.actions[:stop],
        ts_ms=example.ts_ms[:stop],
        kinds=example.kinds[:stop],
        positions=example.positions[targets],
        queries=example.queries[targets],
        requests=example.requests[targets],
        request_ms=example.request_ms[targets],
        label_offsets=np.concatenate([np.zeros(1, np.uint32), np.cumsum(counts, dtype=np.uint32)]),
        labels=np.concatenate([np.empty(0, np.uint64), *labels]),
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )
