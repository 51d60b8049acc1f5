import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from stream.consumer.progress import IN_FLIGHT_BYTES, PollBatch, Progress, refuse_dropped, refuse_lost
from stream.errors import BrokerError

HERE = ("actions", 3)


@dataclass
class Record:
    offset: int
    topic: str = HERE[0]
    partition: int = HERE[1]
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None


def progress_at(offset: int, in_flight_records: int = 100) -> Progress:
    progress = Progress(in_flight_records)
    progress.begin(HERE, offset)
    return progress


def poll(progress: Progress, *offsets: int) -> PollBatch:
    return PollBatch(progress[HERE], [Record(offset) for offset in offsets])


@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.data())
def test_a_batch_that_got_lost_is_noticed_by_the_next(steps: list[int], data: st.DataObject) -> None:
    """Whatever offsets a log leaves out, a chain of batches passes; the same chain without one of them does not."""
    lost = data.draw(st.integers(0, len(steps) - 2))
    progress, offset, refused = progress_at(0), 0, []
    for number, step in enumerate(steps):
        offset += step  # a step above 1 is a compacted record or a transaction's marker
        batch = poll(progress, offset)
        if number == lost:
            continue
        try:
            refuse_dropped(batch)
        except BrokerError:
            refused.append(number)
            break
        progress.handled(batch)
    assert refused == [lost + 1]


def test_batches_from_before_a_seek_are_void() -> None:
    """After a rebalance or a seek nothing polled before it is handled."""
    progress = progress_at(0)
    batch = poll(progress, 0, 1)
    assert progress.is_current(batch)
    progress.begin(HERE, 0)
    assert not progress.is_current(batch)
    assert progress.is_current(again := poll(progress, 0, 1))
    progress.clear()
    assert not progress.is_current(again)


def test_large_records_stop_polls_before_their_number_does() -> None:
    """Ten records of 7 MiB in flight are too many where a hundred small ones are not; handled ones leave room."""
    progress = progress_at(0)
    large = bytes(IN_FLIGHT_BYTES // 9)
    batch = PollBatch(progress[HERE], [Record(offset, key=b"user", value=large) for offset in range(10)])
    assert asyncio.run(progress.pollable([HERE], 0.01)) == set()
    progress.handled(batch)
    assert progress[HERE].in_flight_bytes == 0
    assert asyncio.run(progress.pollable([HERE], 0.01)) == {HERE}


def test_nothing_is_handled_after_the_end() -> None:
    """Once the app has failed or finished, a batch that waits is not handled any more, and polls get nothing."""
    progress = progress_at(0)
    batch = poll(progress, 0)
    progress.close()
    assert not progress.is_current(batch)
    assert asyncio.run(progress.pollable([HERE], 0.01)) == set()


def test_polling_waits_for_room() -> None:
    """Records that wait for their handlers are bounded; a handled batch makes room at once."""

    async def run() -> None:
        progress = progress_at(0, in_flight_records=2)
        first = poll(progress, 0, 1)
        assert await progress.pollable([HERE], 0.01) == set()
        waiting = asyncio.create_task(progress.pollable([HERE], 60))
        await asyncio.sleep(0)
        progress.handled(first)
        assert await waiting == {HERE}

    asyncio.run(run())


def test_paused_partitions_are_not_polled_until_resumed() -> None:
    """Others are; a poll that waits sees a partition resumed."""

    async def run() -> None:
        progress = progress_at(0)
        other = ("actions", 4)
        progress.pause([HERE])
        assert await progress.pollable([HERE, other], 0.01) == set()  # not sought yet: nobody knows from where
        progress.begin(other, 0)
        assert await progress.pollable([HERE, other], 60) == {other}
        waiting = asyncio.create_task(progress.pollable([HERE], 60))
        await asyncio.sleep(0)
        progress.resume([HERE])
        assert await waiting == {HERE}

    asyncio.run(run())


def test_a_log_that_lost_records_or_is_another_is_refused() -> None:
    """Both sentences say where, how far apart, and what to do, in the words of whoever reads the log."""
    refuse_lost(HERE, 5, 5, 5)
    with pytest.raises(BrokerError, match=r"actions\[3\] begins at offset 9, .* up to 5: .*deleted 4 .*retention"):
        refuse_lost(HERE, 5, 9, 20)
    with pytest.raises(BrokerError, match=r"actions\[3\] ends at offset 4, .* up to 5: .*another Kafka"):
        refuse_lost(HERE, 5, 0, 4)
    for first, end in ((9, 20), (0, 4)):
        with pytest.raises(
            BrokerError, match=r"\bmove its store/ aside, set stream\.backup_url.* trainers go on by hstu"
        ):
            refuse_lost(HERE, 5, first, end)
        with pytest.raises(BrokerError, match=r" (or|them,) ask the author\.$"):
            refuse_lost(HERE, 5, first, end, "ask the author.")
