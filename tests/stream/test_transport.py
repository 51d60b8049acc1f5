"""Batch apps: where consumption begins, how batches, pauses and errors are handled, and how an app ends."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faust.assignor.client_assignment import CopartitionedAssignment
from faust.assignor.copartitioned_assignor import CopartitionedAssignor
from faust.types import TP

from stream.errors import BrokerError, StoreError
from stream.kafka.connection import Kafka
from stream.transport import finishing_on_signals, make_batch_app, serve
from tests.kafka_logs import DEADLINE_S, committed, delete_before, until
from tests.stream.consuming import Notebook, Run


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
    done = {(topic, number): len(notebook.offsets((topic, number))) for number in range(2)}
    told = asyncio.run(committed(bootstrap, f"{topic}group"))
    assert all(told.get(place, 0) <= count for place, count in done.items())  # of what was never handled nothing
    asyncio.run(run(fails=False))
    assert notebook.offsets((topic, 0)) == notebook.offsets((topic, 1)) == list(range(300))


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
        app = make_batch_app(f"{topic}group", Kafka(bootstrap), notebook, datadir=tmp_path / "faust", poll_records=20)
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


def test_the_end_is_known(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """A partition is at its end once everything that Kafka has reported is handled; lag counts what is not."""

    async def run() -> None:
        handled = Run(bootstrap, topic, tmp_path, Notebook())
        places = {(topic, 0), (topic, 1)}

        async def ended() -> bool:
            return all([await handled.app.at_end(place) for place in places])

        await handled.until(ended, "both partitions at their ends")
        assert handled.notebook.count == 600

    asyncio.run(run())


def test_sigterm_finishes_the_batch_in_hand(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """The handler that runs is finished, nothing else is begun, the owner is closed, and no error is raised."""

    async def run() -> None:
        notebook = Notebook()
        app = make_batch_app(f"{topic}group", Kafka(bootstrap), notebook, datadir=tmp_path / "faust", poll_records=50)
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


def test_a_signal_while_the_loop_closes_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """SIGTERM wakes a waiting loop up; a second one finds no pipe of a closed loop. Then handlers are as before."""
    before = signal.getsignal(signal.SIGTERM)
    loop = asyncio.new_event_loop()

    async def run() -> None:
        done = asyncio.Event()
        with finishing_on_signals(done.set):
            loop.call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(done.wait(), 5)
            handlers.append(signal.getsignal(signal.SIGTERM))

    handlers = list[Any]()
    loop.run_until_complete(run())
    loop.close()
    assert signal.getsignal(signal.SIGTERM) == before
    signal.signal(signal.SIGTERM, handlers[0])
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.set_wakeup_fd(-1) == -1
    assert capfd.readouterr().err == ""


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


def test_what_a_killed_process_left_is_gone_at_the_next_start(tmp_path: Path) -> None:
    """A folder belongs to one process at a time, so that the next one empties it."""
    (tmp_path / "faust" / "v1").mkdir(parents=True)
    (tmp_path / "faust" / "v1" / "left").write_text("by kill -9")

    async def run() -> None:
        make_batch_app("group", Kafka("127.0.0.1:1"), Notebook(), datadir=tmp_path / "faust")
        assert not (tmp_path / "faust" / "v1" / "left").exists()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("before", "counts"),
    [
        (([0, 1], [2, 3], []), [1, 1, 2]),
        (([], [0, 1, 2, 3]), [2, 2]),
        (([0, 1, 2], [3, 4, 5], [6, 7], []), [2, 2, 2, 2]),
        (([0], [1], []), [0, 1, 1]),
        (([0, 1], [2, 3]), [2, 2]),
    ],
)
def test_every_member_has_a_partition_where_there_are_enough(
    tmp_path: Path, before: tuple[list[int], ...], counts: list[int]
) -> None:
    """A member that comes gets its share from those that have several; the next assignment moves nothing."""

    async def replicas() -> int:
        app = make_batch_app("group", Kafka("127.0.0.1:1"), Notebook(), datadir=tmp_path / "faust")
        found: int = app.assignor.replicas
        return found

    standbys = asyncio.run(replicas())

    def assign(held: tuple[list[int], ...]) -> tuple[list[int], ...]:
        members = {str(n): CopartitionedAssignment(set(actives), set(), {"t"}) for n, actives in enumerate(held)}
        assigned = CopartitionedAssignor(["t"], members, sum(map(len, held)), standbys).get_assignment()
        return tuple(sorted(member.actives) for member in assigned.values())

    after = assign(before)
    assert sorted(map(len, after)) == counts
    assert assign(after) == after


def test_a_process_without_a_partition_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line at the assignment that leaves it none; none where it has one."""

    async def run() -> None:
        app = make_batch_app("workers", Kafka("127.0.0.1:1"), Notebook(), datadir=tmp_path / "faust")
        await app.on_partitions_assigned.send({TP("t", 0)})
        assert caplog.messages == []
        await app.on_partitions_assigned.send(set())

    with caplog.at_level(logging.INFO, "hstu"):
        asyncio.run(run())
    assert caplog.messages == ["This process has no partition: others in the group workers have all; it waits for one"]
