"""Feeds: the same examples as the joiner's, from any start, with item records in their places."""

from hypothesis import given, settings, strategies as st

from sim.dirichlet.stream import DirichletSettings, DirichletStream, whole_records
from sim.experiment.feeds import Joined, WholeRecords, micro_batches
from sim.sources.source import SourceEvent
from stream.config import StreamSettings
from stream.example import Example, content, encode_example


def messages(entries):
    return [content(encode_example(entry)) for entry in entries if isinstance(entry, Example)]


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 20))
@settings(max_examples=10, deadline=None)
def test_whole_records_are_the_joiners(seed: int, records: int, length: int) -> None:
    """Examples made from arrays are, to the byte, what the joiner makes of the events."""
    stream = DirichletStream(DirichletSettings(seed=seed, records=records, length=length, items=60, categories=5))
    joined = Joined(stream, whole_records(StreamSettings(), length))
    assert messages(WholeRecords(stream).entries()) == messages(joined.entries())
    assert joined.examples == WholeRecords(stream).examples == records


def test_whole_records_begin_anywhere() -> None:
    """The entries after the first n examples equal the end of the whole feed, also across blocks."""
    feed = WholeRecords(DirichletStream(DirichletSettings(records=1030, length=3, items=60, categories=5)))
    whole = messages(feed.entries())
    for start in (0, 1, 500, 1023, 1024, 1025, 1030):
        assert messages(feed.entries(start)) == whole[start:]


class Small:
    """Two users, a catalogue of one item, and a tombstone between their events."""

    name, fingerprint, first_ms = "small", "small", 1_000
    catalogue = (("a", b'{"item_id":"a","ts":1000}'),)

    def __len__(self) -> int:
        return len(self.all)

    @property
    def all(self) -> list[SourceEvent]:
        def click(user: str, item: str, ts: int) -> SourceEvent:
            value = f'{{"user_id":"{user}","item_id":"{item}","action":"click","ts":{ts}}}'
            return SourceEvent("actions", user.encode(), value.encode(), ts)

        first = [click("u", "a", 1_000 + n) for n in range(3)]
        last = [click("v", "b", 200_000 + n) for n in range(3)]
        return [*first, SourceEvent("items", b"a", None, 150_000), *last]

    def events(self, start: int = 0):
        yield from self.all[start:]


def test_item_records_stand_where_they_take_effect() -> None:
    """An item record precedes the micro-batch in which its time comes."""
    feed = Joined(Small(), StreamSettings(gather_targets=1, gather_s=0))
    kinds = [type(entry).__name__ for entry in feed.entries()]
    assert kinds == ["ItemRecord", "Example", "Example", "Example", "Tombstone", "Example", "Example", "Example"]
    assert [type(entry).__name__ for entry in feed.entries(3)] == kinds[4:]
    cut = [(len(records), len(batch)) for records, batch in micro_batches(feed, 2)]
    assert cut == [(1, 2), (1, 2), (0, 2)]
