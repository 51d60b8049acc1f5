"""Backups of another log than Kafka's are refused before anything is changed."""

import asyncio
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.consumer.read_log import other_log
from stream.errors import BrokerError, StoreBusyError, StoreError
from stream.operations.store_logs import Reached
from stream.schema.topics import SourceTopic
from tests.stream.worker.test_backups import SETTINGS, opened, partitions_in
from tests.stream.worker.test_partitions import clicks


@pytest.fixture
def settings(tmp_path: Path) -> StreamSettings:
    return SETTINGS.model_copy(update={"backup_url": str(tmp_path / "backups")})


@pytest.mark.parametrize("own_events", [50, 150])
def test_backups_of_another_log_are_left_alone(own_events: int, settings: StreamSettings, tmp_path: Path) -> None:
    """They take no store's place, whether that was read on with, only stands by, or is not there, nor are pushed out.

    A store here may have read more than theirs.
    """

    def other(number: int, reached: Reached, *, goes_on: bool) -> None:
        assert (number, reached.offsets[SourceTopic.ACTIONS], reached.logs[SourceTopic.ACTIONS].offset) == (0, 100, 99)
        raise other_log("actions", 0, 99)

    async def run() -> None:
        theirs = partitions_in(settings, tmp_path / "theirs")
        await opened(theirs)
        await theirs.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await theirs.stores.back_up(theirs)
        await theirs.close()
        own = partitions_in(SETTINGS, tmp_path / "own")
        await opened(own)
        await own.handle(SourceTopic.ACTIONS, 0, clicks(own_events))
        await own.close()
        before = set((tmp_path / "backups").rglob("*"))
        for folder in ("own", "new"):
            wrong = partitions_in(settings, tmp_path / folder, other)
            await wrong.stores.follow(lambda number: False)
            with pytest.raises(StoreError, match=r"is of another log than Kafka has: actions\[0\] holds another"):
                await opened(wrong)
            await wrong.close()
        assert set((tmp_path / "backups").rglob("*")) == before
        assert not (tmp_path / "new" / "store" / "p0").exists()
        right = partitions_in(SETTINGS, tmp_path / "own")
        assert (await opened(right)).partition.next_offsets[SourceTopic.ACTIONS] == own_events
        await right.close()

    asyncio.run(run())


@pytest.mark.parametrize("own_events", [0, 50, 150])
def test_backups_of_another_kafka_are_left_alone(
    own_events: int, settings: StreamSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose logs cannot be compared perhaps, since retention has deleted the records; also once both are open."""

    async def run() -> None:
        theirs = partitions_in(settings, tmp_path / "theirs", cluster="b")
        own = partitions_in(settings, tmp_path / "own")
        if own_events:
            await opened(own)  # before there are any
            await own.handle(SourceTopic.ACTIONS, 0, clicks(own_events))
        await opened(theirs)
        await theirs.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await theirs.stores.back_up(theirs)
        files = set((tmp_path / "backups").rglob("*"))
        for _ in range(2):
            if own_events:
                for _ in range(2):  # the first finds that others have claimed them
                    await own.stores.back_up(own)
                assert "Partition 0 is not backed up: The backup" in caplog.text
                assert "is of another Kafka, whose cluster id is b, and this one's is a" in caplog.text
            else:
                with pytest.raises(StoreBusyError, match=r"none can be restored: .*cluster id is b.* another place"):
                    await own.open("actions", 0)
            await own.close()
            own = partitions_in(settings, tmp_path / "own")
            if own_events:
                await opened(own)
                assert own[0].partition.next_offsets[SourceTopic.ACTIONS] == own_events
        assert set((tmp_path / "backups").rglob("*")) == files
        await asyncio.gather(own.close(), theirs.close())

    asyncio.run(run())


def test_a_partition_waits_while_kafka_does_not_say_whose_backups_they_are(
    settings: StreamSettings, tmp_path: Path
) -> None:
    """It would else claim them unseen."""
    silent = True

    def ask(number: int, reached: Reached, *, goes_on: bool) -> None:
        if silent:
            raise BrokerError("Kafka is silent.")

    async def run() -> None:
        nonlocal silent
        first, second = partitions_in(settings, tmp_path / "first"), partitions_in(settings, tmp_path / "second", ask)
        await opened(first)
        await first.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await first.stores.back_up(first)
        await first.close()
        with pytest.raises(StoreBusyError, match=r"backups of partition 0 cannot be compared: Kafka is silent\."):
            await second.open("actions", 0)
        silent = False
        assert (await opened(second)).partition.next_offsets[SourceTopic.ACTIONS] == 100
        await second.close()

    asyncio.run(run())
