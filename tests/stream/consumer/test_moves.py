"""Polls, seeks and rebalances that overlap: nothing is skipped, read twice or taken for another log's."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP

from stream.consumer import faust_driver
from tests.kafka_logs import fill, until
from tests.stream.consuming import Notebook, Run, records


class SlowRun(Run):
    """One whose handler may be held."""

    gate: asyncio.Event

    async def handle(self, partition: int, records: Any) -> None:
        await self.gate.wait()
        await super().handle(partition, records)


class Overlap:
    """A run in which a seek or a poll waits for the other."""

    def __init__(self, bootstrap: str, topic: str, folder: Path) -> None:
        self.notebook = Notebook()
        self.run = SlowRun(bootstrap, topic, folder, self.notebook)
        self.run.gate = asyncio.Event()
        self.run.gate.set()
        self.bootstrap, self.topic = bootstrap, topic
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self.app = self.run.app

    @property
    def consumer(self) -> Any:
        return self.app.consumer

    async def halfway(self, *given: Any) -> None:
        self.reached.set()
        await self.go_on.wait()

    async def slow_seek(self) -> "asyncio.Task[None]":
        """Begin to seek all partitions; return once Kafka's client has, and the seek does not know it yet."""
        seek = self.consumer.seek_wait

        async def slow(offsets: Any) -> None:
            self.consumer.seek_wait = seek
            await seek(offsets)
            await self.halfway()

        self.consumer.seek_wait = slow
        seeking = asyncio.create_task(self.consumer.perform_seek())
        await self.reached.wait()
        return seeking

    async def more(self) -> None:
        await fill(self.bootstrap, self.topic, records(5))

    async def whole(self, then: Callable[[], Awaitable[None]]) -> None:
        """Read the topic, let something happen, read on, and check that each record was handled once."""
        steps, places = iter([then, self.more, self.more]), [(self.topic, partition) for partition in (0, 1)]
        ends: dict[Any, int] = {}

        async def done() -> bool:
            if any(self.notebook.wanted.get(place) != ends.get(place, 300) for place in places):
                return False
            if (step := next(steps, None)) is not None:
                await step()
                ends.update(await self.consumer.highwaters(*(TP(*place) for place in places)))
            return step is None

        await self.run.until(done, "all records")
        for place in places:
            assert self.notebook.offsets(place) == list(range(ends[place]))
            assert ends[place] >= 315


def test_a_seek_that_ends_after_its_partitions_were_revoked_begins_nothing(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    """What it began would be polled in the next assignment from where Kafka's group has come, before that is sought."""

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)
        app, places = overlap.app, {TP(topic, 0), TP(topic, 1)}

        async def revoked() -> None:
            seeking = await overlap.slow_seek()
            revoking = asyncio.create_task(app._on_revoked(app, places))
            await asyncio.sleep(0.1)
            overlap.go_on.set()
            await asyncio.gather(seeking, revoking)
            assert list(app.progress) == []
            app.assigned = places  # as the next assignment does
            await overlap.consumer.perform_seek()
            await overlap.more()

        await overlap.whole(revoked)

    asyncio.run(run())


def test_what_is_polled_while_positions_are_sought_is_read_once(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """The client has been sought and goes on from there, before the seek is known to be over."""

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)

        async def polled() -> None:
            seeking = await overlap.slow_seek()
            overlap.run.gate.clear()
            await overlap.more()

            async def read_on() -> bool:
                return all([await overlap.consumer.position(TP(topic, p)) == 305 for p in (0, 1)])

            await until(read_on, "the client's position")
            await overlap.more()
            await asyncio.sleep(1.0)  # time enough for another poll, if there were one
            overlap.go_on.set()
            await seeking
            overlap.run.gate.set()

        await overlap.whole(polled)

    asyncio.run(run())


