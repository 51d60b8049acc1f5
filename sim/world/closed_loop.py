"""A closed loop: the world asks a recommender what to show, and answers to that alone.

    for block in loop.blocks():
        slates = recommend(block.users, block.ts_ms, loop.size)      ids of items, the best first
        events = block.answer(slates)                                what happens until the next block asks
        block.regret                                                 expected clicks that the slates forgo

A block is the requests of one tick; ticks in which nobody comes have none. Its events are given in time order and go on
where the block before ended: slates, clicks that have come by then (of earlier slates too), and the births and deaths
until the next one asks. So what was ever given is a stream like any other, and a recommender that has taken it in knows
what it can know; before the first block that is the catalogue. The last block gives all that is still to come.

Chance belongs to the request and the place, so that recommenders are compared on the same luck.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.errors import SimError
from sim.sources.source import ITEMS, SourceEvent
from sim.world.events import Happening, WorldStream, birth, click_event, lives, slate_event, texts_of_items
from sim.world.responses import Requests, clicks_on, requests_of
from sim.world.slates import click_probabilities, shown_by_policy
from sim.world.world import World

NO_ITEM = -1


class ClosedLoop:
    """One run through a world; `blocks` can be begun anew."""

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
        """Count the blocks."""
        return len(self._busy)

    @cached_property
    def _busy(self) -> list[int]:
        """Ticks in which somebody comes."""
        return np.flatnonzero(np.diff(self.world.cuts)).tolist()

    def blocks(self) -> Iterator["RequestBlock"]:
        """Give the blocks in time order; each is to be answered before the next is taken.

        Raises:
            SimError: one was not answered.
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
                raise SimError(f"Block {number} of the closed loop was not answered before the next one was asked for.")

    def _of_life(self, ts_ms: int, what: int, item: int) -> SourceEvent:
        value = birth(self.world, item, ts_ms) if what == Happening.BIRTH else None
        return SourceEvent(ITEMS, self.texts[item].encode(), value, ts_ms)

    def places(self, asked: Requests, slates: Sequence[Sequence[str]]) -> NDArray[np.int64]:
        """Give slates as places among the live items; what they lack is filled up by the logging policy."""
        place_of = np.full(len(self.world.items), NO_ITEM)
        place_of[asked.law.live.items] = np.arange(len(asked.law.live))
        shown_Rk = np.full((len(asked.users), self.size), NO_ITEM)
        if len(slates) != len(asked.users):
            raise SimError(f"{len(slates)} slates answer a block of {len(asked.users)} requests; give one for each.")
        for row, slate in enumerate(slates):
            shown = [place_of[self._item_of[text]] if text in self._item_of else NO_ITEM for text in slate if text]
            if NO_ITEM in shown:
                text = [text for text in slate if text][shown.index(NO_ITEM)]
                raise SimError(f"Slate {row} of the block shows {text!r}, which is no item that lives at that time.")
            if len(set(shown)) < len(shown) or len(shown) > self.size:
                raise SimError(f"Slate {row} of the block shows an item twice, or more than {self.size} items.")
            shown_Rk[row, : len(shown)] = shown
        return shown_by_policy(self.world, asked.law, asked.tick, shown_Rk)

    def happen(self, asked: Requests, shown_Rk: NDArray[np.int64], after: int) -> list[SourceEvent]:
        """Note the slates and their clicks, and give what is due before the tick `after` asks."""
        items_Rk, texts = asked.law.live.items[shown_Rk], self.texts
        for row, (user, ts, shown) in enumerate(
            zip(asked.users.tolist(), asked.ts_ms.tolist(), items_Rk.tolist(), strict=True)
        ):
            event = slate_event(user, [texts[item] for item in shown], ts, asked.first + row)
            self._waiting.append((ts, Happening.SLATE, asked.first + row, event))
        clicks = clicks_on(self.world, asked, shown_Rk)
        columns = (clicks.ts_ms, clicks.user, clicks.item, clicks.request)
        for ts, user, item, request in zip(*(column.tolist() for column in columns), strict=True):
            self._waiting.append((ts, Happening.CLICK, request, click_event(user, texts[item], ts, request)))
        return self._due(after)

    def _due(self, tick: int) -> list[SourceEvent]:
        """Take what happens before a tick, and the births and deaths with which it begins."""
        self._waiting.sort(key=lambda waiting: waiting[:2])
        last = tick >= self.world.ticks
        until = (self.world.begins_ms(tick), Happening.SLATE) if not last else (2**62, Happening.SLATE)
        due = sum(waiting[:2] < until for waiting in self._waiting)
        gone, self._waiting = self._waiting[:due], self._waiting[due:]
        return [event for *_, event in gone]


class RequestBlock:
    """The requests of one tick, at least one."""

    def __init__(self, loop: ClosedLoop, asked: Requests, after: int) -> None:
        self._loop, self._asked, self._after = loop, asked, after
        self._shown_Rk: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self._asked.users)

    @property
    def users(self) -> list[str]:
        """Id of each request's user."""
        return [f"u{user}" for user in self._asked.users.tolist()]

    @property
    def ts_ms(self) -> NDArray[np.int64]:
        """Time of each request, [R], ascending."""
        return self._asked.ts_ms

    @property
    def live(self) -> list[str]:
        """Ids of the items that may be shown."""
        return [self._loop.texts[item] for item in self._asked.law.live.items.tolist()]

    @property
    def answered(self) -> bool:
        """Whether there was an answer."""
        return self._shown_Rk is not None

    def answer(self, slates: Sequence[Sequence[str]]) -> list[SourceEvent]:
        """Show these slates, and give what happens until the next block asks.

        Args:
            slates: ids of items for each request, the best first; what a slate lacks (and every "") is filled up by
                the logging policy.

        Raises:
            SimError: a slate shows what is not alive, an item twice or too many; or the block has its answer.
        """
        if self.answered:
            raise SimError("The block has been answered already; take the next one.")
        self._shown_Rk = self._loop.places(self._asked, slates)
        return self._loop.happen(self._asked, self._shown_Rk, self._after)

    @property
    def shown(self) -> list[list[str]]:
        """What was shown."""
        assert self._shown_Rk is not None
        return self._texts(self._shown_Rk)

    @cached_property
    def best(self) -> list[list[str]]:
        """The slates from which most clicks are to be expected: the seer's."""
        return self._texts(self._best)

    @property
    def expected(self) -> NDArray[np.float64]:
        """Expected clicks of each slate shown, [R]."""
        assert self._shown_Rk is not None
        return self._clicks(self._shown_Rk)

    @property
    def regret(self) -> NDArray[np.float64]:
        """Expected clicks of the best slate less those of the slate shown, [R]; never below 0."""
        return np.maximum(self._clicks(self._best) - self.expected, 0.0)

    @cached_property
    def _best(self) -> NDArray[np.int64]:
        return np.argsort(-self._asked.law.all(), axis=1, kind="stable")[:, : self._loop.size]

    def _clicks(self, shown_Rk: NDArray[np.int64]) -> NDArray[np.float64]:
        settings, law = self._loop.world.settings, self._asked.law
        clicks_R: NDArray[np.float64] = click_probabilities(settings, law, shown_Rk).sum(axis=1)
        return clicks_R

    def _texts(self, shown_Rk: NDArray[np.int64]) -> list[list[str]]:
        return [[self._loop.texts[item] for item in row] for row in self._asked.law.live.items[shown_Rk].tolist()]
