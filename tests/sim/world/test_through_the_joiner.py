"""Scenarios through the joiner: no dead-letters, and late labels are the clicks that come after their window."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from model.config import ModelSettings, TrainSettings
from sim.config import Settings
from sim.replay.in_process import DirectRun
from sim.replay.in_process_join import LocalRecord
from sim.scenarios.files import preset_names
from sim.scenarios.scenario import load_scenario
from sim.sources.source import SourceEvent, replay_events
from sim.world.events import Happening, WorldStream
from sim.world.settings import WorldSettings
from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.record_time import replay_headers
from stream.schema.topics import SourceTopic
from tests.memory_store import MemoryStore
from tests.sim.world.worlds import ALL, SLATES, scenario

TOPICS = {source.topic: source for source in SourceTopic}


def local_record(offset: int, event: SourceEvent) -> LocalRecord:
    """Return an event as a replay sends it."""
    return LocalRecord(offset, event.key, event.value, event.ts_ms, replay_headers(event.ts_ms))


def joined(source: WorldStream, settings: StreamSettings) -> Partition:
    """Join a stream in one partition."""
    partition = Partition(MemoryStore({}), 0, settings)  # type: ignore[arg-type]
    offsets = dict.fromkeys(SourceTopic, 0)
    events = replay_events(source, 1)
    while some := list(islice(events, 500)):
        for topic, number in TOPICS.items():
            records = [event for event in some if event.topic == topic]
            first = offsets[number]
            partition.handle(number, [local_record(first + n, event) for n, event in enumerate(records)])
            offsets[number] += len(records)
    return partition


@pytest.mark.parametrize("name", preset_names())
def test_presets_leave_no_dead_letters(name: str) -> None:
    """Every event is joined, none twice, and every shown or clicked item becomes a target."""
    made = load_scenario(name).with_(events=1_500)
    source = made.source()
    partition = joined(source, made.stream_settings(StreamSettings(partitions=1)))  # type: ignore[arg-type]
    counters = partition.counters
    assert counters.dead_letters == {}
    assert (counters.duplicates, counters.misrouted, partition.waiting) == (0, 0, 0)
    if not isinstance(made.settings, WorldSettings) or made.settings.slates is None:
        clicks = sum(event.topic == "actions" for event in source.events())
        assert (counters.targets, counters.late_labels) == (clicks, 0)
        assert counters.examples < clicks / 2  # a visit leaves as one
    else:
        assert counters.targets == 1_500 * made.settings.slates.size


def test_late_clicks_are_late_labels() -> None:
    """Those at the window's end or later, and no others."""
    made = scenario(**ALL, **SLATES, stream={"action_window_s": 300})
    source = made.source()
    partition = joined(source, made.stream_settings(StreamSettings(partitions=1)))
    columns = source.columns
    clicks = columns.what == Happening.CLICK
    waited_ms = columns.ts_ms[clicks] - made.world.visits.ts_ms[columns.request[clicks]]
    late = int(np.count_nonzero(waited_ms >= 300_000))
    assert late > 500
    assert partition.counters.late_labels == late
    assert partition.counters.dead_letters == {}
    assert partition.counters.tokens == made.settings.base.events * 5 + int(clicks.sum())


def test_a_scenario_can_be_learned(tmp_path: Path) -> None:
    """All the way to a model, tombstones included: the dead are no candidates."""
    made = scenario(base={"events": 400}, **ALL, **SLATES)
    settings = Settings(
        data_dir=tmp_path,
        stream=made.stream_settings(StreamSettings(partitions=2)),
        model=ModelSettings(dim=8, layers=1, heads=1, max_len=512),
        train=TrainSettings(batch_examples=16, negatives=16),
    )
    with DirectRun(settings) as run:
        assert run.run(made.source())
        assert run.refused() == {}
        learner = run.training.learner
        died = {f"i{item}" for item in np.flatnonzero(made.world.items.dies < made.world.ticks).tolist()}
        shown = {text for text, gone in zip(learner.items.texts, learner.items.withdrawn, strict=True) if not gone}
        assert shown
        assert not shown & died
