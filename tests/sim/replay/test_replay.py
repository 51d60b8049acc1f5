"""Replay into a real Kafka: every event once, whatever stops it on the way."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.errors import SimError
from sim.replay.kafka_sink import KafkaSink
from sim.replay.progress_file import ReplayState, load_state, save_state
from sim.replay.rate_limit import RateLimit, parse_speed
from sim.replay.replay import Replay
from sim.sources.source import HEARTBEAT_EVENTS, SourceEvent, heartbeats, item_record, replay_events
from stream.config import StreamSettings
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.local_broker.node import Broker
from stream.schema.ids import partition_of
from stream.schema.tokens import END_OF_TIME_MS
from tests.kafka import KafkaForTests
from tests.topics import Place, own_topics, written

EVENTS = 2 * HEARTBEAT_EVENTS + 500
BEAT = re.compile(rb'\{"watermark":\d+\}')
KILL_S = 60.0


def make_stream(seed: int = 0) -> DirichletStream:
    stream = DirichletStream(
        DirichletSettings(seed=seed, records=1000, length=10, items=500, categories=5, limit=EVENTS)
    )
    stream.catalogue = [(str(n), item_record(str(n), stream.first_ms, f"title {n}", {})) for n in range(20)]
    return stream


class Until(RateLimit):
    """Never waits, and stops its replay after a number of events."""

    replay: Replay

    def __init__(self, count: int) -> None:
        super().__init__(parse_speed("max"))
        self.left = count or float("inf")

    def passed(self, ts_ms: int) -> None:
        self.left -= 1
        if self.left == -1:
            self.replay.stop()


def replay(
    kafka: KafkaForTests,
    topics: StreamSettings,
    path: Path,
    source: DirichletStream,
    stop_after: int = 0,
    **flags: bool,
) -> Replay:
    """Replay as fast as possible, all events or a number of them."""
    create_topics(Kafka(kafka.bootstrap), topics)
    limit = Until(stop_after)
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as out:
        limit.replay = made = Replay(source, out, path, limit, **flags)
        assert made.run() == (not stop_after)
    return made


def expected(source: DirichletStream, partitions: int) -> dict[Place, list[SourceEvent]]:
    """Return the events of each topic and partition, heartbeats included."""
    places: dict[Place, list[SourceEvent]] = defaultdict(list)
    for event in replay_events(source, partitions):
        home = partition_of(event.key or b"", partitions) if event.partition is None else event.partition
        places[event.topic, home].append(event)
    return places


def assert_each_event_once(kafka: KafkaForTests, topics: StreamSettings, source: DirichletStream) -> None:
    """Each partition holds its events in order, once; then the end of time. Heartbeats may be there more than once."""
    found = written(kafka.bootstrap, topics)
    for place, events in expected(source, topics.partitions).items():
        theirs = [(event.key, event.value) for event in events if event.partition is None]
        assert [record for record in found[place] if not BEAT.fullmatch(record[1] or b"")] == theirs, place
        assert found[place][-1][1] == b'{"watermark":%d}' % END_OF_TIME_MS, place


def test_every_record_lies_where_it_belongs(kafka: KafkaForTests, tmp_path: Path) -> None:
    """The topics hold exactly what `replay_events` yields: order, partition, keys, values, heartbeats."""
    topics, source = own_topics(), make_stream()
    replay(kafka, topics, tmp_path / "state.json", source)
    found = written(kafka.bootstrap, topics)
    assert found == {
        place: [(event.key, event.value) for event in events]
        for place, events in expected(source, topics.partitions).items()
    }


def test_a_stopped_replay_continues(kafka: KafkaForTests, tmp_path: Path) -> None:
    """What was acknowledged is not sent again, and nothing is left out."""
    topics, source, path = own_topics(), make_stream(), tmp_path / "state.json"
    first = replay(kafka, topics, path, source, stop_after=HEARTBEAT_EVENTS + 300)
    assert (first.state.acknowledged, first.state.complete) == (HEARTBEAT_EVENTS + 300, False)
    replay(kafka, topics, path, source)
    assert_each_event_once(kafka, topics, source)


@pytest.mark.parametrize("counted", [0, 5, 700, HEARTBEAT_EVENTS + 1])
def test_what_was_written_but_not_counted_is_found(kafka: KafkaForTests, tmp_path: Path, counted: int) -> None:
    """With a progress file of any age no event is written twice, even if others have written in between."""
    topics, source, path = own_topics(), make_stream(), tmp_path / "state.json"
    create_topics(Kafka(kafka.bootstrap), topics)
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as out:
        tag = Replay(source, out, path, RateLimit(parse_speed("max"))).state.fingerprint
        offsets = out.ends()
        sent = 0
        for event in replay_events(source, topics.partitions):
            if sent == counted:
                out.flush()
                offsets |= out.offsets
            if sent == HEARTBEAT_EVENTS + 700:
                break
            out.send(event)
            sent += event.partition is None
            if sent % 500 == 0:
                for foreign in heartbeats(0, topics.partitions):
                    out.send(foreign)
        out.flush()
    save_state(path, ReplayState(fingerprint=tag, total=EVENTS + 20, acknowledged=counted, offsets=offsets))
    replay(kafka, topics, path, source)
    assert_each_event_once(kafka, topics, source)


def hstu_replay(
    bootstrap: str, topics: StreamSettings, data_dir: Path, *flags: str, before: str = ""
) -> subprocess.Popen[str]:
    where = ("--bootstrap", bootstrap, "--data-dir", str(data_dir))
    command = [sys.executable, "-c", f"{before}\nfrom sim.main import main; main()", "replay", *where, *flags]
    variables = {
        "HSTU_STREAM__PARTITIONS": str(topics.partitions),
        "HSTU_STREAM__TOPIC_PREFIX": topics.topic_prefix,
    }
    return subprocess.Popen(command, env=os.environ | variables, text=True, stderr=subprocess.PIPE)


SMALL_LOG = ("--synthetic", "dirichlet", "--records", "200", "--limit", "6000", "--name", "run")


def small_log() -> DirichletStream:
    """Return the source that SMALL_LOG replays."""
    return DirichletStream(DirichletSettings(records=200, limit=6000))


def wait_for_events(path: Path, count: int) -> None:
    deadline = time.monotonic() + KILL_S
    while time.monotonic() < deadline:
        if path.exists() and msgspec.json.decode(path.read_bytes(), type=ReplayState).acknowledged >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"{path} did not reach {count} events within {KILL_S:g} s")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_replay_continues_with_the_same_command(
    kafka: KafkaForTests, tmp_path: Path, how: signal.Signals
) -> None:
    """kill -9 or Ctrl-C in the middle, then the same command: every row arrives, none twice.

    While the first runs, a second one of the same name is refused.
    """
    topics = own_topics()
    state = tmp_path / "replay" / "run.json"
    with hstu_replay(kafka.bootstrap, topics, tmp_path, *SMALL_LOG, "--speed", "200/s") as process:
        wait_for_events(state, 300)
        with hstu_replay(kafka.bootstrap, topics, tmp_path, *SMALL_LOG) as second:
            assert "Another process replays as run; stop it" in second.communicate(timeout=KILL_S)[1]
        process.send_signal(how)
        _, output = process.communicate(timeout=KILL_S)
        assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
        assert ("the same command continues" in output) == (how == signal.SIGINT)
    assert load_state(state, msgspec.json.decode(state.read_bytes())["fingerprint"]).acknowledged < 6000
    with hstu_replay(kafka.bootstrap, topics, tmp_path, *SMALL_LOG) as process:
        _, output = process.communicate(timeout=KILL_S)
        assert process.returncode == 0, output
    assert_each_event_once(kafka, topics, small_log())


def test_a_replay_that_is_over_says_so(kafka: KafkaForTests, tmp_path: Path) -> None:
    """A second one writes nothing; --restart writes all again."""
    topics, source, path = own_topics(), make_stream(), tmp_path / "state.json"
    replay(kafka, topics, path, source)
    before = written(kafka.bootstrap, topics)
    again = replay(kafka, topics, path, source)
    assert again.state.complete
    assert written(kafka.bootstrap, topics) == before
    replay(kafka, topics, path, source, restart=True)
    assert {place: len(records) for place, records in written(kafka.bootstrap, topics).items()} == {
        place: 2 * len(records) for place, records in before.items()
    }


def test_another_log_of_the_same_name_is_refused(kafka: KafkaForTests, tmp_path: Path) -> None:
    """The progress is of a log, its options and its topics; the error says how to keep both."""
    topics, path = own_topics(), tmp_path / "state.json"
    replay(kafka, topics, path, make_stream(), stop_after=100)
    for other, where in ((make_stream(1), topics), (make_stream(), own_topics())):
        with pytest.raises(SimError, match=r"is of another log, other options, or other topics; .*another --name"):
            replay(kafka, where, path, other)


def test_topics_that_were_made_again_are_noticed(kafka: KafkaForTests, tmp_path: Path) -> None:
    """Continuing into an empty topic would leave out its beginning."""
    topics, source, path = own_topics(), make_stream(), tmp_path / "state.json"
    made = replay(kafka, topics, path, source, stop_after=100)
    made.state.offsets = {place: offset + 10**6 for place, offset in made.state.offsets.items()}
    save_state(path, made.state)
    with pytest.raises(SimError, match=r"ends at offset \d+ in partition \d, but the replay had written up to"):
        replay(kafka, topics, path, source)


def test_time_goes_on_everywhere_while_a_slow_replay_waits(kafka: KafkaForTests, tmp_path: Path) -> None:
    """At ten times recorded time a second apart, heartbeats reach topics that have no events."""
    topics = own_topics(1)
    source = DirichletStream(DirichletSettings(records=2, length=10, items=50, categories=5, limit=13))
    create_topics(Kafka(kafka.bootstrap), topics)
    begun = time.monotonic()
    with KafkaSink(Kafka(kafka.bootstrap), 1, topics.topic_prefix) as out:
        assert Replay(source, out, tmp_path / "state.json", RateLimit(parse_speed("10x"))).run()
    assert time.monotonic() - begun >= 1.2
    found = written(kafka.bootstrap, topics)
    beats = [msgspec.json.decode(value)["watermark"] for _, value in found["impressions", 0]]
    assert len(beats) >= 2
    assert source.first_ms <= beats[0] <= source.first_ms + 12_000
    assert_each_event_once(kafka, topics, source)


def test_a_kafka_that_dies_is_a_sentence_and_the_replay_continues(tmp_path: Path) -> None:
    """kill -9 of the broker in the middle; once it is back, the same command brings the rest."""
    topics, broker = own_topics(), Broker(tmp_path / "kafka")
    impatient = "from sim.replay import kafka_sink; kafka_sink.DELIVERY_S = 2"
    paced = (*SMALL_LOG, "--speed", "3000/s")
    try:
        with hstu_replay(broker.start(), topics, tmp_path, *paced, before=impatient) as process:
            wait_for_events(tmp_path / "replay" / "run.json", 1000)
            broker.kill()
            _, output = process.communicate(timeout=KILL_S)
        assert process.returncode == 1
        assert re.search(r"hstu: Kafka at \S+ did not take a record within 2 s: .*repeat the same command", output)
        assert not re.search("Traceback|Exception ignored", output)
        kafka = KafkaForTests(broker.start(), "the same, again")
        with hstu_replay(kafka.bootstrap, topics, tmp_path, *SMALL_LOG) as process:
            _, output = process.communicate(timeout=KILL_S)
        assert process.returncode == 0, output
        assert_each_event_once(kafka, topics, small_log())
    finally:
        broker.stop()


def test_a_kafka_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """The error has the address and how long it was tried."""
    with hstu_replay("127.0.0.1:9", own_topics(), tmp_path, *SMALL_LOG) as process:
        _, output = process.communicate(timeout=KILL_S)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert re.search(r"hstu: No Kafka answered at 127.0.0.1:9 within 10 s; start one by hstu broker", output)


def test_a_second_log_goes_on_where_the_first_ended(kafka: KafkaForTests, tmp_path: Path) -> None:
    """Without an end of time the topics stand at the last event; with one nothing can follow."""
    topics, source = own_topics(), make_stream()
    last_ms = max(event.ts_ms for event in source.events())
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as out:
        create_topics(Kafka(kafka.bootstrap), topics)
        assert out.reached_ms() is None
    replay(kafka, topics, tmp_path / "first.json", source, ends=False)
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as out:
        assert out.reached_ms() == last_ms
    assert all(events[-1][1] == b'{"watermark":%d}' % last_ms for events in written(kafka.bootstrap, topics).values())
    replay(kafka, topics, tmp_path / "second.json", make_stream(seed=1))
    with KafkaSink(Kafka(kafka.bootstrap), topics.partitions, topics.topic_prefix) as out:
        assert out.reached_ms() == END_OF_TIME_MS
