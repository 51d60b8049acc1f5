"""A stream in which interest fades with time, not with the number of films seen since, made in memory.

Every film has a category. A person's next film has the category of one of their earlier films, drawn with weight
exp(-age / FADES_MS), or, with weight FRESH, a category drawn uniformly. Gaps between events are log-uniform from 5
minutes to 2 days, so five films ago may be an hour ago or a week: only the gaps show how old an interest is.
"""

import numpy as np

from stream.example import TOKEN_DTYPE, Example, Kind, id_key

START_MS = 1_700_000_000_000
GAP_MS = (300_000, 2 * 86_400_000)
FADES_MS, FRESH = 12 * 3_600_000, 0.05
BURST = 4  # targets of an example


def make_fading(
    count: int, *, people: int = 200, films: int = 800, categories: int = 40, tokens: int = 64, seed: int = 0
) -> list[Example]:
    """Return examples in order of time, of all people in turn."""
    rng = np.random.default_rng(seed)
    keys = np.array([id_key(f"film {i}") for i in range(films)], np.uint64)
    per_person = -(-count // people) * BURST
    gap_ms = np.exp(rng.uniform(*np.log(GAP_MS), (people, per_person))).astype(np.int64)
    ts_ms, category = START_MS + gap_ms.cumsum(1), rng.integers(categories, size=(people, per_person))
    for n in range(1, per_person):
        weight = np.exp((ts_ms[:, :n] - ts_ms[:, n : n + 1]) / FADES_MS)
        upto = np.concatenate((np.full((people, 1), FRESH), weight), 1).cumsum(1)
        drawn = (rng.random((people, 1)) * upto[:, -1:] > upto).sum(1)  # 0: the fresh category that is there already
        old = np.flatnonzero(drawn)
        category[old, n] = category[old, drawn[old] - 1]
    history = np.zeros((people, per_person), TOKEN_DTYPE)
    history["key"] = keys[category + categories * rng.integers(films // categories, size=category.shape)]
    history["action"], history["kind"], history["ts_ms"] = id_key("click"), Kind.ACTION, ts_ms
    ends = [(int(ts_ms[p, end - 1]), p, end) for p in range(people) for end in range(BURST, per_person + 1, BURST)]
    return [
        _example(n, person, history[person, max(0, end - tokens) : end])
        for n, (_, person, end) in enumerate(sorted(ends)[:count])
    ]


def _example(serial: int, person: int, history: np.ndarray) -> Example:
    at = np.arange(len(history) - BURST, len(history))
    columns = (np.ascontiguousarray(history[name]) for name in ("key", "action", "ts_ms", "kind"))
    return Example(
        *(0, serial + 1, int(history["ts_ms"][-1]), person, 0),
        *columns,
        positions=at.astype(np.int32),
        queries=(at - 1).astype(np.int32),
        requests=np.arange(BURST, dtype=np.uint32),
        request_ms=history["ts_ms"][at].copy(),
        label_offsets=np.arange(BURST + 1, dtype=np.uint32),
        labels=history["action"][at].copy(),
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )
