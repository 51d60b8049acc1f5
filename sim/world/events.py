"""The stream of a world: births, deaths, slates and clicks as real events, in event-time order.

    items         a record with a title at birth, a tombstone at death; the first items are the catalogue
    impressions   a slate, its items in the order of their places
    actions       "click": organic, or with the request_id of its slate

All events are drawn before the first one is sent, as columns of about 40 bytes an event, so that the stream can begin
anywhere. Their texts are made while they are sent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.stream import START_MS
from sim.sources.item_records import Catalogue
from sim.sources.recorded_log import fingerprint
from sim.sources.source import SourceEvent, item_record
from sim.world.responses import Clicks, Requests, clicks_on, organic, policy_slates, requests_of
from sim.world.world import World
from stream.schema.topics import ITEMS, SourceTopic as Topic

VERSION: Final = "world-1"  # part of the fingerprint; raise it if the same settings give another stream
_SLICE: Final = 8_192  # events held as Python objects at once
NONE: Final = -1


class Happening(IntEnum):
    """What an event is; events of one instant come in this order."""

    DEATH = 0
    BIRTH = 1
    SLATE = 2
    CLICK = 3


@dataclass(frozen=True, slots=True, eq=False)
class EventColumns:
    """E events in time order; NONE where an event has no such value."""

    ts_ms: NDArray[np.int64]
    what: NDArray[np.int8]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    request: NDArray[np.int64]
    shown: NDArray[np.int64]  # [requests, k] item ids of every slate, by its request's number

    def __len__(self) -> int:
        return len(self.ts_ms)


def texts_of_items(world: World) -> list[str]:
    """Return the id of each item."""
    return [f"i{item}" for item in range(len(world.items))]


def birth(world: World, item: int, ts_ms: int) -> bytes:
    """Return the record of an item."""
    category = int(world.items.category[item])
    title = f"Item {item} of category {category}"
    return item_record(f"i{item}", ts_ms, title, {"category": f"c{category}"})


def lives(world: World) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int64]]:
    """Return times, happenings and items of all births and deaths after the beginning, in order."""
    items, end = world.items, world.ticks
    begins_ms = np.array([world.begins_ms(tick) for tick in range(end)] or [START_MS], np.int64)
    later, mortal = np.flatnonzero(items.born > 0), np.flatnonzero(items.dies < end)
    ts = np.concatenate([begins_ms[items.dies[mortal]], begins_ms[items.born[later]]])
    what = np.repeat(np.array([Happening.DEATH, Happening.BIRTH], np.int8), [len(mortal), len(later)])
    item = np.concatenate([mortal, later])
    order = np.lexsort((item, what, ts))
    return ts[order], what[order], item[order]


def click_event(user: int, item: str, ts_ms: int, request: int) -> SourceEvent:
    """Return a click; `request` is NONE where it is organic."""
    of_slate = "" if request == NONE else f',"request_id":"r{request}"'
    value = f'{{"user_id":"u{user}","item_id":"{item}","action":"click","ts":{ts_ms}{of_slate}}}'
    return SourceEvent(Topic.ACTIONS.topic, f"u{user}".encode(), value.encode(), ts_ms)


def slate_event(user: int, items: list[str], ts_ms: int, request: int) -> SourceEvent:
    """Return an impression."""
    shown = '","'.join(items)
    value = f'{{"user_id":"u{user}","request_id":"r{request}","ts":{ts_ms},"items":["{shown}"]}}'
    return SourceEvent(Topic.IMPRESSIONS.topic, f"u{user}".encode(), value.encode(), ts_ms)


class WorldStream:
    """The events of a world as a sim.sources.source.Source."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.first_ms = START_MS
        self.fingerprint = fingerprint(VERSION, world.settings.model_dump_json(exclude={"title", "description"}))

    @cached_property
    def catalogue(self) -> Catalogue:
        """The first items, each as (id, record)."""
        first = np.flatnonzero(self.world.items.born == 0).tolist()
        return [(f"i{item}", birth(self.world, item, START_MS)) for item in first]

    @cached_property
    def columns(self) -> EventColumns:
        """All events."""
        return _columns(self.world)

    def __len__(self) -> int:
        return len(self.columns)

    def events(self, start: int = 0) -> Iterator[SourceEvent]:
        """Yield the events from number `start` on."""
        columns, texts = self.columns, texts_of_items(self.world)
        for first in range(start, len(columns), _SLICE):
            part = slice(first, first + _SLICE)
            chosen = (columns.ts_ms, columns.what, columns.user, columns.item, columns.request)
            for ts, what, user, item, request in zip(*(column[part].tolist() for column in chosen), strict=True):
                if what == Happening.CLICK:
                    yield click_event(user, texts[item], ts, request)
                elif what == Happening.SLATE:
                    shown = [texts[place] for place in columns.shown[request].tolist()]
                    yield slate_event(user, shown, ts, request)
                else:
                    born = what == Happening.BIRTH
                    yield SourceEvent(ITEMS, texts[item].encode(), birth(self.world, item, ts) if born else None, ts)


def _columns(world: World) -> EventColumns:
    """Draw all events, tick by tick, and sort them by time."""
    slates = world.settings.slates
    shown = np.empty((len(world.visits.users), slates.size), np.int64) if slates else np.empty((0, 0), np.int64)
    clicks = [_of_tick(world, requests_of(world, tick), shown) for tick in range(world.ticks)]
    life_ts, life_what, life_item = lives(world)
    life_none = np.full(len(life_ts), NONE)
    slate = np.arange(len(shown))
    click_request = np.concatenate([click.request for click in clicks])
    columns = (
        np.concatenate([life_ts, world.visits.ts_ms[slate], *(click.ts_ms for click in clicks)]),
        np.concatenate([life_what, np.full(len(slate), Happening.SLATE), np.full(len(click_request), Happening.CLICK)]),
        np.concatenate([life_none, world.visits.users[slate], *(click.user for click in clicks)]),
        np.concatenate([life_item, np.full(len(slate), NONE), *(click.item for click in clicks)]),
        np.concatenate([life_none, slate, click_request if slates else np.full(len(click_request), NONE)]),
    )
    ts_E, what_E, *_ = columns
    order = np.lexsort((what_E, ts_E))
    ts_E, what_E, user_E, item_E, request_E = (column[order] for column in columns)
    return EventColumns(ts_E, what_E.astype(np.int8), user_E, item_E, request_E, shown)


def _of_tick(world: World, requests: Requests, shown: NDArray[np.int64]) -> Clicks:
    """Draw the clicks of a tick; write its slates into `shown`."""
    if world.settings.slates is None:
        return organic(world, requests)
    places = policy_slates(world, requests)
    shown[requests.first : requests.first + len(places)] = requests.law.live.items[places]
    return clicks_on(world, requests, places)
