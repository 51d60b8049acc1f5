"""Targets at the time of their request: what a recommender of that moment would have answered.

A label is learnt when it is final, up to a window after the request; by then the model has learnt of things that came
in between. Scored at the request, each target is asked before the first micro-batch that was not yet final then, with
the tokens up to it alone, among the items that were live then.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sim.experiment.feeds import Feed, micro_batches
from stream.example import Example


def at_requests(feed: Feed, size: int) -> dict[int, list[tuple[int, list[Example]]]]:
    """Give, by the number of the micro-batch before which they are asked, examples with the targets of that moment.

    They come in groups, each with how many of the item records of that micro-batch are to be learnt before: those up to
    the request, so that what was withdrawn later is a candidate still.
    All examples are held at once: a feed of recorded logs and scenarios is in memory anyway.
    """
    batches = list(micro_batches(feed, size))
    final_ms = np.array([batch[-1].final_ms for _, batch in batches], np.int64)
    known_ms = [np.maximum.accumulate([record.ts_ms for record in records]) for records, _ in batches]
    asked: defaultdict[int, defaultdict[int, list[Example]]] = defaultdict(lambda: defaultdict(list))
    for number, (_, batch) in enumerate(batches):
        for example in batch:
            at_T = np.minimum(np.searchsorted(final_ms, example.request_ms, side="right"), number)
            for at in np.unique(at_T).tolist():
                here = np.flatnonzero(at_T == at)
                known_T = np.searchsorted(known_ms[at], example.request_ms[here], side="right")
                for known in np.unique(known_T).tolist():
                    asked[at][known].append(part(example, here[known_T == known]))
    return {at: sorted(groups.items()) for at, groups in asked.items()}


def part(example: Example, targets: NDArray[np.intp]) -> Example:
    """Give an example with some of its targets, and the tokens up to the last of these."""
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
