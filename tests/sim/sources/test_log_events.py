"""Rows of a log as events: actions, slates, ratings, ties and limits."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings, strategies as st

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.recorded_log import RecordedLog, read_events
from sim.sources.tables.table import FrameTable
from stream.schema.events import Action, Event, Impression, decode_event
from stream.schema.topics import SourceTopic
from tests.strategies import tries

Row = dict[str, Any]
START_S = 1_000_000_000

log_rows = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(["ann", "bob", "7"]),
            "item_id": st.sampled_from(["x", "y", "007"]),
            "ts": st.integers(0, 5).map(lambda s: START_S + s),
            "rating": st.sampled_from([0.5, 3.0, 4.0, 5.0]),
            "what": st.sampled_from(["click", "share", "impression", ""]),
            "slate": st.sampled_from(["r1", "r2"]),
        }
    ),
    min_size=1,
    max_size=30,
)


def log_of(rows: Sequence[Row], settings: LogSettings, run_rows: int = 1_000_000) -> RecordedLog:
    """Return the log of rows."""
    read = read_events(FrameTable("a log", pl.DataFrame(rows)), settings, run_rows)
    return RecordedLog("a log", "", read.parts, [], read.read_as, read.summary)


def replayed(rows: Sequence[Row], settings: LogSettings) -> list[Row]:
    """Return the JSON of all events, after checking that the workers take each."""
    log = log_of(rows, settings)
    events = list(log.events())
    assert len(log) == len(events)
    assert [list(log.events(start)) for start in range(3)] == [events[start:] for start in range(3)]
    for event in events:
        source = SourceTopic[event.topic.upper()]
        assert isinstance(decode_event(source, event.value, max_slate=200, now_ms=None), Event)
    decoded = [json.loads(event.value or b"") for event in events]
    assert [event.ts_ms for event in events] == [fields["ts"] for fields in decoded]
    assert [event.key for event in events] == [fields["user_id"].encode() for fields in decoded]
    return decoded


@given(log_rows, st.none() | st.integers(0, 3))
def test_events_come_in_time_order_and_lose_nothing(rows: list[Row], seed: int | None) -> None:
    """Each row is one click; a user's rows keep the file's order within an instant, or are shuffled within it."""
    events = replayed(rows, LogSettings(shuffle_ties=seed))
    times = [event["ts"] for event in events]
    assert times == sorted(times)
    assert {event["action"] for event in events} == {"click"}
    for user in {row["user_id"] for row in rows}:
        mine = [(event["ts"] // 1000, event["item_id"]) for event in events if event["user_id"] == user]
        recorded = sorted(((row["ts"], row["item_id"]) for row in rows if row["user_id"] == user), key=lambda r: r[0])
        assert mine == recorded if seed is None else sorted(mine) == sorted(recorded)


@given(log_rows, st.none() | st.sampled_from([3.0, 4.0]), st.sampled_from(["action", "impression"]))
def test_ratings_become_actions_by_the_threshold(rows: list[Row], least: float | None, rating_as: Any) -> None:
    """None: all `rate`; else `like` from the threshold on and `dislike` below, which an impression leaves out."""
    events = replayed(rows, LogSettings(rating="rating", positive_from=least, rating_as=rating_as))
    actions = [event for event in events if "action" in event]
    low = ["dislike"] if rating_as == "action" else []
    names = [
        name for row in rows for name in (["rate"] if least is None else ["like"] if row["rating"] >= least else low)
    ]
    assert sorted(event["action"] for event in actions) == sorted(names)
    slates = [event for event in events if "items" in event]
    assert len(slates) == (len(rows) if rating_as == "impression" else 0)
    assert len({slate["request_id"] for slate in slates}) == len(slates)


@given(log_rows)
def test_a_rating_as_impression_is_a_slate_of_one_and_an_action_on_it_at_its_time(rows: list[Row]) -> None:
    """The action names its request, item and time; the impression comes first."""
    events = replayed(rows, LogSettings(rating="rating", positive_from=4, rating_as="impression"))
    slates: dict[str, Row] = {}
    for event in events:
        if "items" in event:
            slates[event["request_id"]] = event
        else:
            slate = slates[event["request_id"]]
            assert (slate["items"], slate["ts"], slate["user_id"]) == (
                [event["item_id"]],
                event["ts"],
                event["user_id"],
            )
            assert event["value"] >= 4


@given(log_rows)
def test_rows_of_one_request_are_one_slate(rows: list[Row]) -> None:
    """It shows each item once, at the first of their times or just behind; actions follow it, and are all there."""
    events = replayed(rows, LogSettings(action="what", request="slate"))
    slates = {(event["user_id"], event["request_id"]): event for event in events if "items" in event}
    assert set(slates) == {(row["user_id"], row["slate"]) for row in rows}
    for (user, request), slate in slates.items():
        mine = [row for row in rows if (row["user_id"], row["slate"]) == (user, request)]
        assert slate["items"] == list(dict.fromkeys(row["item_id"] for row in mine))
        assert slate["ts"] // 1000 == min(row["ts"] for row in mine)
    actions = [event for event in events if "action" in event]
    assert sorted((a["user_id"], a["item_id"], a["action"], a["request_id"]) for a in actions) == sorted(
        (row["user_id"], row["item_id"], row["what"], row["slate"])
        for row in rows
        if row["what"] not in ("", "impression")
    )
    assert all(action["ts"] >= slates[action["user_id"], action["request_id"]]["ts"] for action in actions)


@given(log_rows, st.integers(1, 30), st.none() | st.integers(0, 3))
def test_a_limit_keeps_the_earliest_rows(rows: list[Row], limit: int, seed: int | None) -> None:
    """A longer limit continues a shorter one, shuffled ties included; of slates it keeps the rows first recorded."""
    whole = replayed(rows, LogSettings(shuffle_ties=seed))
    assert replayed(rows, LogSettings(limit=limit, shuffle_ties=seed)) == whole[:limit]
    slates = [row | {"what": "click"} for row in rows]
    events = replayed(slates, LogSettings(action="what", request="slate", limit=limit))
    kept = sorted(slates, key=lambda row: row["ts"])[:limit]
    acted = sorted((event["user_id"], event["item_id"]) for event in events if "action" in event)
    assert acted == sorted((row["user_id"], row["item_id"]) for row in kept)


def test_ids_of_numbers_become_their_texts() -> None:
    """7 and 7.0 are "7"; what is a text stays as it is."""
    rows = [{"user_id": 7.0, "item_id": 3, "ts": 5, "what": "007"}]
    (event,) = replayed(rows, LogSettings(action="what"))
    assert (event["user_id"], event["item_id"], event["action"]) == ("7", "3", "007")


def test_a_missing_column_is_refused_with_those_there_are() -> None:
    """The sentence lists the columns and names the flags."""
    with pytest.raises(SimError, match=r"a log has no column 'item_id'; its columns are who, when\..*--item"):
        replayed([{"who": "a", "when": 1}], LogSettings(user="who", time="when"))


@pytest.mark.parametrize(("column", "wrong"), [("user_id", ""), ("item_id", None), ("user_id", "é" * 129)])
def test_a_row_without_an_id_is_refused(column: str, wrong: str | None) -> None:
    """Empty, missing and too long ids would become dead-letters; the sentence names row and column."""
    rows = [{"user_id": "a", "item_id": "x", "ts": 1}, {"user_id": "a", "item_id": "x", "ts": 2} | {column: wrong}]
    with pytest.raises(SimError, match=f"Row 2 of .*in column '{column}', which is (no id|an id longer than 256)"):
        replayed(rows, LogSettings())


def test_a_rating_that_is_no_number_is_refused() -> None:
    """The sentence names row, column and value."""
    rows = [{"user_id": "a", "item_id": "x", "ts": 1, "stars": stars} for stars in ("5", "great")]
    with pytest.raises(SimError, match=r"Row 2 of a log .*has the value 'great' in column 'stars', which is no number"):
        replayed(rows, LogSettings(rating="stars"))


def test_absent_fields_stay_out_of_the_wire() -> None:
    """An action without request and value has four fields, and the workers' own structs read it."""
    (event,) = log_of([{"user_id": "a", "item_id": "x", "ts": 1}], LogSettings()).events()
    assert event.value == b'{"user_id":"a","item_id":"x","action":"click","ts":1000}'
    assert {"user_id", "item_id", "action", "ts"} < set(Action.__struct_fields__)
    assert set(Impression.__struct_fields__) == {"user_id", "request_id", "ts", "items"}


