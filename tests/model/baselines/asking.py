"""The questions of examples of tests/laws.py, one target at a time, for naive baselines made of dictionaries."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from model.baselines import Baseline
from stream.example import Example, Kind
from tests.laws import REQUEST_MS, Counting, positives

HALF_LIFE_MS = 20 * REQUEST_MS  # that of laws.Counting


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, with keys for items."""

    history: list[int]  # acted on, oldest first
    target: int
    request_ms: int
    user: int
    seen: list[int]  # acted on or shown, oldest first


def each(examples: Sequence[Example]) -> Iterator[Asked]:
    """Yield the questions of examples in their order."""
    for example in examples:
        for target in positives(example):
            before = slice(0, example.queries[target] + 1)
            history, seen = (
                example.keys[before][np.isin(example.kinds[before], kinds)].tolist()
                for kinds in ([Kind.ACTION], [Kind.ACTION, Kind.IMPRESSION])
            )
            key = int(example.keys[example.positions[target]])
            yield Asked(history, key, int(example.request_ms[target]), example.user, seen)


def decayed(times_ms: Sequence[int], at_ms: int) -> float:
    """Return the decayed count of occurrences as of a time."""
    return math.fsum(2.0 ** ((ts_ms - at_ms) / HALF_LIFE_MS) for ts_ms in times_ms)


def shares(targets: Sequence[Asked]) -> dict[int, float]:
    """Return each item's share of the decayed targets."""
    now_ms = max([asked.request_ms for asked in targets], default=0)
    counts = {
        item: decayed([asked.request_ms for asked in targets if asked.target == item], now_ms)
        for item in {asked.target for asked in targets}
    }
    return {item: count / math.fsum(counts.values()) for item, count in counts.items()}


def born_ms(examples: Sequence[Example]) -> dict[int, int]:
    """Return when each item was seen first."""
    born: dict[int, int] = {}
    for example in examples:
        for key, ts_ms in zip(example.keys.tolist(), example.ts_ms.tolist(), strict=True):
            born[key] = min(ts_ms, born.get(key, ts_ms))
    return born


def scores_by_key(contestant: Counting, example: Example) -> list[dict[int, float]]:
    """Return a baseline's scores of each question, by item."""
    keys = contestant.index.items.keys.tolist()
    score_TV = contestant.baseline.scores(contestant.ask([example])).tolist()
    return [dict(zip(keys, scores, strict=True)) for scores in score_TV]


def check_formula(
    kind: type[Baseline], by_hand: Callable[[list[Asked], Asked, int], float], examples: Sequence[Example]
) -> None:
    """Check that every score is the formula's, for candidates only, from what was learned before."""
    contestant = Counting(kind)
    for n, example in enumerate(examples):
        learned, born = list(each(examples[:n])), born_ms(examples[:n])
        for asked, scores in zip(each([example]), scores_by_key(contestant, example), strict=True):
            assert set(scores) == set(born)
            for item, score in scores.items():
                wanted = by_hand(learned, asked, item) if born[item] < asked.request_ms else -math.inf
                assert score == pytest.approx(wanted, rel=1e-9)
        contestant.step([example], test=False, learn=True)
