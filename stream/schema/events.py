"""Events as they come in on Kafka: JSON of one of three types, or a heartbeat; decoded or refused with a reason.

Additional fields are ignored. Ids are strings or integers (42 and "42" are the same id). `ts` is event time in ms since
1970. Bytes are bounded before they are decoded (bounds.py). What passes here has bounded ids, a bounded slate and a
possible time, so later steps need not check again.

    Impression, Action, Attribute                     an event as its JSON says it
    ImpressionEvent, ActionEvent, AttributeEvent      the same with ids as 64-bit keys
    Forget, ForgetEvent                               erase a user; ForgetEvent and the three above are `Event`
"""

from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from stream.schema.bounds import JsonBoundsError, TooDeepError, check_json
from stream.schema.dead_letters import Reason, RefusedError
from stream.schema.ids import MAX_ID_BYTES, NO_KEY, BadIdError, attribute_text, id_key, id_text, keyed
from stream.schema.record_time import TimeBounds
from stream.schema.tokens import END_OF_TIME_MS, LAST_TS_MS, Kind
from stream.schema.topics import SourceTopic

_Id = str | int


class Impression(Struct, frozen=True, gc=False):
    """One request's slate: the items shown together."""

    user_id: _Id
    """Who saw it."""
    request_id: _Id
    """What actions name to answer it."""
    ts: int
    """Event time, ms since 1970."""
    items: tuple[_Id, ...]
    """Distinct items in the order of their places, at most stream.max_slate."""


class Action(Struct, frozen=True, gc=False):
    """Something that a user did to an item; with `request_id` it answers that slate."""

    user_id: _Id
    """Who did it."""
    item_id: _Id
    """To which item."""
    action: str
    """What was done: click, like, …"""
    ts: int
    """Event time, ms since 1970."""
    request_id: _Id | None = None
    """The slate that it answers; without one, the newest open one that shows the item, or none."""
    value: str | int | float | bool | None = None
    """Tells events apart that are otherwise equal."""


class Attribute(Struct, frozen=True, gc=False):
    """A slowly changing feature of a user, such as the country."""

    user_id: _Id
    """Whose feature it is."""
    name: str
    """Name of the feature."""
    value: str | int | float | bool
    """What it is from then on."""
    ts: int
    """Event time, ms since 1970."""
    forget: bool = False
    """Never true: that erases a user, and is a record of its own."""


class Forget(Struct, frozen=True, gc=False):
    """On `attributes`: erase a user, with everything up to `ts`."""

    user_id: _Id
    """Who is erased."""
    forget: Literal[True]
    """Says that this is no feature."""
    ts: int
    """Event time, ms since 1970, up to which everything is erased."""
    name: None = None
    """Never there: it would be a feature."""
    value: None = None
    """Never there, either."""


class Heartbeat(Struct, frozen=True, gc=False):
    """Nothing older than `watermark` (ms) will follow in this partition of this topic."""

    watermark: int
    """Event time, ms since 1970; the end of time, 9007199254740991, ends a replayed log."""


class AttributeEvent(Struct, frozen=True, gc=False):
    """A decoded attribute: ids are keys here and below."""

    ts_ms: int
    user: int
    user_text: str
    name: int
    value: int
    """The key of "name=value"."""
    texts: tuple[tuple[int, str], ...]
    """(key, text) of every id but the user's that becomes part of a token; here and below."""

    @property
    def sort_key(self) -> tuple[int, int, int, int]:
        """Where the event stands among those of its time; two events with one key are one event."""
        return self.user, Kind.ATTRIBUTE, self.value, self.name


class ImpressionEvent(Struct, frozen=True, gc=False):
    """A decoded impression."""

    ts_ms: int
    user: int
    user_text: str
    request: int
    items: tuple[int, ...]
    texts: tuple[tuple[int, str], ...]

    @property
    def sort_key(self) -> tuple[int, int, int, tuple[int, ...]]:
        """Where the event stands among those of its time; two events with one key are one event."""
        return self.user, Kind.IMPRESSION, self.request, self.items


