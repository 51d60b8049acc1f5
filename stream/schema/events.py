"""Events as they come in on Kafka: JSON of one of three types, or a heartbeat; decoded or refused with a reason.

Additional fields are ignored. Ids are strings or integers (42 and "42" are one). `ts` is event time in ms since 1970.
What passes here has bounded ids, a bounded slate and a possible time, so that nothing behind needs to check again.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Struct

from stream.schema.dead_letters import Reason, RefusedError
from stream.schema.ids import MAX_ID_BYTES, NO_KEY, attribute_text, id_key, id_text
from stream.schema.tokens import END_OF_TIME_MS, LAST_TS_MS, Kind
from stream.schema.topics import SourceTopic

_Id = str | int


class Impression(Struct, frozen=True):
    """One request's slate: the items shown together."""

    user_id: _Id
    request_id: _Id
    ts: int
    items: tuple[_Id, ...]


class Action(Struct, frozen=True):
    """Something a user did to an item; with `request_id` it answers that slate."""

    user_id: _Id
    item_id: _Id
    action: str
    ts: int
    request_id: _Id | None = None
    value: str | int | float | bool | None = None


class Attribute(Struct, frozen=True):
    """A slowly changing feature of a user, such as the country."""

    user_id: _Id
    name: str
    value: str | int | float | bool
    ts: int


class HeartbeatEvent(Struct, frozen=True):
    """Nothing older than `watermark` (ms) will follow in this partition of this topic."""

    watermark: int


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event, in keys. `order` alone decides where it stands among events of one time: no two differ in less.

    order: (user, kind, key, …): an attribute (value key, name key), an impression (request key, item keys), an
    action (item key, action key, request key or NO_KEY, key of its value or NO_KEY).
    texts: key → text of every id, the user's first.
    """

    ts_ms: int
    order: tuple[Any, ...]
    texts: tuple[tuple[int, str], ...]

    @property
    def user(self) -> int:
        """The user's key."""
        return self.texts[0][0]


_DECODERS: Final[dict[SourceTopic, msgspec.json.Decoder[Any]]] = {
    SourceTopic.IMPRESSIONS: msgspec.json.Decoder(Impression),
    SourceTopic.ACTIONS: msgspec.json.Decoder(Action),
    SourceTopic.ATTRIBUTES: msgspec.json.Decoder(Attribute),
}
_MISSING: Final = "Object missing required field"  # msgspec has one class for this and for a wrong type
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_HEARTBEATS: Final = msgspec.json.Decoder(HeartbeatEvent)


def decode_event(source: SourceTopic, value: bytes | None, *, max_slate: int | None, now_ms: int | None) -> Event | int:
    """Give the event, or the time of a heartbeat in ms.

    Args:
        source: the topic it came from.
        value: the record's value.
        max_slate: items that one impression may show; None: any number.
        now_ms: the latest time an event or a heartbeat may have (the clock plus what it may be ahead); None: any.

    Raises:
        RefusedError: it is a dead-letter.
    """
    if not value:
        raise RefusedError(Reason.EMPTY, "the record has no value")
    try:
        event: Impression | Action | Attribute = _DECODERS[source].decode(value)
    except msgspec.ValidationError as error:
        return _heartbeat_or_refused(value, error, now_ms)
    except _NOT_JSON as error:
        raise RefusedError(Reason.NOT_JSON, str(error)) from None
    _check_time("ts", event.ts, now_ms)
    if isinstance(event, Action):
        return _of_action(event)
    return _of_impression(event, max_slate) if isinstance(event, Impression) else _of_attribute(event)


def decode_waiting(source: SourceTopic, value: bytes) -> Event:
    """Give an event that was accepted before: what the settings would say of it now does not matter."""
    event = decode_event(source, value, max_slate=None, now_ms=None)
    assert isinstance(event, Event)
    return event


def _heartbeat_or_refused(value: bytes, error: msgspec.ValidationError, now_ms: int | None) -> int:
    try:
        watermark = _HEARTBEATS.decode(value).watermark
    except msgspec.ValidationError:
        missing = str(error).startswith(_MISSING)
        raise RefusedError(Reason.MISSING_FIELD if missing else Reason.WRONG_TYPE, str(error)) from None
    except _NOT_JSON as malformed:
        raise RefusedError(Reason.NOT_JSON, str(malformed)) from None
    if watermark != END_OF_TIME_MS:
        _check_time("the heartbeat's watermark", watermark, now_ms)
    return watermark


def _check_time(name: str, ts: int, now_ms: int | None) -> None:
    if not 0 <= ts < LAST_TS_MS:
        raise RefusedError(
            Reason.BAD_TIME, f"{name} {ts} lies outside [0, {LAST_TS_MS}) ms; event time is in milliseconds"
        )
    if now_ms is not None and ts > now_ms:
        raise RefusedError(Reason.FUTURE, f"{name} {ts} lies {ts - now_ms} ms beyond what the worker's clock allows")


def _keyed(field: str, raw: _Id) -> tuple[int, str]:
    text = id_text(raw)
    if not text:
        raise RefusedError(Reason.EMPTY_ID, f"{field} is empty")
    if len(text) * 4 > MAX_ID_BYTES and len(text.encode()) > MAX_ID_BYTES:
        raise RefusedError(Reason.LONG_ID, f"{field} has more than {MAX_ID_BYTES} bytes of UTF-8")
    return id_key(text), text


def _of_action(event: Action) -> Event:
    user, item, action = (
        _keyed("user_id", event.user_id),
        _keyed("item_id", event.item_id),
        _keyed("action", event.action),
    )
    request = NO_KEY if event.request_id is None else _keyed("request_id", event.request_id)[0]
    value = NO_KEY if event.value is None else id_key(msgspec.json.encode(event.value).decode())
    return Event(event.ts, (user[0], Kind.ACTION, item[0], action[0], request, value), (user, item, action))


def _of_impression(event: Impression, max_slate: int | None) -> Event:
    if not event.items:
        raise RefusedError(Reason.EMPTY_SLATE, "items is empty")
    if max_slate is not None and len(event.items) > max_slate:
        raise RefusedError(Reason.LONG_SLATE, f"items has {len(event.items)} ids where max_slate allows {max_slate}")
    user, request = _keyed("user_id", event.user_id), _keyed("request_id", event.request_id)
    items = tuple(_keyed("items", item) for item in event.items)
    keys = tuple(key for key, _ in items)
    if len(set(keys)) < len(keys):
        twice = next(text for place, (key, text) in enumerate(items) if key in keys[:place])
        raise RefusedError(Reason.DUPLICATE_ITEM, f"items shows {twice!r} more than once")
    return Event(event.ts, (user[0], Kind.IMPRESSION, request[0], keys), (user, *items))


def _of_attribute(event: Attribute) -> Event:
    user, name = _keyed("user_id", event.user_id), _keyed("name", event.name)
    raw = event.value if isinstance(event.value, str) else msgspec.json.encode(event.value).decode()
    value = _keyed("value", attribute_text(event.name, raw))
    return Event(event.ts, (user[0], Kind.ATTRIBUTE, value[0], name[0]), (user, value))
