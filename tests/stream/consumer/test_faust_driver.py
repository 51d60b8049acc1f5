"""What the driver overrides in Faust does what it should, in the Faust that is installed."""

import asyncio
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP

from stream import transport
from stream.consumer import faust_driver, faust_settings
from stream.errors import BrokerError, StoreBusyError
from stream.kafka.connection import Kafka
from stream.operations.records import read_topic
from stream.transport import make_batch_app, serve
from tests.kafka_logs import DEADLINE_S, delete_before, fill, make_topics, members, until
from tests.stream.consuming import Notebook, Run, records


def test_the_pinned_faust_is_installed() -> None:
    """What faust_driver.py overrides was read in this version."""
    assert version("faust-streaming").startswith("0.15.")


def test_faust_is_as_the_driver_expects(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """Its offsets have no gaps and follow each seek; an empty fetch ends soon; no tables delay the start."""

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
            supervisors: list[Any] = [agent.supervisor for agent in handled.app.agents.values()]
            assert all(callable(each._stopped_set) for each in supervisors)
            assert supervisors
            return True

        await handled.until(sought_again, "all records")
        consumer: Any = handled.app.consumer
        assert not any(consumer._gap.values())
        assert not any(consumer._acked.values())
        assert consumer._thread._consumer._fetcher._fetch_max_wait_ms == 200
        assert isinstance(handled.app.tables, faust_driver.NoTables)
        assert not handled.app.tables

    asyncio.run(run())


def test_a_fetch_that_waits_to_try_again_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka lets out the cancellation by which it ends the fetch; the thread would print it."""

    async def cancelled(self: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(faust_driver.driver.AIOKafkaConsumerThread, "on_thread_stop", cancelled)
    thread = faust_driver.ConsumerThread.__new__(faust_driver.ConsumerThread)
    thread._consumer = None
    asyncio.run(thread.on_thread_stop())


def test_a_batch_that_faust_drops_ends_the_app(
    topic: str, consume: Callable[..., Notebook], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever loses a batch on the way, the app does not go on past the gap."""
    polls = iter(range(1000))

    def lossy(self: Any, batches: Any) -> Iterator[Any]:
        return iter(()) if next(polls) == 1 else iter(batches.items())

    monkeypatch.setattr(faust_settings.Scheduler, "iterate", lossy)
    with pytest.raises(BrokerError, match="were lost between Kafka and the handler"):
        consume(topic, 600, poll_records=50)


def test_transactions_are_no_gap_and_their_ends_are_found(bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    """Markers take up offsets in the middle of the log and at its end; all is read, and the end is found."""
    name = f"{topic_prefix}log"

    async def run() -> None:
        await make_topics(bootstrap, [name])
        await fill(bootstrap, name, records(40), transactions=4)
        notebook = Notebook()
        handled = Run(bootstrap, name, tmp_path, notebook, poll_records=7)

        async def ended() -> bool:
            return notebook.count == 80 and all([await handled.app.at_end((name, p)) for p in (0, 1)])

        await handled.until(ended, "both partitions at their ends")
        assert notebook.offsets((name, 0)) == [n for n in range(44) if n % 11 != 10]

    asyncio.run(run())


@pytest.mark.parametrize("compacted", [False, True])
def test_a_record_read_before_that_is_gone_is_refused_unless_its_topic_is_compacted(
    bootstrap: str, topic_prefix: str, tmp_path: Path, compacted: bool
) -> None:
    """Here a transaction's marker stands where it was; the sentence ends with the owner's way on."""
    name = f"{topic_prefix}log"

    async def run() -> Notebook:
        await make_topics(bootstrap, [name])
        await fill(bootstrap, name, records(10), transactions=2)  # 5 records, a marker, 5 records, a marker
        notebook = Notebook({(name, 0): 6, (name, 1): 6})
        notebook.known[name, 0] = 5
        notebook.compacted = {name} if compacted else ()
        await Run(bootstrap, name, tmp_path, notebook).until(lambda: notebook.count == 10, "what has come since")
        return notebook

    if compacted:
        assert asyncio.run(run()).offsets((name, 0)) == [*range(6, 11)]
        return
    with pytest.raises(BrokerError, match=rf"{name}\[0\] holds another record at offset 5 .*; or ask its author\.$"):
        asyncio.run(run())


def test_aborted_transactions_are_not_read(bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    """A producer that aborts takes back what it sent, and the end is found behind it."""
    name = f"{topic_prefix}log"

    async def run() -> None:
        await make_topics(bootstrap, [name])
        await fill(bootstrap, name, records(10), transactions=1)
        await fill(bootstrap, name, records(10), transactions=1, abort=True)
        await fill(bootstrap, name, records(5), transactions=1)
        await fill(bootstrap, name, records(5), transactions=1, abort=True)
        notebook = Notebook()
        handled = Run(bootstrap, name, tmp_path, notebook, poll_records=7)

        async def ended() -> bool:
            return notebook.count == 30 and all([await handled.app.at_end((name, p)) for p in (0, 1)])

        await handled.until(ended, "both partitions at their ends")
        assert notebook.offsets((name, 0)) == [*range(10), *range(22, 27)]

    asyncio.run(run())


def test_what_has_no_records_is_not_missed_once_it_is_deleted(
    bootstrap: str, topic_prefix: str, tmp_path: Path
) -> None:
    """Ends of transactions, and what was aborted: retention deletes all, and neither this run nor the next minds."""
    name, notebook = f"{topic_prefix}log", Notebook()

    async def read_on(passed: int) -> None:
        """Read ten records in transactions, and ten that come once all of these are deleted."""
        await fill(bootstrap, name, records(5, 1), transactions=1)
        await fill(bootstrap, name, records(5, 1), transactions=1, abort=True)
        handled, before = Run(bootstrap, name, tmp_path, notebook), notebook.count
        place, more = (name, 0), False

        async def read() -> bool:
            nonlocal more
            if not more and notebook.passed_over.get(place) == passed:
                assert [handled.app.lag(place), handled.app.lag(place, passed - 7)] == [0, 0]
                await delete_before(bootstrap, name, 0, passed)
                await fill(bootstrap, name, records(5, 1))
                more = True
            return notebook.count == before + 10

        await handled.until(read, "records before and behind what has none")

    async def run() -> None:
        await make_topics(bootstrap, [name], partitions=1)
        await read_on(12)
        await read_on(29)
        await fill(bootstrap, name, records(5, 1), transactions=1, abort=True)
        ended = Run(bootstrap, name, tmp_path, notebook)
        await ended.until(lambda: notebook.passed_over[name, 0] == 40, "the end of one that was aborted")
        await delete_before(bootstrap, name, 0, 40)
        await fill(bootstrap, name, records(5, 1))
        await Run(bootstrap, name, tmp_path, notebook).until(lambda: notebook.count == 25, "what has come since")

    asyncio.run(run())
    assert notebook.offsets((name, 0)) == [*range(5), *range(12, 22), *range(29, 34), *range(40, 45)]


@pytest.mark.parametrize("passed", [0, 2])
def test_the_last_record_read_may_be_deleted_before_it_comes_again(
    passed: int, bootstrap: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention takes it, and what has no records behind it, after the log's beginning was asked for."""
    name = f"{topic_prefix}log"
    notebook, earliest = Notebook({(name, 0): 5 + passed}), faust_driver.Consumer.earliest_offsets
    notebook.known[name, 0] = 4

    async def then_deleted(self: Any, *partitions: Any) -> Any:
        found = await earliest(self, *partitions)
        await delete_before(bootstrap, name, 0, 5 + passed)
        return found

    async def run() -> None:
        await make_topics(bootstrap, [name], partitions=1)
        await fill(bootstrap, name, records(5, 1))
        if passed:
            await fill(bootstrap, name, records(1, 1), transactions=1, abort=True)
        monkeypatch.setattr(faust_driver.Consumer, "earliest_offsets", then_deleted)
        reading = Run(bootstrap, name, tmp_path, notebook)

        async def read() -> bool:
            if (name, 0) in notebook.without and not notebook.known.pop((name, 0), 0) and not notebook.count:
                await fill(bootstrap, name, records(3, 1))
            return notebook.count >= 3

        await reading.until(read, "what comes afterwards")

    asyncio.run(run())
    assert notebook.passed_over == {(name, 0): 5 + passed}
    assert notebook.offsets((name, 0))[:3] == [5 + passed, 6 + passed, 7 + passed]


def test_a_partition_whose_state_is_elsewhere_costs_the_others_nothing(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    """Where a broker is connected to anew, too: all logs are looked at again, but for what is not ours yet."""

    class Waiting(Notebook):
        async def open(self, topic: str, partition: int) -> int | None:
            if partition:
                raise StoreBusyError("It is open elsewhere.")
            return await super().open(topic, partition)

    async def run() -> None:
        notebook = Waiting()
        reading = Run(bootstrap, topic, tmp_path, notebook)
        again = False

        async def read() -> bool:
            nonlocal again
            if not again and notebook.count == 300:
                reading.app.consumer._in_doubt = again = True
                await fill(bootstrap, topic, records(10))
            return notebook.count == 310

        await reading.until(read, "what comes after a broker was connected to anew")

    asyncio.run(run())


def test_every_compression_of_producers_is_read(bootstrap: str, topic_prefix: str, tmp_path: Path) -> None:
    """By the workers' client and by that of the verbs that read whole topics; Kafka keeps the producer's codec."""
    name, codecs = f"{topic_prefix}log", ("gzip", "snappy", "lz4", "zstd")

    async def run() -> None:
        await make_topics(bootstrap, [name])
        for codec in codecs:
            await fill(bootstrap, name, records(50), compression=codec)
        notebook = Notebook()
        await Run(bootstrap, name, tmp_path, notebook).until(lambda: notebook.count == 400, "all records")

    asyncio.run(run())
    assert sum(1 for _ in read_topic(Kafka(bootstrap), name)) == 400


def test_lag_is_known_when_kafka_has_not_answered_for_long(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While handlers are slow nothing is polled, and how far they are behind is known all the same; the end is not."""
    monkeypatch.setattr(faust_driver, "_FRESH_S", -1.0)

    async def run() -> None:
        lags: list[int | None] = []
        app = make_batch_app(f"{topic}group", Kafka(bootstrap), Notebook(), datadir=tmp_path / "faust", poll_records=20)

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


def test_the_lag_of_a_partition_that_is_not_polled_grows(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka is asked where its log ends; what is read and not yet done can be counted as well."""
    monkeypatch.setattr(transport, "_ENDS_S", 0.1)

    async def run() -> None:
        paused, filled = (topic, 0), list[int]()

        class Pausing(Notebook):
            async def open(self, topic: str, partition: int) -> int | None:
                handled.app.pause([paused])
                return await super().open(topic, partition)

        handled = Run(bootstrap, topic, tmp_path, Pausing())

        async def grown() -> bool:
            lag = handled.app.lag(paused)
            if lag == 300 and not filled:
                filled.append(40)
                await fill(bootstrap, topic, records(40))
            return lag == 340

        await handled.until(grown, "a larger lag")
        assert handled.notebook.offsets(paused) == []
        assert [handled.app.lag(paused, done) for done in (290, 0)] == [50, 340]

    asyncio.run(run())


def test_a_lag_is_unknown_once_kafka_is_silent(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it said last says nothing of now; the app goes on."""

    async def silence(*_: Any) -> Any:
        raise TimeoutError

    async def run() -> None:
        handled = Run(bootstrap, topic, tmp_path, Notebook())
        lags: list[int | None] = []

        async def unknown() -> bool:
            lags.append(handled.app.lag((topic, 0)))
            return handled.notebook.count == 600 and lags[-1] is None

        await handled.until(unknown, "no lag")
        assert 0 in lags

    monkeypatch.setattr(faust_driver.Consumer, "ask_ends", silence)
    monkeypatch.setattr(transport, "_KNOWN_S", 2.0)
    asyncio.run(run())


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
    """Also one that has an instance id: others need not wait for its session to time out."""
    consume(topic, 600, instance_id=name)
    assert asyncio.run(members(bootstrap, f"{topic}group")) == 0
    assert consume(topic, 600, instance_id=name).count == 600
