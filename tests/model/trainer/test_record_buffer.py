import asyncio

from model.trainer.merge import size_of
from model.trainer.record_buffer import RecordBuffer
from tests.factories import Record

HERE, THERE = ("examples", 0), ("items", 1)
BATCH = [Record(0, None, b"", 0), Record(1, None, b"", 0)]
SIZE = sum(map(size_of, BATCH))


def test_batches_come_out_in_their_order_and_whole() -> None:
    """Taking empties the buffer; `arrived` is set by each batch, and not cleared by taking."""

    async def run() -> None:
        buffer = RecordBuffer(10 * SIZE)
        assert (len(buffer), buffer.arrived.is_set()) == (0, False)
        for partition in (HERE, THERE, HERE):
            await buffer.put(partition, BATCH)
        assert (len(buffer), buffer.arrived.is_set()) == (6, True)
        assert buffer.partitions() == {HERE, THERE}
        assert buffer.take() == [(HERE, BATCH), (THERE, BATCH), (HERE, BATCH)]
        assert (len(buffer), buffer.take(), buffer.partitions()) == (0, [], set())

    asyncio.run(run())


def test_a_full_buffer_makes_the_agents_wait() -> None:
    """A batch above the limit waits until the others are taken; several waiting batches do not come in at once."""

    async def run() -> None:
        buffer = RecordBuffer(SIZE)
        await buffer.put(HERE, BATCH)
        waiting = [asyncio.create_task(buffer.put(THERE, BATCH)) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert len(buffer) == 2
        for _ in range(2):
            buffer.take()
            await asyncio.sleep(0.01)
            assert len(buffer) == 2
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_large_records_fill_it_sooner() -> None:
    """A buffer with room for a hundred small batches has none for a second record of a megabyte."""

    async def run() -> None:
        buffer = RecordBuffer(100 * SIZE)
        await buffer.put(HERE, [Record(0, None, bytes(1 << 20), 0)])
        waiting = asyncio.create_task(buffer.put(HERE, BATCH))
        await asyncio.sleep(0)
        assert not waiting.done()
        buffer.take()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(run())


def test_nobody_waits_for_a_closed_buffer() -> None:
    """The trainer has ended, and its agents must end, too."""

    async def run() -> None:
        buffer = RecordBuffer(1)
        await buffer.put(HERE, BATCH)
        waiting = asyncio.create_task(buffer.put(HERE, BATCH))
        await asyncio.sleep(0)
        buffer.close()
        await asyncio.wait_for(waiting, 5)
        await asyncio.wait_for(buffer.put(HERE, BATCH), 5)

    asyncio.run(run())