class ActionEvent(Struct, frozen=True, gc=False):
    """A decoded action; `request` and `value` are NO_KEY where it has none."""

    ts_ms: int
    user: int
    user_text: str
    item: int
    action: int
    request: int
    value: int
    texts: tuple[tuple[int, str], ...]

    @property
    def sort_key(self) -> tuple[int, int, int, int, int, int]:
        """Where the event stands among those of its time; two events with one key are one event."""
        return self.user, Kind.ACTION, self.item, self.action, self.request, self.value


class ForgetEvent(Struct, frozen=True, gc=False):
    """A user who is erased."""

    ts_ms: int
    user: int
    user_text: str
    texts: tuple[tuple[int, str], ...] = ()

    @property
    def sort_key(self) -> tuple[int, int]:
        """The last of the user's events of its time: those are erased as well."""
        return self.user, len(Kind)


Event = AttributeEvent | ImpressionEvent | ActionEvent | ForgetEvent

_DECODERS: Final[dict[SourceTopic, msgspec.json.Decoder[Any]]] = {
    SourceTopic.IMPRESSIONS: msgspec.json.Decoder(Impression),
    SourceTopic.ACTIONS: msgspec.json.Decoder(Action),
    SourceTopic.ATTRIBUTES: msgspec.json.Decoder(Attribute),
}
_MISSING: Final = "Object missing required field"  # msgspec has one class for this and for a wrong type
_NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError)
_HEARTBEATS: Final = msgspec.json.Decoder(Heartbeat)
_FORGETS: Final = msgspec.json.Decoder(Forget)


def decode_event(source: SourceTopic, value: bytes | None, *, max_slate: int | None, now_ms: int | None) -> Event | int:
    """Return the event, or the time of a heartbeat in ms.

    Args:
        source: The topic it came from.
        value: The record's value.
        max_slate: How many items one impression may show; None: any number.
        now_ms: The latest time that the record may have (record_time.py); None: any time.

    Raises:
        RefusedError: The record is a dead-letter.
    """
    if not value:
        raise RefusedError(Reason.EMPTY, "the record has no value")
    try:
        check_json(value)
        event: Impression | Action | Attribute = _DECODERS[source].decode(value)
    except msgspec.ValidationError as error:
        if source is SourceTopic.ATTRIBUTES and (forget := _forget(value)) is not None:
            _check_time("ts", forget.ts_ms, now_ms)
            return forget
        return _heartbeat_or_refused(value, error, now_ms)
    except JsonBoundsError as error:
        reason = Reason.TOO_DEEP if isinstance(error, TooDeepError) else Reason.TOO_LARGE
        raise RefusedError(reason, str(error)) from None
    except _NOT_JSON as error:
        raise RefusedError(Reason.NOT_JSON, str(error)) from None
    _check_time("ts", event.ts, now_ms)
    if isinstance(event, Action):
        return _action(event)
    return _impression(event, max_slate) if isinstance(event, Impression) else _attribute(event)


def decode_waiting(source: SourceTopic, value: bytes) -> Event:
    """Decode an event that was accepted before, whatever the settings would say about it now.

    Raises:
        RefusedError: It cannot be decoded any more: another version accepted it, or the store was tampered with.
    """
    event = decode_event(source, value, max_slate=None, now_ms=None)
    if isinstance(event, int):
        raise RefusedError(Reason.WRONG_TYPE, "a heartbeat does not wait")
    return event


def _forget(value: bytes) -> ForgetEvent | None:
    """Return the request to forget a user, None if the record is none."""
    try:
        asked = _FORGETS.decode(value)
    except (msgspec.DecodeError, *_NOT_JSON):
        return None
    return ForgetEvent(asked.ts, *_keyed("user_id", asked.user_id))


