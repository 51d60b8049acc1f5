"""When a record of `items` takes its place: by its own time, but no later than Kafka's time of the record.

The rules are those of events (stream/schema/record_time.py): a live record that lies further ahead of its Kafka
timestamp than `future_s` is refused; another one counts as of that timestamp at the latest, so that a correction of it
is the newer one and no producer's clock holds the catalogue back. A replayed record has the time it says.
"""

from dataclasses import replace

from model.data.catalogue import ItemRecord, ItemsWatermark, Tombstone, decode
from model.errors import ModelError
from stream.example import Record, TimeBounds, unreadable


def decode_timed(record: Record, bounds: TimeBounds) -> ItemRecord | Tombstone | ItemsWatermark:
    """Return what a record of `items` says, as of the time at which it counts.

    Raises:
        ModelError: The record is refused; the sentence says why.
    """
    if why := unreadable(record):
        raise ModelError(f"An items record with key {record.key!r} cannot be read: {why}.")
    replayed_ms = bounds.replayed_ms(record)
    decoded = decode(record.key, record.value, record.timestamp if replayed_ms is None else replayed_ms)
    if replayed_ms is not None:
        return decoded
    if isinstance(decoded, ItemsWatermark):
        return ItemsWatermark(_bounded(record, bounds, decoded.watermark_ms))
    return replace(decoded, ts_ms=_bounded(record, bounds, decoded.ts_ms))


def _bounded(record: Record, bounds: TimeBounds, ts_ms: int) -> int:
    latest_ms = bounds.latest_ms(record)
    if latest_ms is not None and bounds.in_seconds(ts_ms, latest_ms):
        raise ModelError(f"An items record with key {record.key!r} has its ts, {ts_ms}, in seconds; send milliseconds.")
    if latest_ms is not None and ts_ms > latest_ms:
        raise ModelError(
            f"An items record with key {record.key!r} lies {ts_ms - record.timestamp} ms ahead of its Kafka timestamp, "
            f"more than stream.future_s allows; send it again with a ts in milliseconds that is not in the future."
        )
    return bounds.reached_ms(record, ts_ms)
