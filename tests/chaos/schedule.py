"""Which fault comes when: a list that the seed alone decides.

Each kind comes once before any comes again by its weight, so that a short schedule has variety too.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

# kind → how often it comes beside the others
KINDS: Final = {
    "kill worker": 10,
    "kill trainer": 8,
    "kill worker and trainer": 6,
    "kill Kafka": 4,
    "stop worker": 6,
    "stop trainer": 3,
    "stop Kafka": 3,
    "rolling restart": 3,
    "join": 5,
    "leave": 5,
    "move to another host": 6,
    "store deleted": 6,
    "worker's clock": 5,
    "trainer's clock": 3,
    "disk full": 2,
    "poison": 8,
    "fast client": 4,
    "retention of examples": 3,
    "refusal: tail cut": 1,
    "refusal: tail cut, regrown": 1,
    "refusal: topic made again": 1,
    "refusal: retention of events": 1,
    "refusal: retention of examples": 1,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what, and two numbers that choose its victim and its length."""

    number: int
    kind: str
    victim: int
    share: float
    """In [0, 1): where between its shortest and its longest."""
    pause_s: float
    """Quiet time before it."""

    def between(self, least: float, most: float) -> float:
        """Return the value of its share."""
        return least + self.share * (most - least)


def make_schedule(seed: int, count: int, of: Collection[str] = KINDS) -> list[Fault]:
    """Return `count` faults of some kinds."""
    rng = random.Random(seed)
    known = [kind for kind in KINDS if kind in of]
    kinds = rng.sample(known, len(known))
    kinds += rng.choices(known, [KINDS[kind] for kind in known], k=max(0, count - len(kinds)))
    return [
        Fault(number, kind, rng.randrange(1 << 16), rng.random(), rng.uniform(0.2, 1.5))
        for number, kind in enumerate(kinds[:count], 1)
    ]
