"""The Dirichlet-process stream by which the HSTU paper compares pointwise with softmax attention.

R = records, L = length of a record, I = items, C = categories, S = slots of categories in a record (5).

    item i         has a category, uniform over C; ids 0..C-1 have one each in random order, so that none is empty
    record r       sees the ids below available(r) = floor((initial + (1 - initial) r / R) I): the vocabulary grows
                   draws S categories with replacement, a prior over them ~ Dirichlet(1, …, 1), and
                   alpha ~ U(alpha_low, alpha_high)
    its event n    (n = 1..L) has, with probability alpha / (alpha + n - 1), a category by the prior, else that of one
                   of the n - 1 events before it, each as likely (so: in proportion to the counts so far);
                   its item is one of the available items of that category, in proportion to their weights
    weights        item i's is k^-zipf, where k = 1, 2, … is its place in a random, fixed order of its category's items:
                   an item keeps its weight, and a new id may be a favourite. zipf = 0: uniform

Record r is the user r, whose events are organic actions `click` one second apart; record r + 1 begins one second after
record r has ended. Random numbers come in blocks of BLOCK records, each from its own Philox counter keyed by
(seed, block), so that the stream can begin anywhere and be read in any pieces.
Source: Zhai et al. 2024 (arXiv 2402.17152). Their generator is not public, so figures of the two do not compare.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import chain, repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import SimError
from sim.sources.item_records import Catalogue
from sim.sources.recorded_log import fingerprint
from sim.sources.source import SourceEvent
from stream.config import StreamSettings
from stream.schema.topics import SourceTopic

BLOCK: Final = 1024  # records made at once: 131,072 events of the paper's length
STEEPEST: Final = 10  # exponent; weights of steeper laws are lost in the rounding of their sums
START_MS: Final = 1_700_000_000_000  # 2023-11-14
STEP_MS: Final = 1_000
VERSION: Final = "dirichlet-1"  # part of the fingerprint; raise it if the same settings give another stream
_as_event: Final = partial(tuple.__new__, SourceEvent)  # Event._make does the same in 50 ns more


@dataclass(frozen=True, slots=True, kw_only=True)
class DirichletSettings:
    """The size of the stream; the defaults are the paper's where it states them."""

    seed: int = 0
    records: int = 1_000_000
    length: int = 128
    items: int = 20_000
    categories: int = 100
    initial: float = 0.4
    """Share of the ids that the first record can show."""
    limit: int | None = None
    """Events at most."""
    slots: int = 5
    """Categories that a record draws, with replacement."""
    alpha_low: float = 1.0
    alpha_high: float = 500.0
    """Range of a record's alpha: the higher it is, the closer the events keep to the prior."""
    zipf: float = 0.0
    """Exponent of the items' weights within a category; 0: all are equal."""

    def __post_init__(self) -> None:
        for name in ("records", "length", "items", "categories", "limit", "slots"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SimError(f"The stream needs {name} of 1 or more, not {value}.")
        if not 0 <= self.seed < 2**64:
            raise SimError(f"The seed {self.seed} does not lie in [0, 2**64).")
        if not (0 < self.initial <= 1 and int(self.initial * self.items) >= self.categories):
            raise SimError(
                f"Of {self.items} items the share {self.initial} is there at first, which must be as many as the "
                f"{self.categories} categories; take more items or fewer categories."
            )
        if not 0 < self.alpha_low <= self.alpha_high < math.inf:
            raise SimError(
                f"alpha cannot lie between {self.alpha_low} and {self.alpha_high}; its range needs "
                "0 < alpha_low <= alpha_high."
            )
        if not 0 <= self.zipf <= STEEPEST:
            raise SimError(f"The exponent zipf is {self.zipf}; it has to lie in [0, {STEEPEST}], 0 being uniform.")

    def tag(self) -> str:
        """Return a text of the law. Later options are left out at their defaults, so that old tags stay valid."""
        later = ("slots", "alpha_low", "alpha_high", "zipf")
        mute = {f.name for f in fields(self) if f.name in later and getattr(self, f.name) == f.default}
        return str({name: value for name, value in asdict(self).items() if name not in mute})


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records: the item and the category of each event."""

    items: NDArray[np.int32]  # [R, L]
    categories: NDArray[np.int32]  # [R, L]


class DirichletStream:
    """The stream as a sim.sources.source.Source without a catalogue."""

    name = "dirichlet"
    first_ms = START_MS

    def __init__(self, settings: DirichletSettings) -> None:
        self.settings = settings
        self.catalogue: Catalogue = []
        self.fingerprint = fingerprint(VERSION, settings.tag())
        self.category_I = _categories(settings)
        self._members_I = np.argsort(self.category_I, kind="stable").astype(np.int32)  # ids rise in each category
        sorted_I = self.category_I[self._members_I].astype(np.int64)
        self._place_I = sorted_I * settings.items + self._members_I  # rises: category, then id
        self._first_C = np.searchsorted(sorted_I, np.arange(settings.categories))
        self.weight_I = _weights(settings, self._members_I, self._first_C)
        self.by_weight_I = np.lexsort((-self.weight_I, self.category_I))  # by category; in it, weights fall
        self._below_I = np.concatenate([[0.0], np.cumsum(self.weight_I[self._members_I])])  # weights before each place
        self._held: tuple[int, Records] | None = None

    def __len__(self) -> int:
        everything = self.settings.records * self.settings.length
        return everything if self.settings.limit is None else min(everything, self.settings.limit)

    def available(self, record_R: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many ids each record can show, [R]: those below this number."""
        initial, records, items = self.settings.initial, self.settings.records, self.settings.items
        share_R = initial + (1 - initial) * np.minimum(record_R / records, 1.0)
        return np.minimum((share_R * items).astype(np.int64), items)

    def records(self, start: int, stop: int) -> Records:
        """Return the records in [start, stop)."""
        stop = min(stop, self.settings.records)
        parts = [self._block(number) for number in range(start // BLOCK, -(-stop // BLOCK))]
        within = slice(start % BLOCK, start % BLOCK + max(stop - start, 0))
        empty = np.empty((0, self.settings.length), np.int32)
        items_RL = np.concatenate([empty, *(part.items for part in parts)])[within]
        return Records(items_RL, np.concatenate([empty, *(part.categories for part in parts)])[within])

    def events(self, start: int = 0) -> Iterator[SourceEvent]:
        """Yield the events from number `start` on."""
        return chain.from_iterable(self._events_by_record(start))

    def _events_by_record(self, start: int) -> Iterator[Iterator[SourceEvent]]:
        length, end = self.settings.length, len(self)
        texts = [str(item) for item in range(self.settings.items)]
        for first in range(start // length, -(-end // length), BLOCK):
            for place, row in enumerate(self.records(first, first + BLOCK).items.tolist()):
                record = first + place
                begin, stop = max(start - record * length, 0), max(min(end - record * length, length), 0)
                yield _record_events(record, list(map(texts.__getitem__, row)), begin, stop)

    def _block(self, number: int) -> Records:
        if self._held is None or self._held[0] != number:
            self._held = (number, self._make_block(number))
        return self._held[1]

    def _make_block(self, number: int) -> Records:
        """Draw BLOCK records. B = BLOCK; L comes first, so that one event of all records is a row."""
        rng = np.random.Generator(np.random.Philox(key=np.array([self.settings.seed, number], np.uint64)))
        drawn_SB = rng.integers(self.settings.categories, size=(self.settings.slots, BLOCK))
        slot_LB = _slots(rng, self.settings)
        available_B = self.available(np.arange(BLOCK, dtype=np.int64) + number * BLOCK)
        first_SB = self._first_C[drawn_SB]
        end_SB = np.searchsorted(self._place_I, drawn_SB * self.settings.items + available_B)
        first_LB, end_LB = (np.take_along_axis(each, slot_LB, axis=0) for each in (first_SB, end_SB))
        chosen_LB = self._choose(rng, first_LB, end_LB)
        categories_LB = np.take_along_axis(drawn_SB, slot_LB, axis=0).astype(np.int32)
        return Records(np.ascontiguousarray(self._members_I[chosen_LB].T), np.ascontiguousarray(categories_LB.T))

    def _choose(self, rng: np.random.Generator, first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Draw a place in first..end-1 each, by the weights of the items there."""
        if not self.settings.zipf:
            return _below(rng, end - first) + first
        low, high = self._below_I[first], self._below_I[end]
        found = np.searchsorted(self._below_I, low + rng.random(first.shape) * (high - low), side="right") - 1
        chosen: NDArray[np.int64] = np.clip(found, first, end - 1)
        return chosen


def whole_records(settings: StreamSettings, length: int) -> StreamSettings:
    """Return settings by which each record of this length leaves as one example."""
    tokens = max(settings.example_tokens, length)
    seconds = max(settings.gather_s, length * STEP_MS / 1000)
    return settings.model_copy(update={"gather_targets": length, "gather_s": seconds, "example_tokens": tokens})


def _categories(settings: DirichletSettings) -> NDArray[np.int64]:
    rng = np.random.Generator(np.random.Philox(key=np.array([settings.seed, 2**64 - 1], np.uint64)))
    category_I = rng.integers(settings.categories, size=settings.items)
    category_I[: settings.categories] = rng.permutation(settings.categories)
    return category_I


def _weights(
    settings: DirichletSettings, members_I: NDArray[np.int32], first_C: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the weight of each item, [I]: (its place in a random order of its category)^-zipf."""
    rng = np.random.Generator(np.random.Philox(key=np.array([settings.seed, 2**64 - 2], np.uint64)))
    place_I = np.empty(settings.items, np.int64)
    for members in np.split(members_I, first_C[1:]):
        place_I[members] = 1 + rng.permutation(len(members))
    weight_I: NDArray[np.float64] = place_I.astype(np.float64) ** -settings.zipf
    return weight_I


def _slots(rng: np.random.Generator, settings: DirichletSettings) -> NDArray[np.int64]:
    """Draw which of its record's slots each event takes, [L, B]: an urn that copies an earlier event or draws new."""
    length = settings.length
    weight_SB = rng.standard_exponential((settings.slots, BLOCK))
    edge_SB = np.cumsum(weight_SB / weight_SB.sum(axis=0), axis=0)[:-1]
    alpha_B = rng.uniform(settings.alpha_low, settings.alpha_high, size=BLOCK)
    before_L1 = np.arange(length)[:, None]
    fresh_LB = rng.random((length, BLOCK)) < alpha_B / (alpha_B + before_L1)
    slot_LB: NDArray[np.int64] = (rng.random((length, BLOCK))[:, None] >= edge_SB).sum(axis=1)
    parent_LB = _below(rng, np.broadcast_to(before_L1, (length, BLOCK)))
    every_B = np.arange(BLOCK)
    for n in range(1, length):
        slot_LB[n] = np.where(fresh_LB[n], slot_LB[n], slot_LB[parent_LB[n], every_B])
    return slot_LB


def _below(rng: np.random.Generator, count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw uniformly from 0..count-1 each; 0 where count is 0."""
    drawn = (rng.random(count.shape) * count).astype(np.int64)
    return np.clip(drawn, 0, np.maximum(count - 1, 0))


def _record_events(record: int, items: list[str], begin: int, stop: int) -> Iterator[SourceEvent]:
    head = f'{{"user_id":"{record}","item_id":"'
    ts_ms = START_MS + record * len(items) * STEP_MS
    at_ms = range(ts_ms + begin * STEP_MS, ts_ms + stop * STEP_MS, STEP_MS)
    values = [
        f'{head}{item}","action":"click","ts":{now_ms}}}'.encode()
        for item, now_ms in zip(items[begin:stop], at_ms, strict=True)
    ]
    everywhere = repeat(SourceTopic.ACTIONS.topic), repeat(str(record).encode())
    return map(_as_event, zip(*everywhere, values, at_ms, repeat(None), strict=False))
