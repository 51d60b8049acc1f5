import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from stream.consumer import faust_driver
from stream.errors import BrokerError, StoreError
from stream.transport import BatchApp, TopicPartition, make_batch_app, serve
from tests.kafka import KafkaForTests
from tests.kafka_logs import DEADLINE_S, Message, committed, delete_before, fill, make_topics, members, until


class Notebook:
    """An owner that writes down what it sees: the offsets handled, batch by batch."""

    def __init__(self, wanted: dict[TopicPartition, int] | None = None) -> None:
        self.wanted = dict(wanted or {})
        self.batches: list[tuple[TopicPartition, list[int]]] = []
        self.started: dict[TopicPartition, int] = {}
        self.revoked_partitions: set[TopicPartition] = set()
        self.closed = False

    async def open(self, topic: str, partition: int) -> int | None:
        return self.wanted.get((topic, partition))

    def start_at(self, topic: str, partition: int, offset: int) -> None:
        self.started[topic, partition] = offset

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.revoked_partitions |= set(partitions)

    async def close(self) -> None:
        self.closed = True

    def write(self, place: TopicPartition, records: Any) -> None:
        self.batches.append((place, [record.offset for record in records]))
        self.wanted[place] = records[-1].offset + 1

    def offsets(self, place: TopicPartition) -> list[int]:
        return [offset for where, offsets in self.batches if where == place for offset in offsets]

    @property
    def count(self) -> int:
        return sum(len(offsets) for _, offsets in self.batches)


class Run:
    """One run of an app over one topic, within the test's own process."""

    def __init__(self, bootstrap: str, topic: str, folder: Path, notebook: Notebook, **options: Any) -> None:
        self.notebook, self.topic, self.fails_at = notebook, topic, -1
        self.app: BatchApp = make_batch_app(
            f"{topic}group", bootstrap, notebook, datadir=folder / "faust" / topic, **options
        )
        self.app.batches(topic)(self.handle)

    async def handle(self, partition: int, records: Any) -> None:
        if len(self.notebook.batches) == self.fails_at:
            raise StoreError("the disk is full")
        self.notebook.write((self.topic, partition), records)

    async def until(self, done: Callable[[], bool | Awaitable[bool]], what: str) -> None:
        """Run the app until something is the case."""
        serving = asyncio.create_task(serve(self.app))
        watching = asyncio.create_task(until(done, what))
        await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        self.app.finish()
        await serving
        await watching


@pytest.fixture
def bootstrap(kafka: KafkaForTests) -> str:
    """Where the Kafka of the tests is."""
    return kafka.bootstrap


@pytest.fixture
def topic(bootstrap: str, topic_prefix: str) -> str:
    """A topic of two partitions, 300 records in each."""
    name = f"{topic_prefix}log"
    asyncio.run(make_topics(bootstrap, [name]))
    asyncio.run(fill(bootstrap, name, records(300)))
    return name


def records(count: int, partitions: int = 2) -> list[Message]:
    return [(p, b"key", b"value %d" % n, 0) for n in range(count) for p in range(partitions)]


@pytest.fixture
def consume(bootstrap: str, tmp_path: Path) -> Callable[..., Notebook]:
    """Consume a topic until a number of records has been handled."""

    def run(topic: str, count: int, wanted: dict[TopicPartition, int] | None = None, **options: Any) -> Notebook:
        async def consumed() -> Notebook:
            notebook = Notebook(wanted)
            handled = Run(bootstrap, topic, tmp_path, notebook, **options)
            await handled.until(lambda: notebook.count >= count, f"{count} records of {topic}")
            return notebook

        return asyncio.run(consumed())

    return run


def test_the_pinned_faust_is_installed() -> None:
    """What faust_driver.py overrides was read in this version."""
    assert version("faust-streaming").startswith("0.15.")


def test_whole_batches_come_from_where_the_owner_wants(topic: str, consume: Callable[..., Notebook]) -> None:
    """Positions are the owner's, None is the log's beginning; a batch is one partition's records in their order."""
    seen = consume(topic, 500, {(topic, 0): 100})
    assert seen.offsets((topic, 0)) == list(range(100, 300))
    assert seen.offsets((topic, 1)) == list(range(300))
    assert seen.started == {(topic, 1): 0}
    assert len(seen.batches) < 50
    assert seen.closed


def test_what_kafka_has_committed_plays_no_part(bootstrap: str, topic: str, consume: Callable[..., Notebook]) -> None:
    """The group's offsets tell watchers how far handling has come; a state behind them gets everything again."""
    consume(topic, 600, poll_records=50)
    assert asyncio.run(committed(bootstrap, f"{topic}group")) == {(topic, 0): 300, (topic, 1): 300}
    again = consume(topic, 600)
    assert again.offsets((topic, 0)) == list(range(300))


