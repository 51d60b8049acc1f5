"""What a replay sends of a source: the catalogue, events, heartbeats, the end of time."""

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings, strategies as st

from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.sources.source import (
    HEARTBEAT_EVENTS,
    ITEMS_HEARTBEAT_KEY,
    TOPICS,
    SourceEvent,
    heartbeats,
    item_record,
    replay_events,
    total,
)
from stream.schema.ids import partition_of
from stream.schema.tokens import END_OF_TIME_MS

EVENTS, PARTITIONS = 2 * HEARTBEAT_EVENTS + 7, 3


@pytest.fixture(scope="module")
def stream() -> DirichletStream:
    """A stream of a few heartbeats, with a catalogue."""
    made = DirichletStream(DirichletSettings(records=500, length=10, items=50, categories=5, limit=EVENTS))
    made.catalogue = [(str(n), item_record(str(n), made.first_ms, f"title {n}", {})) for n in range(5)]
    return made


def test_heartbeats_never_lie_and_come_everywhere(stream: DirichletStream) -> None:
    """In every partition of every topic nothing older follows a heartbeat, and the last one is the end of time."""
    reached: dict[tuple[str, int], int] = defaultdict(int)
    beats: dict[tuple[str, int], list[int]] = defaultdict(list)
    for event in replay_events(stream, PARTITIONS):
        content = json.loads(event.value or b"")
        home = partition_of(event.key or b"", PARTITIONS) if event.partition is None else event.partition
        if event.partition is None:
            assert content["ts"] == event.ts_ms >= reached[event.topic, home]
        else:
            assert content == {"watermark": event.ts_ms}
            assert event.key == (ITEMS_HEARTBEAT_KEY if event.topic == "items" else None)
            reached[event.topic, home] = event.ts_ms
            beats[event.topic, home].append(event.ts_ms)
    times = [event.ts_ms for event in stream.events()]
    expected = [times[0], times[HEARTBEAT_EVENTS - 1], times[2 * HEARTBEAT_EVENTS - 1], END_OF_TIME_MS]
    assert beats == {(topic, p): expected for topic in TOPICS for p in range(PARTITIONS)}


def test_the_catalogue_comes_first_and_at_the_first_events_time(stream: DirichletStream) -> None:
    """So that titles are known before anything is learned; heartbeats of that time say that this is a replay."""
    beats, events = [], list(replay_events(stream, PARTITIONS))
    while events[0].partition is not None:
        beats.append(events.pop(0))
    assert beats == list(heartbeats(stream.first_ms, PARTITIONS))
    assert [event.topic for event in events[:5]] == ["items"] * 5
    assert {event.ts_ms for event in events[:6]} == {stream.first_ms}
    assert sum(event.topic == "items" and event.partition is None for event in events) == 5
    assert total(stream) == 5 + EVENTS == sum(event.partition is None for event in events)


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, EVENTS + 5))
def test_it_can_begin_anywhere(stream: DirichletStream, start: int) -> None:
    """From event n on it is the rest of the whole, heartbeats included."""
    whole = list(replay_events(stream, PARTITIONS))
    counted, cut = 0, 0
    for cut, event in enumerate(whole):  # noqa: B007
        if event.partition is None and counted == start:
            break
        counted += event.partition is None
    begun = list(replay_events(stream, PARTITIONS, start))
    rest = whole[cut:] if start < total(stream) else _last_beats(whole)
    assert begun == (rest if start else whole)


def _last_beats(whole: list[SourceEvent]) -> list[SourceEvent]:
    return [event for event in whole if event.ts_ms == END_OF_TIME_MS]