def _heartbeat_or_refused(value: bytes, error: msgspec.ValidationError, now_ms: int | None) -> int:
    try:
        watermark = _HEARTBEATS.decode(value).watermark
    except msgspec.ValidationError as own:
        found = error if str(own).startswith(_MISSING) else own  # a heartbeat has a watermark, if of another type
        missing = str(found).startswith(_MISSING)
        raise RefusedError(Reason.MISSING_FIELD if missing else Reason.WRONG_TYPE, str(found)) from None
    except _NOT_JSON as malformed:
        raise RefusedError(Reason.NOT_JSON, str(malformed)) from None
    if watermark == END_OF_TIME_MS and now_ms is not None:
        raise RefusedError(Reason.FUTURE, "only a replayed record (header hstu-replay) may end a log")
    if watermark != END_OF_TIME_MS:
        _check_time("the heartbeat's watermark", watermark, now_ms)
    return watermark


def _check_time(name: str, ts: int, now_ms: int | None) -> None:
    if not 0 <= ts < LAST_TS_MS:
        raise RefusedError(
            Reason.BAD_TIME, f"{name} {ts} lies outside [0, {LAST_TS_MS}) ms; event time is in milliseconds"
        )
    if now_ms is None:
        return
    if TimeBounds.in_seconds(ts, now_ms):
        raise RefusedError(Reason.BAD_TIME, f"{name} {ts} is in seconds; event time is in milliseconds")
    if ts > now_ms:
        raise RefusedError(Reason.FUTURE, f"{name} {ts} lies {ts - now_ms} ms beyond what its Kafka timestamp allows")


def _keyed(field: str, raw: _Id) -> tuple[int, str]:
    try:
        return keyed(raw)
    except BadIdError:
        raise _bad_id(field, raw) from None


def _bad_id(field: str, raw: _Id) -> RefusedError:
    if not id_text(raw):
        return RefusedError(Reason.EMPTY_ID, f"{field} is empty")
    return RefusedError(Reason.LONG_ID, f"{field} has more than {MAX_ID_BYTES} bytes of UTF-8")


def _request(raw: _Id) -> int:
    """Return the key of a request's id, which comes once or twice and is not kept."""
    try:
        return keyed.__wrapped__(raw)[0]
    except BadIdError:
        raise _bad_id("request_id", raw) from None


def _action(event: Action) -> ActionEvent:
    user, user_text = _keyed("user_id", event.user_id)
    item, action = _keyed("item_id", event.item_id), _keyed("action", event.action)
    request = NO_KEY if event.request_id is None else _request(event.request_id)
    value = NO_KEY if event.value is None else id_key(msgspec.json.encode(event.value).decode())
    return ActionEvent(event.ts, user, user_text, item[0], action[0], request, value, (item, action))


def _impression(event: Impression, max_slate: int | None) -> ImpressionEvent:
    if not event.items:
        raise RefusedError(Reason.EMPTY_SLATE, "items is empty")
    if max_slate is not None and len(event.items) > max_slate:
        raise RefusedError(Reason.LONG_SLATE, f"items has {len(event.items)} ids where max_slate allows {max_slate}")
    user, user_text = _keyed("user_id", event.user_id)
    request = _request(event.request_id)
    try:
        items = tuple(map(keyed, event.items))
    except BadIdError:
        items = tuple([_keyed("items", item) for item in event.items])  # raises
    keys = tuple([key for key, _ in items])
    if len(set(keys)) < len(keys):
        twice = next(text for place, (key, text) in enumerate(items) if key in keys[:place])
        raise RefusedError(Reason.DUPLICATE_ITEM, f"items shows {twice!r} more than once")
    return ImpressionEvent(event.ts, user, user_text, request, keys, items)


def _attribute(event: Attribute) -> AttributeEvent:
    if event.forget:
        raise RefusedError(
            Reason.WRONG_TYPE, "a feature and forget in one record; to erase a user, leave out the feature"
        )
    user, user_text = _keyed("user_id", event.user_id)
    name, _ = _keyed("name", event.name)
    raw = event.value if isinstance(event.value, str) else msgspec.json.encode(event.value).decode()
    value = _keyed("value", attribute_text(event.name, raw))
    return AttributeEvent(event.ts, user, user_text, name, value[0], (value,))
