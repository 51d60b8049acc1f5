"""The stream of every scenario: it can begin anywhere, is in order of time, and shows live items only."""

from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from xxhash import xxh3_64

from sim.scenarios.files import preset_names
from sim.scenarios.scenario import Scenario, load_scenario
from sim.sources.source import action, impression, replay_events
from sim.world.responses import policy_slates, requests_of
from sim.world.world import World
from tests.sim.world.worlds import ALL, SLATES, read_back, scenario

EVENTS = 2_000
PRESETS = preset_names()
SHAPES: list[dict[str, Any]] = [{}, ALL, SLATES, ALL | SLATES, {"slates": {"policy": "uniform"}}]
DIGESTS = {  # of 2,000 events of each preset
    "bots": "42f743c616455bac",
    "closed-loop": "3d7b9c79db6eeb00",
    "delayed": "fc087e01b7ee0e0d",
    "everything": "bad7ec8d4cb1d843",
    "growth": "be24e87b7e1c1926",
    "paper": "569e4c8700f64e9f",
    "position": "ac12fc47fcc10c57",
    "rotation": "4cfb8aee082140f7",
    "season": "eb42fba3a041544f",
    "shock": "217169cd1e7d1b68",
    "turnover": "235844df0a8af49c",
}


def small(name: str, **changes: Any) -> Scenario:
    return load_scenario(name).with_(events=EVENTS, **changes)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_stream_like_any_other(name: str) -> None:
    """It begins anywhere, is the same each time, and knows its length."""
    source = small(name).source()
    whole = list(replay_events(source, 2))
    events = list(source.events())
    assert len(source) == len(events)
    assert list(replay_events(small(name).source(), 2)) == whole
    for start in (1, 700, len(events) - 1, len(events), len(events) + 5):
        assert list(source.events(start)) == events[start:]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_stream_of_the_first_version(name: str) -> None:
    """To the bit; another stream from the same settings needs another VERSION in the fingerprint."""
    digest = xxh3_64()
    for event in small(name).source().events():
        digest.update(repr((event.topic, event.key, event.value, event.ts_ms)).encode())
    assert digest.hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("tables", SHAPES)
def test_nobody_meets_the_dead_or_the_unborn(tables: dict[str, Any]) -> None:
    """Each item is born by a record with a title, and dies by a tombstone when the world says."""
    made = scenario(**tables)
    source, world = made.source(), made.world
    stream = read_back(source.catalogue, source.events())
    first = {f"i{item}" for item in np.flatnonzero(world.items.born == 0)}
    assert {item for item, _ in source.catalogue} == first
    assert len(stream.born) == len(world.items)
    mortal = np.flatnonzero(world.items.dies < world.ticks).tolist()
    assert stream.died == {f"i{item}": world.begins_ms(int(world.items.dies[item])) for item in mortal}
    if made.settings.slates:
        assert len(stream.slates) == made.settings.base.events
        assert all(len(set(items)) == made.settings.slates.size for _, _, items in stream.slates.values())
        for ts, user, item, request in stream.clicks:
            shown_ms, viewer, items = stream.slates[request or ""]
            assert (user, item in items) == (viewer, True)
            assert ts > shown_ms
    else:
        assert len(stream.clicks) == made.settings.base.events
        assert not stream.slates


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), start=st.integers(0, 900), slates=st.booleans())
def test_it_begins_anywhere(seed: int, start: int, slates: bool) -> None:
    """For any seed and start."""
    made = scenario(base={"events": 400, "seed": seed}, **ALL, **(SLATES if slates else {}))
    assert list(made.source().events(start)) == list(made.source().events())[start:]


def test_a_tick_does_not_know_what_was_asked_before() -> None:
    """Ticks drawn backwards are those drawn forwards."""
    made = scenario(**ALL, **SLATES)
    one, other = World(made.settings), World(made.settings)
    forwards = [policy_slates(one, requests_of(one, tick)) for tick in range(one.ticks)]
    backwards = [policy_slates(other, requests_of(other, tick)) for tick in reversed(range(other.ticks))]
    assert all((a == b).all() for a, b in zip(forwards, reversed(backwards), strict=True))


def test_every_seed_and_every_table_is_another_stream() -> None:
    """Each has its own fingerprint; title and description do not count."""
    streams = [scenario(), scenario(base={"seed": 1}), *(scenario(**{name: table}) for name, table in ALL.items())]
    prints = [made.source().fingerprint for made in streams]
    assert len(set(prints)) == len(prints)
    firsts = [tuple(islice(made.source().events(1_500), 40)) for made in streams]
    assert len(set(firsts)) == len(firsts)
    assert scenario(title="Other words").source().fingerprint == prints[0]


def test_events_are_written_as_everywhere() -> None:
    """Their JSON is that of sim.sources.source."""
    for event in scenario(base={"events": 300}, **SLATES).source().events():
        stream = read_back([(f"i{item}", b'{"ts":0}') for item in range(60)], [event])
        for ts, user, item, request in stream.clicks:
            assert event == action(user, item, "click", ts, request)
        for request, (ts, user, items) in stream.slates.items():
            assert event == impression(user, request, items, ts)


def test_requests_are_apart_and_cut_into_ticks() -> None:
    """No two are at one instant, also where time is short; each lies in the tick whose law it follows."""
    made = scenario(base={"events": 5_000, "days": 0.0007, "session": 50.0})
    world = made.world
    ts_ms = world.visits.ts_ms
    assert (np.diff(ts_ms) > 0).all()
    assert len(ts_ms) == 5_000
    for tick in range(world.ticks):
        part = ts_ms[world.first_requests[tick] : world.first_requests[tick + 1]]
        assert [world.tick_at(int(ts)) for ts in part[[0, -1]]] == [tick, tick]


def test_one_event_is_a_stream_too() -> None:
    """The smallest scenario works with all tables."""
    for tables in SHAPES:
        made = scenario(base={"events": 1}, **{name: table for name, table in tables.items() if name != "turnover"})
        assert len(list(made.source().events())) >= 1
        assert len(made.seer().ts_ms) == 1
