"""The catalogue: titles and features of items, and which are withdrawn, as read from topic `items`.

    record (JSON), key = item id text                        meaning
    {"item_id", "title"?, "features"? {name: value}, "ts"}   the item has these from event time `ts` (ms) on
    null                                                     the item is withdrawn, at the Kafka record's timestamp
    {"watermark": ms}, key = HEARTBEAT_KEY                   nothing older will follow in this partition

Records of one item may come in any order: the newest time wins, and at equal times the later record. A record that
cannot be decoded is refused with a sentence; the trainer counts and logs it, and goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
from msgspec import UNSET, Meta, UnsetType
from numpy.typing import NDArray

from model.arrays.byte_strings import pack, unpack
from model.errors import ModelError
from stream.example import (
    END_OF_TIME_MS,
    LAST_TS_MS,
    MAX_ID_BYTES,
    JsonBoundsError,
    check_json,
    id_key,
    id_text,
)

HEARTBEAT_KEY: Final = b"\x00heartbeat"  # fixed, so that compaction keeps the last heartbeat of a partition

Scalar: TypeAlias = str | int | float | bool | None
Features: TypeAlias = dict[str, Scalar | list[Scalar]]


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """What an item is from `ts_ms` on."""

    key: int
    item_id: str
    title: str | None
    features: Features
    ts_ms: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The item is withdrawn at `ts_ms`: it is not recommended again unless a newer record brings it back."""

    key: int
    item_id: str
    ts_ms: int


@dataclass(frozen=True, slots=True)
class ItemsWatermark:
    """Nothing older than `watermark_ms` will follow in this partition of `items`."""

    watermark_ms: int


class WireRecord(msgspec.Struct):
    """An item as its JSON says it, which needs `item_id` and `ts`; or a heartbeat, which has `watermark` alone."""

    item_id: str | int | UnsetType = UNSET
    """Id of the item, which is also the record's key."""
    title: str | None = None
    """What people read."""
    features: Features | None = None
    """Name to a value or to a list of values."""
    ts: Annotated[int, Meta(ge=0, lt=LAST_TS_MS)] | UnsetType = UNSET
    """Event time, ms since 1970, from which on the item is so."""
    watermark: Annotated[int, Meta(ge=0, le=END_OF_TIME_MS)] | UnsetType = UNSET
    """Nothing older will follow in this partition."""


_decoder: Final = msgspec.json.Decoder(WireRecord)


def decode(key: bytes | None, value: bytes | None, timestamp: int) -> ItemRecord | Tombstone | ItemsWatermark:
    """Decode one record of `items`; `timestamp` is the Kafka record's, in ms.

    Raises:
        ModelError: The record is refused; the sentence says why.
    """
    if value is None:
        return _tombstone(key, timestamp)
    try:
        check_json(value)
        wire = _decoder.decode(value)
    except (JsonBoundsError, msgspec.DecodeError, UnicodeError) as error:
        raise ModelError(f"An items record with key {key!r} is no item: {error}.") from None
    if wire.watermark is not UNSET:
        if LAST_TS_MS <= wire.watermark < END_OF_TIME_MS:
            raise ModelError(f"A heartbeat on items has the watermark {wire.watermark}: event time is in milliseconds.")
        return ItemsWatermark(wire.watermark)
    if wire.item_id is UNSET or wire.ts is UNSET:
        missing = "item_id" if wire.item_id is UNSET else "ts"
        raise ModelError(f"An items record with key {key!r} has no {missing}; an item needs item_id and ts.")
    item_id = _checked(id_text(wire.item_id))
    if key is not None and key != item_id.encode():
        raise ModelError(
            f"An items record with key {key!r} describes item {item_id!r}; the key must be the item's id, "
            "since compaction and tombstones go by it."
        )
    features: Features = {name: value for name, value in (wire.features or {}).items() if value is not None}
    return ItemRecord(id_key(item_id), item_id, wire.title, features, wire.ts)


