import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from stream.schema.dead_letters import Reason, RefusedError
from stream.schema.events import ActionEvent, AttributeEvent, Event, ImpressionEvent, decode_event
from stream.schema.ids import NO_KEY, id_key
from stream.schema.tokens import END_OF_TIME_MS, LAST_TS_MS, Kind
from stream.schema.topics import SourceTopic

S, A, T = SourceTopic.IMPRESSIONS, SourceTopic.ACTIONS, SourceTopic.ATTRIBUTES
IMPRESSION = {"user_id": "u", "request_id": "r", "ts": 5, "items": ["a", 1]}
ACTION = {"user_id": "u", "item_id": "a", "action": "click", "ts": 5}
ATTRIBUTE = {"user_id": "u", "name": "country", "value": "NO", "ts": 5}
GOOD: dict[SourceTopic, dict[str, Any]] = {S: IMPRESSION, A: ACTION, T: ATTRIBUTE}


def decode(source: SourceTopic, value: bytes | None, now_ms: int | None = None) -> Event | int:
    return decode_event(source, value, max_slate=100, now_ms=now_ms)


def bad(source: SourceTopic, **changed: Any) -> bytes:
    return json.dumps(GOOD[source] | changed).encode()


REFUSED = [
    (A, None, Reason.EMPTY),
    (A, b"", Reason.EMPTY),
    (A, b"{", Reason.NOT_JSON),
    (A, b"\xff\xfe", Reason.NOT_JSON),
    (A, b'{"user_id":"\xed\xa0\x80","item_id":"a","action":"x","ts":1}', Reason.NOT_JSON),
    (A, b'{"user_id":"\\ud800","item_id":"a","action":"x","ts":1}', Reason.NOT_JSON),
    (A, b'{"x":' + b"[" * 100_000, Reason.TOO_DEEP),
    (T, bad(T, x=json.loads("[" * 32 + "]" * 32)), Reason.TOO_DEEP),
    (S, b'{"watermark":5,"x":' + b'{"y":' * 900 + b"1" + b"}" * 901, Reason.TOO_DEEP),
    (A, bad(A, x="y" * (1 << 20)), Reason.TOO_LARGE),
    (A, b" " * (1 << 24), Reason.TOO_LARGE),
    (S, b'{"user_id":{', Reason.NOT_JSON),
    (A, b"[1]", Reason.WRONG_TYPE),
    (A, b"null", Reason.WRONG_TYPE),
    (A, bad(A, ts="5"), Reason.WRONG_TYPE),
    (A, bad(A, ts=1.5), Reason.WRONG_TYPE),
    (A, bad(A, user_id=None), Reason.WRONG_TYPE),
    (A, bad(A, item_id=True), Reason.WRONG_TYPE),
    (A, bad(A, value=[1]), Reason.WRONG_TYPE),
    (S, bad(S, items="abc"), Reason.WRONG_TYPE),
    (T, bad(T, forget=True), Reason.WRONG_TYPE),
    (T, bad(T, forget=True, value=[1]), Reason.WRONG_TYPE),
    (A, b'{"user_id":"u","ts":5}', Reason.MISSING_FIELD),
    (A, bad(A, ts=-1), Reason.BAD_TIME),
    (A, bad(A, ts=LAST_TS_MS), Reason.BAD_TIME),
    (A, bad(A, ts=10**30), Reason.BAD_TIME),
    (A, b'{"watermark":"x"}', Reason.WRONG_TYPE),
    (A, b'{"watermark":1.5}', Reason.WRONG_TYPE),
    (A, b'{"watermark":null}', Reason.WRONG_TYPE),
    (A, b'{"watermark":-5}', Reason.BAD_TIME),
    (A, b'{"watermark":1700000000000000}', Reason.BAD_TIME),
    (A, b'{"watermark":%d}' % LAST_TS_MS, Reason.BAD_TIME),
    (A, b'{"watermark":%d}' % (END_OF_TIME_MS - 1), Reason.BAD_TIME),
    (A, b'{"watermark":%d}' % (END_OF_TIME_MS + 1), Reason.BAD_TIME),
    (A, bad(A, user_id=""), Reason.EMPTY_ID),
    (A, bad(A, action=""), Reason.EMPTY_ID),
    (S, bad(S, items=["a", ""]), Reason.EMPTY_ID),
    (A, bad(A, item_id="x" * 257), Reason.LONG_ID),
    (A, bad(A, item_id="å" * 129), Reason.LONG_ID),
    (T, bad(T, value="x" * 300), Reason.LONG_ID),
    (S, bad(S, items=[]), Reason.EMPTY_SLATE),
    (S, bad(S, items=list(range(10_000))), Reason.LONG_SLATE),
    (S, bad(S, items=["a", "b", "a"]), Reason.DUPLICATE_ITEM),
    (S, bad(S, items=[7, "7"]), Reason.DUPLICATE_ITEM),
]