def test_what_was_polled_before_a_seek_that_is_over_is_read_once(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again from where the seek went."""
    poll = faust_driver.driver.Consumer._getmany

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)

        async def slow(consumer: Any, places: Any, timeout: float) -> Any:
            if (found := await poll(consumer, places, timeout)) and overlap.notebook.count >= 600:
                await overlap.halfway()
            return found

        monkeypatch.setattr(faust_driver.driver.Consumer, "_getmany", slow)

        async def sought() -> None:
            await overlap.more()
            await overlap.reached.wait()
            await overlap.consumer.perform_seek()
            overlap.go_on.set()

        await overlap.whole(sought)

    asyncio.run(run())


def test_a_seek_before_stores_are_free_waits_for_them(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """As after a poll that overlapped a rebalance, while another process still has one open."""

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)

        async def busy() -> None:
            opened, tries = overlap.notebook.open, iter(range(3))

            async def open_late(place: str, partition: int) -> int | None:
                if next(tries, None) is not None:
                    raise faust_driver.StoreBusyError("The store is open elsewhere.")
                return await opened(place, partition)

            overlap.notebook.open = open_late  # type: ignore[method-assign]
            overlap.consumer._in_doubt = True
            await overlap.more()

        await overlap.whole(busy)

    asyncio.run(run())


def test_a_seek_may_take_longer_than_a_request(bootstrap: str, topic: str, tmp_path: Path) -> None:
    """As where a store opens slowly or Kafka hangs: Faust would never let consumption begin, nor seek again."""

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)
        opened = overlap.notebook.open

        async def hurry(sender: Any, *given: Any, **named: Any) -> None:
            overlap.app.conf._broker_request_timeout = 0.1

        async def open_slowly(place: str, partition: int) -> int | None:
            await asyncio.sleep(0.5)
            return await opened(place, partition)

        overlap.app.on_partitions_assigned.connect(hurry, weak=False)
        overlap.notebook.open = open_slowly  # type: ignore[method-assign]
        await overlap.whole(overlap.more)

    asyncio.run(run())


def test_a_seek_after_a_reconnect_may_take_as_long_as_kafka_does(
    bootstrap: str, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a limit it began anew for ever where each answer takes some seconds, and nothing was read in silence."""
    monkeypatch.setattr(faust_driver, "_FRESH_S", 0.2)

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)

        async def reconnected() -> None:
            asked = overlap.consumer.earliest_offsets

            async def earliest(*places: TP) -> Any:
                await asyncio.sleep(0.5)
                return await asked(*places)

            overlap.consumer.earliest_offsets, overlap.consumer._in_doubt = earliest, True
            await overlap.more()

        await overlap.whole(reconnected)

    asyncio.run(run())


def test_a_batch_behind_what_was_aborted_is_read_again_if_kafka_hangs(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    """Where its log begins is asked for; while there is no answer all are sought again, and nothing ends."""

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)
        notebook, hangs = overlap.notebook, iter(range(3))

        async def no_move(*given: Any) -> None:
            pass

        async def silent() -> None:
            asked = overlap.consumer.earliest_offsets

            async def earliest(*places: TP) -> Any:
                if next(hangs, None) is not None:
                    raise KafkaTimeoutError
                return await asked(*places)

            overlap.consumer.earliest_offsets, overlap.consumer._pass_over = earliest, no_move
            await fill(bootstrap, topic, records(1), transactions=1, abort=True)
            await overlap.more()

        steps = iter([silent])

        async def done() -> bool:
            if notebook.count == 600 and (step := next(steps, None)):
                await step()
            return notebook.count == 610

        await overlap.run.until(done, "all records")
        assert next(hangs, None) is None
        for partition in (0, 1):
            offsets = notebook.offsets((topic, partition))
            assert offsets == sorted(set(offsets))
            assert offsets[:300] == list(range(300))
            assert 300 not in offsets  # the end of its transaction comes when it comes

    asyncio.run(run())


def test_an_assignment_is_sought_whole_while_a_store_of_the_one_before_is_looked_at(
    bootstrap: str, topic: str, tmp_path: Path
) -> None:
    """What is still locked of the one before says nothing of partitions that are new in this one."""

    async def run() -> None:
        overlap = Overlap(bootstrap, topic, tmp_path)
        app, places = overlap.app, {TP(topic, 0), TP(topic, 1)}

        async def looked_at() -> None:
            opened, slow = overlap.notebook.open, iter([True])

            async def open_late(place: str, partition: int) -> int | None:
                if next(slow, None):
                    await overlap.halfway()
                    raise faust_driver.StoreBusyError("The store is open elsewhere.")
                return await opened(place, partition)

            overlap.notebook.open = open_late  # type: ignore[method-assign]
            overlap.consumer.locked = {TP(topic, 0)}
            looking = asyncio.create_task(overlap.consumer._seek_locked())
            await overlap.reached.wait()
            app.progress.clear()  # as when all are revoked, and assigned again
            seeking = asyncio.create_task(overlap.consumer.perform_seek())
            await asyncio.sleep(0.1)
            overlap.go_on.set()
            await asyncio.gather(looking, seeking)
            assert set(app.progress) == places
            await overlap.more()

        await overlap.whole(looked_at)

    asyncio.run(run())