def test_faust_is_as_the_seam_expects(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """Its books keep no gaps and follow each seek; an empty fetch ends soon; no tables delay the start."""

    async def run() -> None:
        notebook = Notebook()
        handled = Run(bootstrap, topic, tmp_path, notebook, poll_records=50)

        async def sought_again() -> bool:
            consumer: Any = handled.app.consumer
            if notebook.count < 600:
                return False
            consumer._committed_offset[TP(topic, 0)] = 10**6
            await consumer.perform_seek()
            assert consumer._committed_offset[TP(topic, 0)] == 300
            return True

        await handled.until(sought_again, "all records")
        consumer: Any = handled.app.consumer
        assert not any(consumer._gap.values())
        assert not any(consumer._acked.values())
        assert consumer._thread._consumer._fetcher._fetch_max_wait_ms == 200
        assert isinstance(handled.app.tables, faust_driver.NoTables)
        assert not handled.app.tables

    asyncio.run(run())


def test_an_error_in_a_handler_ends_the_app_and_skips_nothing(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """Nothing is handled after the batch that failed; the next run begins with that batch."""
    notebook = Notebook()

    async def run(fails: bool) -> None:
        handled = Run(bootstrap, topic, tmp_path, notebook, poll_records=50)
        handled.fails_at = 3 if fails else -1
        await handled.until(lambda: notebook.count >= 600, "all records")

    with pytest.raises(StoreError, match="the disk is full"):
        asyncio.run(run(fails=True))
    assert len(notebook.batches) == 3
    assert notebook.closed
    asyncio.run(run(fails=False))
    assert notebook.offsets((topic, 0)) == notebook.offsets((topic, 1)) == list(range(300))


def test_a_batch_that_faust_drops_ends_the_app(
    topic: str, consume: Callable[..., Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever loses a batch on the way, the app does not go on past the gap."""
    polls = iter(range(1000))

    def lossy(self: Any, batches: Any) -> Iterator[Any]:
        return iter(()) if next(polls) == 1 else iter(batches.items())

    monkeypatch.setattr(faust_driver.Scheduler, "iterate", lossy)
    with pytest.raises(BrokerError, match="were lost between Kafka and the handler"):
        consume(topic, 600, poll_records=50)


def test_records_deleted_unread_are_not_skipped_silently(
    bootstrap: str, topic: str, consume: Callable[..., Notebook]
) -> None:
    """A state that is behind the log's beginning is told; a new one begins where the log does."""
    asyncio.run(delete_before(bootstrap, topic, 0, 50))
    with pytest.raises(BrokerError, match=r"\[0\] begins at offset 50, .* up to 10: Kafka has deleted 40 records"):
        consume(topic, 600, {(topic, 0): 10})
    seen = consume(topic, 550)
    assert seen.started == {(topic, 0): 50, (topic, 1): 0}
    assert seen.offsets((topic, 0)) == list(range(50, 300))


def test_a_log_that_is_not_the_one_read_before_is_refused(topic: str, consume: Callable[..., Notebook]) -> None:
    """A state that is ahead of the log's end has read another log."""
    with pytest.raises(BrokerError, match=r"\[1\] ends at offset 300, .* up to 301: it is another Kafka"):
        consume(topic, 600, {(topic, 1): 301})


def test_transactions_are_no_gap_and_their_ends_are_found(bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    """Markers take up offsets in the middle of the log and at its end; all the same it is read, and known to end."""
    name = f"{topic_prefix}log"

    async def run() -> None:
        await make_topics(bootstrap, [name])
        await fill(bootstrap, name, records(40), transactions=4)
        notebook = Notebook()
        handled = Run(bootstrap, name, tmp_path, notebook, poll_records=7)

        async def ended() -> bool:
            return notebook.count == 80 and await handled.app.idle(0.2) == {(name, 0), (name, 1)}

        await handled.until(ended, "both partitions at their ends")
        assert notebook.offsets((name, 0)) == [n for n in range(44) if n % 11 != 10]

    asyncio.run(run())


def test_paused_partitions_wait_and_lose_nothing(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """While one is paused the other goes on; what was polled before the pause is still handled, the rest after it."""

    async def run() -> None:
        notebook = Notebook()
        handled = Run(bootstrap, topic, tmp_path, notebook, poll_records=50)
        held, free = (topic, 0), (topic, 1)
        handled.app.pause([held])

        async def resumed_and_done() -> bool:
            if len(notebook.offsets(free)) == 300 and held in handled.app.progress.paused:
                assert notebook.offsets(held) == []
                assert not await handled.app.at_end(held)
                handled.app.resume([held])
            return notebook.count == 600

        await handled.until(resumed_and_done, "the paused partition's records")
        assert notebook.offsets(held) == list(range(300))

    asyncio.run(run())


def test_a_slow_handler_bounds_what_is_polled(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """Records wait in Kafka, not in memory: polls stop when four times their size is in flight."""

    async def run() -> None:
        notebook = Notebook()
        app = make_batch_app(f"{topic}group", bootstrap, notebook, datadir=tmp_path / "faust", poll_records=20)
        in_flight: list[int] = []

        async def handle(partition: int, batch: Any) -> None:
            if not in_flight:
                await until(lambda: sum(app.progress[place].in_flight for place in app.progress) >= 80, "polls ahead")
            in_flight.append(sum(app.progress[place].in_flight for place in app.progress))
            notebook.write((topic, partition), batch)
            if notebook.count == 600:
                app.finish()

        app.batches(topic)(handle)
        await asyncio.wait_for(serve(app), DEADLINE_S)
        assert notebook.count == 600
        assert max(in_flight) < 100

    asyncio.run(run())


def test_the_end_is_known_and_idleness_is_wall_time(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """lag counts what is not handled; idle is what has been at its end for the time asked, and never if that is 0."""

    async def run() -> None:
        notebook = Notebook()
        handled = Run(bootstrap, topic, tmp_path, notebook)
        places = {(topic, 0), (topic, 1)}
        ended: list[float] = []

        async def idle() -> bool:
            if await handled.app.idle(0) or await handled.app.idle(60):
                raise AssertionError("idle too early")
            if not ended and all([await handled.app.at_end(place) for place in places]):
                assert [handled.app.lag(place) for place in places] == [0, 0]
                ended.append(time.monotonic())
            return await handled.app.idle(0.5) == places

        await handled.until(idle, "both partitions idle")
        assert time.monotonic() - ended[0] >= 0.4

    asyncio.run(run())


def test_lag_is_known_when_kafka_has_not_answered_for_long(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While handlers are slow nothing is polled, and how far they are behind is known all the same; the end is not."""
    monkeypatch.setattr(faust_driver, "_FRESH_S", -1.0)

    async def run() -> None:
        lags: list[int | None] = []
        app = make_batch_app(f"{topic}group", bootstrap, Notebook(), datadir=tmp_path / "faust", poll_records=20)

        async def handle(partition: int, batch: Any) -> None:
            await until(lambda: sum(app.progress[place].in_flight for place in app.progress) >= 80, "polls ahead")
            lags.extend(app.lag((topic, number)) for number in (partition, 7))
            monkeypatch.setattr(faust_driver.Consumer, "last_end", lambda *_: None)  # as before the first fetch
            lags.append(app.lag((topic, partition)))
            assert not await app.at_end((topic, partition))
            app.finish()

        app.batches(topic)(handle)
        await asyncio.wait_for(serve(app), DEADLINE_S)
        assert lags == [300, None, 300]

    asyncio.run(run())


def test_sigterm_finishes_the_batch_in_hand(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """The handler that runs is finished, nothing else is begun, the owner is closed, and no error is raised."""

    async def run() -> None:
        notebook = Notebook()
        app = make_batch_app(f"{topic}group", bootstrap, notebook, datadir=tmp_path / "faust", poll_records=50)
        begun = 0

        async def handle(partition: int, batch: Any) -> None:
            nonlocal begun
            begun += 1
            os.kill(os.getpid(), signal.SIGTERM)
            await app.done.wait()
            notebook.write((topic, partition), batch)

        app.batches(topic)(handle)
        await asyncio.wait_for(serve(app), DEADLINE_S)
        assert begun == len(notebook.batches) == 1
        assert notebook.closed
        assert not (tmp_path / "faust").exists()

    out = sys.stdout
    asyncio.run(run())
    assert sys.stdout is out


def test_an_app_can_be_ended_while_it_starts(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """Whenever the end comes, also in the middle of a rebalance, it is clean and soon: no thread dies or hangs."""

    async def run(turns: int) -> None:
        notebook = Notebook()
        app = Run(bootstrap, topic, tmp_path, notebook).app
        serving = asyncio.create_task(serve(app))
        for _ in range(turns):
            await asyncio.sleep(0)
        app.finish()
        await asyncio.wait_for(serving, DEADLINE_S)
        assert notebook.closed

    for turns in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987):
        asyncio.run(run(turns))


@pytest.mark.parametrize("name", ["", "a-name"])
def test_a_member_that_ends_leaves_the_group(
    bootstrap: str, topic: str, consume: Callable[..., Notebook], name: str
) -> None:
    """Also one that has a name of its own: others need not wait for its session to time out."""
    consume(topic, 600, instance_id=name)
    assert asyncio.run(members(bootstrap, f"{topic}group")) == 0
    assert consume(topic, 600, instance_id=name).count == 600


def test_an_error_in_a_timer_ends_the_app(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """Timers are part of the app: what they raise is not lost in a log."""

    async def run() -> None:
        handled = Run(bootstrap, topic, tmp_path, Notebook())

        async def tick() -> None:
            raise StoreError("the disk is full")

        handled.app.every(0.05)(tick)
        await handled.until(lambda: False, "the error")

    with pytest.raises(StoreError, match="the disk is full"):
        asyncio.run(run())
