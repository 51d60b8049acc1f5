"""A backup of another log than Kafka's is refused before anything is replaced."""

import asyncio
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.consumer.read_log import other_log
from stream.errors import StoreError
from stream.schema.topics import SourceTopic
from stream.store.layout import Meta
from tests.stream.worker.test_backups import SETTINGS, opened, partitions_in
from tests.stream.worker.test_partitions import clicks


@pytest.fixture
def settings(tmp_path: Path) -> StreamSettings:
    return SETTINGS.model_copy(update={"backup_url": str(tmp_path / "backups")})


def test_a_backup_of_another_log_takes_no_stores_place(settings: StreamSettings, tmp_path: Path) -> None:
    """Whether the store is one that was read on with, one that only stands by, or there is none."""

    def other(number: int, meta: Meta) -> None:
        assert (number, meta.offsets[SourceTopic.ACTIONS]) == (0, 100)
        raise other_log("actions", 0, 99)

    async def run() -> None:
        theirs = partitions_in(settings, tmp_path / "theirs")
        await opened(theirs)
        await theirs.handle(SourceTopic.ACTIONS, 0, clicks(100))
        await theirs.stores.back_up(theirs)
        await theirs.close()
        own = partitions_in(SETTINGS, tmp_path / "own")
        await opened(own)
        await own.handle(SourceTopic.ACTIONS, 0, clicks(50))
        await own.close()
        for folder in ("own", "new"):
            wrong = partitions_in(settings, tmp_path / folder, other)
            await wrong.stores.follow(lambda number: False)
            with pytest.raises(StoreError, match=r"is of another log than Kafka has: actions\[0\] holds another"):
                await opened(wrong)
            await wrong.close()
        assert not (tmp_path / "new" / "store" / "p0").exists()
        right = partitions_in(SETTINGS, tmp_path / "own")
        assert (await opened(right)).partition.next_offsets[SourceTopic.ACTIONS] == 50
        await right.close()

    asyncio.run(run())
