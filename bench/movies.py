"""A stream like MovieLens, made in memory: people rate films in bursts, and each burst becomes one example.

Activity of people is log-normal, popularity of films falls with rank (Zipf, shifted), six ratings in ten are a like.
An example has a person's last tokens and as many targets as stream.gather_targets, as the joiner makes it.
"""

from collections import defaultdict

import numpy as np

from stream.example import TOKEN_DTYPE, Example, Kind, id_key

START_MS, STEP_MS = 1_700_000_000_000, 3_000


def film_keys(films: int) -> np.ndarray:
    """Return the keys of all films."""
    return np.array([id_key(f"film {i}") for i in range(films)], np.uint64)


def make_movies(
    count: int, *, films: int = 20_000, people: int = 600, burst: int = 8, tokens: int = 512, seed: int = 0
) -> list[Example]:
    """Return `count` examples in order of time."""
    rng = np.random.default_rng(seed)
    keys, like, dislike = film_keys(films), id_key("like"), id_key("dislike")
    popular, active = 1 / (np.arange(films) + 20.0), rng.lognormal(0, 1, people)
    who = rng.choice(people, count, p=active / active.sum())
    what = keys[rng.choice(films, (count, burst), p=popular / popular.sum())]
    action = np.where(rng.random((count, burst)) < 0.6, np.uint64(like), np.uint64(dislike))
    histories: dict[int, list[np.ndarray]] = defaultdict(list)
    examples = []
    for n, person in enumerate(who.tolist()):
        new = np.zeros(burst, TOKEN_DTYPE)
        new["key"], new["action"], new["kind"] = what[n], action[n], Kind.ACTION
        new["ts_ms"] = START_MS + STEP_MS * (n * burst + np.arange(burst))
        histories[person] = [*histories[person][-(tokens // burst) :], new]
        examples.append(_example(n, person, np.concatenate(histories[person])[-tokens:], burst))
    return examples


def _example(serial: int, person: int, tokens: np.ndarray, targets: int) -> Example:
    at = np.arange(len(tokens) - targets, len(tokens))
    columns = (np.ascontiguousarray(tokens[name]) for name in ("key", "action", "ts_ms", "kind"))
    return Example(
        *(0, serial + 1, int(tokens["ts_ms"][-1]), person, 0),
        *columns,
        positions=at.astype(np.int32),
        queries=(at - 1).astype(np.int32),
        requests=np.arange(targets, dtype=np.uint32),
        request_ms=tokens["ts_ms"][at].copy(),
        label_offsets=np.arange(targets + 1, dtype=np.uint32),
        labels=tokens["action"][at].copy(),
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )
