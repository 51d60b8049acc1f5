"""A user's stored sequence as it is shown: times, texts, titles; events that still wait are in it."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from stream.config import StreamSettings
from stream.errors import HstuError, StoreError
from stream.event_times import event_time
from stream.join.partition import Partition
from stream.operations.sequence import TitledEntry, read_sequence
from stream.schema.topics import SourceTopic
from stream.store.reader import SequenceReader
from stream.store.rocksdb import open_store, partition_path
from tests.wire import Record, action, impression, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0)
COUNTRY = {"user_id": "u", "name": "country", "value": "NO", "ts": 1000}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Stores with one user: an attribute, a slate, a click, and a click that still waits."""
    partition = Partition(open_store(partition_path(tmp_path, 0)), 0, SETTINGS)
    beat = Record(1, b'{"watermark": 5000}')
    partition.handle(SourceTopic.ATTRIBUTES, [Record(0, wire(COUNTRY)), beat])
    partition.handle(SourceTopic.IMPRESSIONS, [Record(0, wire(impression("u", "r", 2000, "a"))), beat])
    clicks = [action("u", "a", 3000, request_id="r"), action("v", "b", 4000), action("u", "late-item", 5000)]
    records = [Record(offset, wire(click)) for offset, click in enumerate(clicks)]
    partition.handle(SourceTopic.ACTIONS, records)
    partition.close()
    return tmp_path


def show(
    data_dir: Path, user: str, last: int, title: Callable[[str], str | None], as_of_ms: int | None = None
) -> list[TitledEntry]:
    with closing(SequenceReader(data_dir, SETTINGS)) as reader:
        return read_sequence(reader, SETTINGS.partitions, user, last, title, as_of_ms)


def test_tokens_are_shown_with_texts_and_titles(data_dir: Path) -> None:
    """In order; an item without a title has none; what waits has its texts from the event."""
    titles = {"a": "Title of a"}
    assert show(data_dir, "u", 50, titles.get) == [
        TitledEntry(1000, "attribute", None, None, "country=NO", None),
        TitledEntry(2000, "impression", "a", None, None, "Title of a"),
        TitledEntry(3000, "action", "a", "click", None, "Title of a"),
        TitledEntry(5000, "action", "late-item", "click", None, None),
    ]
    assert [entry.ts_ms for entry in show(data_dir, "u", 2, titles.get)] == [3000, 5000]


def test_a_sequence_as_of_an_earlier_time(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came later is left out before the last are counted; a sentence where there is nothing, or too much since."""

    def times(ts_ms: int, last: int = 50) -> list[int]:
        return [entry.ts_ms for entry in show(data_dir, "u", last, {}.get, ts_ms)]

    assert times(event_time("1970-01-01T00:00:03")) == [1000, 2000, 3000]
    assert times(2999, last=1) == [2000]
    with pytest.raises(HstuError, match=r"'u' had no events by then: .* kept is of 1970-01-01 00:00:01.000 UTC"):
        times(999)
    monkeypatch.setattr("stream.operations.sequence._MOST", 3)
    assert times(3000, last=2) == [2000, 3000]
    with pytest.raises(HstuError, match="only 1 of then are among the newest 3"):
        times(2000, last=2)


def test_an_unknown_user_and_an_absent_store_are_sentences(data_dir: Path, tmp_path: Path) -> None:
    """The user's partition is named; without a store the sentence says where else it may be, and what to start."""
    with pytest.raises(HstuError, match="Partition 0, where user 'w' would be, knows no such user"):
        show(data_dir, "w", 5, {}.get)
    with pytest.raises(HstuError, match=r"'u\\udcff' is not UTF-8"):
        show(data_dir, "u\udcff", 5, {}.get)
    with pytest.raises(StoreError, match=r"There is no store in .*/p0: ask on the host whose worker .* start a worker"):
        show(tmp_path / "elsewhere", "u", 5, {}.get)