@pytest.mark.parametrize(("source", "value", "reason"), REFUSED)
def test_bad_input_is_refused_with_its_reason(source: SourceTopic, value: bytes | None, reason: Reason) -> None:
    """Every kind of bad input has one reason, and a sentence."""
    with pytest.raises(RefusedError) as refused:
        decode(source, value)
    assert refused.value.reason == reason
    assert refused.value.detail


def test_the_future_begins_where_the_worker_says() -> None:
    """An event or a heartbeat exactly at the limit passes, and so does the end of time."""
    assert isinstance(decode(A, bad(A, ts=1000), now_ms=1000), Event)
    with pytest.raises(RefusedError, match="future: ts 1001 lies 1 ms beyond"):
        decode(A, bad(A, ts=1001), now_ms=1000)
    assert decode(A, b'{"watermark":1000}', now_ms=1000) == 1000
    assert decode(A, b'{"watermark":%d}' % END_OF_TIME_MS) == END_OF_TIME_MS
    with pytest.raises(RefusedError, match="future: only a replayed record"):
        decode(A, b'{"watermark":%d}' % END_OF_TIME_MS, now_ms=1000)
    with pytest.raises(RefusedError, match="future: the heartbeat's watermark 1001 lies 1 ms beyond"):
        decode(A, b'{"watermark":1001}', now_ms=1000)


def test_seconds_of_a_live_record_are_told_by_its_kafka_timestamp() -> None:
    """What is of 1970 in milliseconds and of the last years in seconds; a recorded log may be of any time."""
    now_ms = 1_790_000_000_000
    for ts in (1_790_000_000, 1_789_999_999, 1_700_000_000):
        with pytest.raises(RefusedError, match=f"bad-time: ts {ts} is in seconds; event time is in milliseconds"):
            decode(A, bad(A, ts=ts), now_ms=now_ms)
        assert isinstance(decode(A, bad(A, ts=ts)), Event)
    with pytest.raises(RefusedError, match="bad-time: the heartbeat's watermark 1790000000 is in seconds"):
        decode(A, b'{"watermark":1790000000}', now_ms=now_ms)
    assert isinstance(decode(A, bad(A, ts=86_400_000), now_ms=now_ms), Event)


def test_an_integer_and_its_text_are_one_id() -> None:
    """42 and "42" decode to equal events; additional fields are ignored."""
    events = [decode(A, bad(A, user_id=u, item_id=u, extra={"x": [1]})) for u in (42, "42")]
    assert events[0] == events[1]


def test_events_in_keys() -> None:
    """Each type has the keys and texts that the joiner expects."""
    impression, action, attribute = (decode(source, bad(source)) for source in (S, A, T))
    user, a, one, click, country = map(id_key, ("u", "a", "1", "click", "country=NO"))
    assert impression == ImpressionEvent(5, user, "u", id_key("r"), (a, one), ((a, "a"), (one, "1")))
    assert action == ActionEvent(5, user, "u", a, click, NO_KEY, NO_KEY, ((a, "a"), (click, "click")))
    assert attribute == AttributeEvent(5, user, "u", id_key("country"), country, ((country, "country=NO"),))


def test_the_order_of_one_instant() -> None:
    """By user, then attributes, impressions, actions; a field that tells two events apart tells their keys apart."""
    wires = [(T, {}), (S, {}), (S, {"items": ["a"]}), (A, {}), (A, {"value": 1}), (A, {"request_id": "r"})]
    events = [decode(source, bad(source, **changed)) for source, changed in wires]
    keys = [event.sort_key for event in events if not isinstance(event, int)]
    assert len(set(keys)) == len(wires)
    assert [key[1] for key in sorted(keys)] == sorted(key[1] for key in keys)
    assert Kind.ATTRIBUTE < Kind.IMPRESSION < Kind.ACTION


@pytest.mark.parametrize("source", list(SourceTopic))
def test_a_heartbeat_is_a_time(source: SourceTopic) -> None:
    """Any source may carry one, up to the end of time."""
    assert decode(source, b'{"watermark": 7}') == 7
    assert decode(source, json.dumps({"watermark": END_OF_TIME_MS}).encode()) == END_OF_TIME_MS


@given(st.sampled_from(list(SourceTopic)), st.binary() | st.from_regex(rb'\{"user_id": ?.{0,40}\}', fullmatch=True))
def test_no_bytes_can_do_more_than_be_refused(source: SourceTopic, value: bytes) -> None:
    """Whatever comes in is an event, a heartbeat or a refusal."""
    with contextlib.suppress(RefusedError):
        assert isinstance(decode(source, value), Event | int)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from(list(SourceTopic)), st.data())
def test_any_json_in_any_field_is_an_event_or_refused(source: SourceTopic, data: st.DataObject) -> None:
    """A field of any JSON type, lone surrogates included, never raises anything else."""
    field = data.draw(st.sampled_from(sorted(GOOD[source])))
    with contextlib.suppress(RefusedError):
        assert isinstance(decode(source, bad(source, **{field: data.draw(json_values)})), Event)
