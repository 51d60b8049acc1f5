from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st
from xxhash import xxh3_128

import stream.schema.ids
from model.arrays.digest import digest_arrays
from model.data.catalogue import (
    HEARTBEAT_KEY,
    MAX_ID_BYTES,
    Catalogue,
    Item,
    ItemRecord,
    ItemsWatermark,
    Tombstone,
    decode,
)
from model.errors import ModelError
from stream.example import END_OF_TIME_MS, id_key

texts = st.text(st.characters(codec="utf-8"), max_size=8)
ids = st.sampled_from(["a", "b", "42", "ünï"])
scalars = st.text(st.characters(codec="utf-8"), max_size=4) | st.integers(-9, 9) | st.booleans()
features = st.dictionaries(texts, scalars | st.lists(scalars, max_size=3), max_size=3)
times = st.integers(0, 9)
records = st.builds(
    lambda item, title, feats, ts: ItemRecord(id_key(item), item, title, feats, ts),
    ids,
    st.none() | texts,
    features,
    times,
)
tombstones = st.builds(lambda item, ts: Tombstone(id_key(item), item, ts), ids, times)


def digest(catalogue: Catalogue) -> str:
    """Return the digest of a catalogue."""
    hasher = xxh3_128()
    digest_arrays(hasher, catalogue.state())
    return hasher.hexdigest()


@given(records)
def test_what_is_written_as_json_is_what_is_decoded(record: ItemRecord) -> None:
    """Every field of an item survives the wire; fields we do not know are ignored."""
    wire = {"item_id": record.item_id, "features": record.features, "ts": record.ts_ms, "colour": {"deep": []}}
    if record.title is not None:
        wire["title"] = record.title
    assert decode(record.item_id.encode(), msgspec.json.encode(wire), 0) == record


def test_integers_and_strings_are_one_id() -> None:
    """The item 42 and the item "42" are the same."""
    assert decode(b"42", b'{"item_id": 42, "ts": 1}', 0) == decode(None, b'{"item_id": "42", "ts": 1}', 0)


def test_an_absent_value_withdraws_at_the_time_of_the_kafka_record() -> None:
    """A tombstone has only its key and its record's timestamp."""
    assert decode(b"42", None, 17) == Tombstone(id_key("42"), "42", 17)


@pytest.mark.parametrize("watermark", [0, 5, END_OF_TIME_MS])
def test_a_heartbeat_is_a_watermark(watermark: int) -> None:
    """A heartbeat on items is a watermark, up to the end of time."""
    assert decode(HEARTBEAT_KEY, b'{"watermark": %d}' % watermark, 0) == ItemsWatermark(watermark)


@pytest.mark.parametrize(
    ("key", "value", "timestamp", "sentence"),
    [
        (b"a", b"{", 0, r"key b'a' is no item: .*truncated"),
        (b"a", b"[]", 0, r"Expected `object`, got `array`"),
        (b"a", b'{"item_id": "\xff", "ts": 1}', 0, r"is no item: .*utf-8"),
        (b"a", b'{"item_id": "\\ud800", "ts": 1}', 0, r"is no item: .*surrogate"),
        (b"a", b'{"ts": 1}', 0, r"has no item_id; an item needs item_id and ts"),
        (b"a", b'{"item_id": "a"}', 0, r"has no ts; an item needs"),
        (b"a", b'{"item_id": true, "ts": 1}', 0, r"at `\$.item_id`"),
        (b"a", b'{"item_id": "a", "ts": -1}', 0, r"at `\$.ts`"),
        (b"a", b'{"item_id": "a", "ts": 1700000000000000}', 0, r"at `\$.ts`"),
        (HEARTBEAT_KEY, b'{"watermark": 1700000000000000}', 0, r"watermark 1700000000000000: event time is in milli"),
        (b"a", b'{"item_id": "a", "ts": 1, "features": {"x": {}}}', 0, r"at `\$.features"),
        (b"", b'{"item_id": "", "ts": 1}', 0, r"item id of 0 bytes; 1 to 256"),
        (None, b'{"item_id": "%s", "ts": 1}' % (b"x" * 257), 0, r"item id of 257 bytes"),
        (b"b", b'{"item_id": "a", "ts": 1}', 0, r"key b'b' describes item 'a'; the key must be"),
        (None, None, 1, r"without a value has the key None"),
        (HEARTBEAT_KEY, None, 1, r"without a value has the key b'\\x00heartbeat'"),
        (b"a", None, -1, r"has the Kafka timestamp -1, which is no time"),
        (b"\xff", None, 1, r"no UTF-8 text"),
    ],
)
def test_what_is_no_item_is_refused_with_a_reason(
    key: bytes | None, value: bytes | None, timestamp: int, sentence: str
) -> None:
    """The sentence names the record and what is wrong with it."""
    with pytest.raises(ModelError, match=sentence):
        decode(key, value, timestamp)


@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=40), st.integers(-1, 2**62))
def test_any_bytes_are_decoded_or_refused(key: bytes | None, value: bytes | None, timestamp: int) -> None:
    """Garbage raises ModelError and nothing else."""
    with suppress(ModelError):
        decode(key, value, timestamp)


def test_the_limit_of_ids_is_that_of_the_stream() -> None:
    """An id that events may carry can be described by the catalogue too."""
    assert MAX_ID_BYTES == stream.schema.ids.MAX_ID_BYTES


@given(st.lists(records | tombstones, max_size=30))
def test_the_newest_record_of_each_item_wins(stream_of_records: list[ItemRecord | Tombstone]) -> None:
    """Against the rule by hand: a stable sort by time, the last one counts, a tombstone hides the item."""
    catalogue = Catalogue()
    for record in stream_of_records:
        catalogue.apply(record)
    newest = {record.key: record for record in sorted(stream_of_records, key=lambda record: record.ts_ms)}
    for key, record in newest.items():
        if isinstance(record, Tombstone):
            assert catalogue.get(key) is None
        else:
            assert catalogue.get(key) == Item(record.item_id, record.title, record.features, record.ts_ms)
    assert len(catalogue) == sum(isinstance(record, ItemRecord) for record in newest.values())


@given(st.lists(records | tombstones, max_size=20), st.lists(records | tombstones, max_size=20))
def test_state_is_the_whole_of_it(before: list[ItemRecord | Tombstone], after: list[ItemRecord | Tombstone]) -> None:
    """A catalogue made from a state digests alike, and goes on as the one it was taken from."""
    catalogue = Catalogue()
    for record in before:
        catalogue.apply(record)
    again = Catalogue.from_state(catalogue.state())
    assert digest(again) == digest(catalogue)
    assert [again.apply(record) for record in after] == [catalogue.apply(record) for record in after]
    assert digest(again) == digest(catalogue)
    assert all(np.array_equal(a, b) for a, b in zip(again.state().values(), catalogue.state().values(), strict=True))


def test_two_ids_with_one_key_are_counted_and_never_merged() -> None:
    """The first id keeps the key; the second is a collision."""
    catalogue = Catalogue()
    assert catalogue.apply(ItemRecord(7, "first", "Dune", {}, 1))
    assert not catalogue.apply(ItemRecord(7, "second", "Solaris", {}, 2))
    assert not catalogue.apply(Tombstone(7, "second", 2))
    assert catalogue.collisions == 2
    assert catalogue.get(7) == Item("first", "Dune", {}, 1)
