"""A closed loop: the recommender decides what is shown, and the world responds to that alone.

    for block in loop.blocks():
        slates = recommend(block.users, block.ts_ms, loop.size)      ids of items, the best first
        events = block.answer(slates)                                what happens until the next block
        block.regret                                                 expected clicks lost against the best slates

A block is the requests of one tick; a tick without requests has no block. `answer` returns events in time order, from
where the block before ended to the next block: slates, clicks that have come by then (of earlier slates too), births
and deaths. All events together are a stream like any other. A recommender that has taken in what was returned so far
(before the first block: the catalogue) knows everything it can know. The last block returns all that is still to come.

Random numbers belong to the request and the place, so that recommenders are compared on the same luck.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.errors import SimError
from sim.sources.source import SourceEvent
from sim.world.events import Happening, WorldStream, birth, click_event, lives, slate_event, texts_of_items
from sim.world.responses import Requests, clicks_on, requests_of
from sim.world.slates import click_probabilities, shown_by_policy
from sim.world.world import World
from stream.schema.topics import ITEMS

NO_ITEM = -1


class ClosedLoop:
    """One run through a world; `blocks` can be called again for another run."""

    first_ms = START_MS

    def __init__(self, world: World) -> None:
        assert world.settings.slates is not None
        self.world = world
        self.size = world.settings.slates.size
        self.catalogue = WorldStream("loop", world).catalogue
        self.texts = texts_of_items(world)
        self._item_of = {text: item for item, text in enumerate(self.texts)}
        self._waiting: list[tuple[int, Happening, int, SourceEvent]] = []

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._busy)

    @cached_property
    def _busy(self) -> list[int]:
        """Ticks that have requests."""
        return np.flatnonzero(np.diff(self.world.first_requests)).tolist()

    def blocks(self) -> Iterator["RequestBlock"]:
        """Yield the blocks in time order; each must be answered before the next is taken.

        Raises:
            SimError: A block was not answered.
        """
        ts, what, item = (column.tolist() for column in lives(self.world))
        self._waiting = [
            (at, Happening(kind), number, self._of_life(at, kind, number))
            for at, kind, number in zip(ts, what, item, strict=True)
        ]
        for number, (tick, after) in enumerate(pairwise([*self._busy, self.world.ticks])):
            block = RequestBlock(self, requests_of(self.world, tick), after)
            yield block
            if not block.answered:
                raise SimError(f"Block {number} of the closed loop was not answered before the next one was taken.")

    def _of_life(self, ts_ms: int, what: int, item: int) -> SourceEvent:
        value = birth(self.world, item, ts_ms) if what == Happening.BIRTH else None
        return SourceEvent(ITEMS, self.texts[item].encode(), value, ts_ms)

    def places(self, requests: Requests, slates: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """Return slates as places among the live items, [R, k]; the logging policy fills up what they lack."""
        place_of = np.full(len(self.world.items), NO_ITEM)
        place_of[requests.law.live.items] = np.arange(len(requests.law.live))
        shown_Rk = np.full((len(requests.users), self.size), NO_ITEM)
        if len(slates) != len(requests.users):
            raise SimError(f"{len(slates)} slates answer a block of {len(requests.users)} requests; give one for each.")
        for row, slate in enumerate(slates):
            shown = [place_of[self._item_of[text]] if text in self._item_of else NO_ITEM for text in slate if text]
            if NO_ITEM in shown:
                text = [text for text in slate if text][shown.index(NO_ITEM)]
                raise SimError(f"Slate {row} of the block shows {text!r}, which is no item that lives at that time.")
            if len(set(shown)) < len(shown) or len(shown) > self.size:
                raise SimError(f"Slate {row} of the block shows an item twice, or more than {self.size} items.")
            shown_Rk[row, : len(shown)] = shown
        return shown_by_policy(self.world, requests.law, requests.tick, shown_Rk)

    def happen(self, requests: Requests, shown_Rk: NDArray[np.int64], after: int) -> list[SourceEvent]:
        """Note the slates and their clicks, and return the events that are due before the block of tick `after`."""
        items_Rk, texts = requests.law.live.items[shown_Rk], self.texts
        for row, (user, ts, shown) in enumerate(
            zip(requests.users.tolist(), requests.ts_ms.tolist(), items_Rk.tolist(), strict=True)
        ):
            event = slate_event(user, [texts[item] for item in shown], ts, requests.first + row)
            self._waiting.append((ts, Happening.SLATE, requests.first + row, event))
        clicks = clicks_on(self.world, requests, shown_Rk)
        columns = (clicks.ts_ms, clicks.user, clicks.item, clicks.request)
        for ts, user, item, request in zip(*(column.tolist() for column in columns), strict=True):
            self._waiting.append((ts, Happening.CLICK, request, click_event(user, texts[item], ts, request)))
        return self._due(after)

    def _due(self, tick: int) -> list[SourceEvent]:
        """Take the events before a tick, and the births and deaths with which it begins."""
        self._waiting.sort(key=lambda waiting: waiting[:2])
        last = tick >= self.world.ticks
        until = (self.world.begins_ms(tick), Happening.SLATE) if not last else (2**62, Happening.SLATE)
        due = sum(waiting[:2] < until for waiting in self._waiting)
        gone, self._waiting = self._waiting[:due], self._waiting[due:]
        return [event for *_, event in gone]


class RequestBlock:
    """The requests of one tick, at least one."""

    def __init__(self, loop: ClosedLoop, requests: Requests, after: int) -> None:
        self._loop, self._requests, self._after = loop, requests, after
        self._shown_Rk: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._requests.users)

    @property
    def users(self) -> list[str]:
        """Id of each request's user."""
        return [f"u{user}" for user in self._requests.users.tolist()]

    @property
    def ts_ms(self) -> NDArray[np.int64]:
        """Time of each request, [R], ascending."""
        return self._requests.ts_ms

    @property
    def live(self) -> list[str]:
        """Ids of the items that may be shown."""
        return [self._loop.texts[item] for item in self._requests.law.live.items.tolist()]

    @property
    def answered(self) -> bool:
        """Whether slates were shown."""
        return self._shown_Rk is not None

    def answer(self, slates: Sequence[Sequence[str]]) -> list[SourceEvent]:
        """Show these slates, and return what happens until the next block.

        Args:
            slates: Item ids for each request, the best first. The logging policy fills up what a slate lacks, and
                every "".

        Raises:
            SimError: A slate shows an item that is not alive, one twice or too many; or the block is answered already.
        """
        if self.answered:
            raise SimError("The block has been answered already; take the next one.")
        self._shown_Rk = self._loop.places(self._requests, slates)
        return self._loop.happen(self._requests, self._shown_Rk, self._after)

    @property
    def shown(self) -> list[list[str]]:
        """Item ids of the slates that were shown."""
        assert self._shown_Rk is not None
        return self._texts(self._shown_Rk)

    @cached_property
    def best(self) -> list[list[str]]:
        """The slates with the most expected clicks: those of the seer (upper_bound.py)."""
        return self._texts(self._best)

    @property
    def expected(self) -> NDArray[np.float64]:
        """Expected clicks of each slate shown, [R]."""
        assert self._shown_Rk is not None
        return self._clicks(self._shown_Rk)

    @property
    def regret(self) -> NDArray[np.float64]:
        """Expected clicks of the best slate minus those of the slate shown, [R]; never below 0."""
        return np.maximum(self._clicks(self._best) - self.expected, 0.0)

    @cached_property
    def _best(self) -> NDArray[np.int64]:
        return np.argsort(-self._requests.law.all(), axis=1, kind="stable")[:, : self._loop.size]

    def _clicks(self, shown_Rk: NDArray[np.int64]) -> NDArray[np.float64]:
        settings, law = self._loop.world.settings, self._requests.law
        clicks_R: NDArray[np.float64] = click_probabilities(settings, law, shown_Rk).sum(axis=1)
        return clicks_R

    def _texts(self, shown_Rk: NDArray[np.int64]) -> list[list[str]]:
        return [[self._loop.texts[item] for item in row] for row in self._requests.law.live.items[shown_Rk].tolist()]
