"""How fresh answers are, in the terms of bench/keep_up.py: how long after it was made a count is reached elsewhere.

    taken     from an event's arrival in Kafka until the workers' stores, which queries read, have it
    learnt    from the moment an example is made, its labels final, until the trainer has learned it
    served    from the same moment until a snapshot that has learned it answers

Counts are read when the dashboard looks, every two seconds, so a time is up to as much too long or too short.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

KEPT_S: Final = 300.0
GAP_S: Final = 15.0  # without a look, after which nobody knows what has been between
LEAST: Final = 20  # events or examples; of fewer no times are told
_ASKED: Final = 200  # counts whose times are looked up
_SHARES: Final = {"p50": 0.5, "p99": 0.99}
_Array = NDArray[np.float64]


class Counts(NamedTuple):
    """Of one way, at one moment."""

    made: float
    """How many were made, by who makes them."""
    come: float
    """How many of them have come to who does something with them, done or not."""
    done: float
    """How many are done."""


_Sample = tuple[float, float, float, float]  # when, and the Counts


class Delays:
    """Samples of each way since its counts last began anew.

    Looks at which a count is unknown are time that passes: a worker that is away takes nothing, and takes all that has
    come meanwhile once it is back. Without looks nothing is known of the time between.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[_Sample]] = {}
        self._looked_s = float("-inf")
        self._unknown: set[str] = set()  # ways, at the last look

    def look(self, at_s: float, counts: Mapping[str, Counts | None]) -> dict[str, Any]:
        """Take the counts of now, and return the spread of each way's times of late; None where there is none.

        Args:
            at_s: Monotonic seconds.
            counts: Way: what is known of it now; None where something is not.
        """
        if at_s - self._looked_s > GAP_S:
            self._samples = {}
        self._looked_s = at_s
        return {way: self._look(way, at_s, now) for way, now in counts.items()}

    def _look(self, way: str, at_s: float, now: Counts | None) -> dict[str, Any] | None:
        kept = [each for each in self._samples.get(way, []) if at_s - each[0] <= KEPT_S]
        if len(kept) > 1 and kept[0][0] == kept[1][0]:  # the end of a time of which the begin is no more kept
            del kept[0]
        if now is None or now.made < now.done:  # some of those who make them are missing
            self._samples[way] = kept
            self._unknown.add(way)
            return None
        if kept and now.done < kept[-1][3]:
            kept = []
        if kept and way in self._unknown:
            kept.append((at_s, now.made, now.come, kept[-1][3]))  # for all that is known nothing was done until now
        self._unknown.discard(way)
        self._samples[way] = [*kept, (at_s, *now)]
        return spread(*np.array(self._samples[way]).T) if kept else None


def spread(at_s: _Array, made: _Array, come: _Array, done: _Array) -> dict[str, Any] | None:
    """Return the p50 and p99 of the times from made to done, of all that was not done at the first sample.

    Each is {"s": seconds, "least": whether it has lasted longer, as it was made before the first sample, or is not done
    yet}. None for a few, and where not all who make them are watched.

    Args:
        at_s: Times of the samples.
        made: As in Counts; where one is larger than a later one, it held what is no event or example.
        come: As in Counts. What was never on its way, since it was made before all that is kept, comes never.
        done: As in Counts; never falls.
    """
    made = made - max(0.0, (made - come).min())
    made = np.minimum.accumulate(made[::-1])[::-1]
    if made[-1] < done[-1] or made[-1] - done[0] < LEAST:
        return None
    counts = np.linspace(done[0], made[-1], _ASKED + 1)[1:]
    ends_s = reached_s(counts, at_s, done)
    least = (counts <= made[0]) | np.isinf(ends_s)
    took_s = np.maximum(0, np.minimum(ends_s, at_s[-1]) - reached_s(counts, at_s, made))
    order = np.argsort(took_s, kind="stable")
    places = {name: order[int(share * (_ASKED - 1))] for name, share in _SHARES.items()}
    return {name: {"s": float(took_s[place]), "least": bool(least[place])} for name, place in places.items()}


def reached_s(counts: _Array, at_s: _Array, curve: _Array) -> _Array:
    """Return when a curve that never falls first has each count; inf where it has not yet."""
    first = np.searchsorted(curve, counts, side="left")
    found = np.full(len(counts), np.inf)
    inside = (first > 0) & (first < len(curve))
    i, wanted = first[inside], counts[inside]
    part = (wanted - curve[i - 1]) / (curve[i] - curve[i - 1])
    found[inside] = at_s[i - 1] + part * (at_s[i] - at_s[i - 1])
    found[first == 0] = at_s[0]
    return found
