"""Records of `items` obey the bounds of events: by their own Kafka timestamp."""

import pytest

from model.data.catalogue import Catalogue, ItemRecord, ItemsWatermark, Tombstone
from model.data.item_times import decode_timed
from model.errors import ModelError
from stream.example import END_OF_TIME_MS, TimeBounds, id_key
from stream.schema.record_time import Headers, replay_headers
from tests.factories import Record

NOW_MS = 1_700_000_000_000
YEAR_2150_MS = 5_680_281_600_000
BOUNDS = TimeBounds(future_ms=300_000)
BEAT_KEY = b"\x00heartbeat"


def item(ts_ms: int, kafka_ms: int = NOW_MS, headers: Headers = (), title: str = "t") -> Record:
    """Return a record that describes item x."""
    return Record(0, b"x", b'{"item_id":"x","ts":%d,"title":"%s"}' % (ts_ms, title.encode()), kafka_ms, headers)


def beat(watermark_ms: int, headers: Headers = ()) -> Record:
    """Return a heartbeat on items."""
    return Record(0, BEAT_KEY, b'{"watermark":%d}' % watermark_ms, NOW_MS, headers)


@pytest.mark.parametrize("record", [item(YEAR_2150_MS), item(NOW_MS + 300_001), beat(END_OF_TIME_MS)])
def test_a_live_record_of_the_future_is_refused(record: Record) -> None:
    """The sentence names the key, how far ahead it lies, and the setting."""
    with pytest.raises(ModelError, match=r"with key b'.*' lies \d+ ms ahead of its Kafka timestamp.*stream.future_s"):
        decode_timed(record, BOUNDS)


def test_a_live_record_in_seconds_is_refused() -> None:
    """It would be older than all that is known of its item, and change nothing."""
    with pytest.raises(ModelError, match=r"with key b'x' has its ts, 1700000000, in seconds; send milliseconds"):
        decode_timed(item(NOW_MS // 1000), BOUNDS)


def test_a_replayed_record_has_the_time_it_says() -> None:
    """Also the end of time, and a tombstone, whose time is in the header."""
    headers = replay_headers(YEAR_2150_MS)
    assert decode_timed(item(YEAR_2150_MS, headers=headers), BOUNDS).ts_ms == YEAR_2150_MS  # type: ignore[union-attr]
    assert decode_timed(beat(END_OF_TIME_MS, headers), BOUNDS) == ItemsWatermark(END_OF_TIME_MS)
    tombstone = Record(0, b"x", None, NOW_MS, replay_headers(7))
    assert decode_timed(tombstone, BOUNDS) == Tombstone(id_key("x"), "x", 7)
    assert decode_timed(tombstone, TimeBounds(replays=False)) == Tombstone(id_key("x"), "x", NOW_MS)


def test_a_correction_of_a_record_ahead_of_kafkas_clock_is_the_newer_one() -> None:
    """What lies 290 s ahead counts as of its Kafka timestamp, so that it neither wins for ever nor moves time."""
    catalogue = Catalogue()
    for record in (item(NOW_MS + 290_000, title="wrong"), item(NOW_MS + 5_000, NOW_MS + 5_000, title="right")):
        decoded = decode_timed(record, BOUNDS)
        assert isinstance(decoded, ItemRecord)
        assert decoded.ts_ms == record.timestamp
        assert catalogue.apply(decoded)
    found = catalogue.get(id_key("x"))
    assert found is not None
    assert found.title == "right"
    assert decode_timed(beat(NOW_MS + 290_000), BOUNDS) == ItemsWatermark(NOW_MS)