def test_a_row_without_a_request_is_organic_among_slates() -> None:
    """An empty request means no slate; a row with neither request nor action is refused."""
    shown_row = {"user_id": "ann", "item_id": "a", "ts": START_S, "slate": "r", "what": ""}
    organic_row = {"user_id": "ann", "item_id": "b", "ts": START_S + 1, "slate": "", "what": "click"}
    shown, organic = replayed([shown_row, organic_row], LogSettings(action="what", request="slate"))
    assert (shown["request_id"], shown["items"]) == ("r", ["a"])
    assert (organic["item_id"], organic.get("request_id")) == ("b", None)
    tied = [organic_row | {"item_id": item, "slate": slate} for item, slate in (("c", ""), ("a", "r"), ("b", ""))]
    events = replayed([shown_row, *tied], LogSettings(action="what", request="slate"))
    assert [(event["item_id"], event.get("request_id")) for event in events[1:]] == [
        *(("c", None), ("a", "r"), ("b", None))
    ]
    with pytest.raises(SimError, match=r"Row 2 .*in column 'slate', which is an id longer than 256 bytes"):
        replayed([shown_row, organic_row | {"slate": "x" * 257}], LogSettings(action="what", request="slate"))
    with pytest.raises(SimError, match=r"Row 2 .*'what', which is no action, and the row has no request either"):
        replayed([shown_row, organic_row | {"what": ""}], LogSettings(action="what", request="slate"))


@settings(max_examples=tries(40), deadline=None)
@given(
    log_rows,
    st.integers(1, 12),
    st.sampled_from(["plain", "rating", "slates", "label"]),
    st.none() | st.integers(1, 20),
)
def test_runs_on_disk_make_the_same_events(rows: list[Row], run_rows: int, kind: str, limit: int | None) -> None:
    """However few rows are held in memory: the events, and what was counted."""
    flags: dict[str, Any] = {
        "plain": {},
        "rating": {"rating": "rating", "rating_as": "impression", "positive_from": 4},
        "slates": {"action": "what", "request": "slate"},
        "label": {"action": "label"},
    }[kind]
    rows = [row | {"label": int(row["rating"] > 3)} for row in rows]
    whole, cut = (log_of(rows, LogSettings(**flags, limit=limit), size) for size in (1_000_000, run_rows))
    assert len(cut) == len(whole)
    if limit is None:
        assert [event.value for event in cut.events()] == [event.value for event in whole.events()]
        assert list(cut.events(3)) == list(whole.events(3))
        assert cut.summary.actions == whole.summary.actions
        assert (cut.users, cut.items, cut.summary.ties) == (whole.users, whole.items, whole.summary.ties)