def _tombstone(key: bytes | None, timestamp: int) -> Tombstone:
    if not key or key == HEARTBEAT_KEY:
        raise ModelError(f"An items record without a value has the key {key!r}, so that it withdraws no item.")
    if not 0 <= timestamp < LAST_TS_MS:
        raise ModelError(f"The tombstone of item {key!r} has the Kafka timestamp {timestamp}, which is no time.")
    try:
        item_id = _checked(key.decode())
    except UnicodeDecodeError:
        raise ModelError(f"A tombstone has the key {key!r}, which is no UTF-8 text and so no item's id.") from None
    return Tombstone(id_key(item_id), item_id, timestamp)


def _checked(item_id: str) -> str:
    size = len(item_id.encode())
    if not 0 < size <= MAX_ID_BYTES:
        raise ModelError(f"An items record has an item id of {size} bytes; 1 to {MAX_ID_BYTES} are allowed.")
    return item_id


class Item(NamedTuple):
    """What the catalogue knows of one item."""

    item_id: str
    title: str | None
    features: Features
    ts_ms: int


class _Entry(NamedTuple):
    item_id: str
    ts_ms: int
    body: bytes | None  # JSON [title, features]; None: withdrawn


@dataclass(slots=True)
class Catalogue:
    """The newest record of each item key; of a withdrawn item only its id and the time are kept.

    >>> catalogue = Catalogue()
    >>> catalogue.apply(decode(b"42", b'{"item_id": 42, "title": "Dune", "ts": 7}', 0))
    True
    >>> catalogue.get(id_key("42"))
    Item(item_id='42', title='Dune', features={}, ts_ms=7)
    """

    collisions: int = 0
    """Records refused because their item's key is that of another item's id."""
    _entries: dict[int, _Entry] = field(default_factory=dict)

    def apply(self, record: ItemRecord | Tombstone) -> bool:
        """Take a record in; return whether it changed anything, which an older or a colliding record does not."""
        known = self._entries.get(record.key)
        if known is not None and known.item_id != record.item_id:
            self.collisions += 1
            return False
        if known is not None and known.ts_ms > record.ts_ms:
            return False
        body = None if isinstance(record, Tombstone) else _encode((record.title, record.features))
        self._entries[record.key] = _Entry(record.item_id, record.ts_ms, body)
        return True

    def get(self, key: int) -> Item | None:
        """Return the item of a key; None if it was never described, or is withdrawn."""
        entry = self._entries.get(key)
        if entry is None or entry.body is None:
            return None
        title, features = msgspec.json.decode(entry.body)
        return Item(entry.item_id, title, features, entry.ts_ms)

    def id_of(self, key: int) -> str:
        """Return the id of a key, of a withdrawn item too; "" where no record has named it."""
        entry = self._entries.get(key)
        return entry.item_id if entry else ""

    def __len__(self) -> int:
        """Return the number of items described and not withdrawn."""
        return sum(entry.body is not None for entry in self._entries.values())

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays in order of the keys: C items, ids and bodies as bytes [*] with offsets [C+1]."""
        keys = sorted(self._entries)
        entries = [self._entries[key] for key in keys]
        ids, id_offsets = pack([entry.item_id.encode() for entry in entries])
        bodies, body_offsets = pack([entry.body or b"" for entry in entries])
        return {
            "keys": np.array(keys, np.uint64),
            "ts_ms": np.array([entry.ts_ms for entry in entries], np.int64),
            "ids": ids,
            "id_offsets": id_offsets,
            "bodies": bodies,
            "body_offsets": body_offsets,
            "collisions": np.array([self.collisions], np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[Any]]) -> "Catalogue":
        """Return the catalogue of a state."""
        ids = unpack(state["ids"], state["id_offsets"])
        bodies = unpack(state["bodies"], state["body_offsets"])
        entries = {
            key: _Entry(item_id.decode(), ts_ms, body or None)
            for key, ts_ms, item_id, body in zip(
                state["keys"].tolist(), state["ts_ms"].tolist(), ids, bodies, strict=True
            )
        }
        return cls(int(state["collisions"][0]), entries)


def _encode(body: tuple[str | None, Features]) -> bytes:
    return msgspec.json.encode(body, order="deterministic")
