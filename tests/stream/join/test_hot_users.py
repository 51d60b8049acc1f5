"""A user who does more than all others costs as much an event as they do, by the work that is done, not by a clock."""

from collections.abc import Iterable, Iterator

import pytest

from stream.config import StreamSettings
from stream.join.partition import Partition
from stream.schema.ids import id_key
from stream.schema.topics import SourceTopic
from stream.store import layout
from tests.memory_store import MemoryStore
from tests.oracles import Wire
from tests.stream.join.play import START_MS, Kafka, play, stored_tokens, the_examples
from tests.wire import Record, action, impression, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0, open_requests=100, history_tokens=512, example_tokens=64)
PERIOD_MS = 10  # between two slates of the bot


class Counting(MemoryStore):
    """Counts the bytes written, and the keys read."""

    def __init__(self) -> None:
        super().__init__({})
        self.written = self.read = 0

    def get(self, key: bytes) -> bytes | None:
        self.read += 1
        return super().get(key)

    def scan(self, prefix: bytes, start: bytes = b"", most: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        for pair in super().scan(prefix, start, most):
            self.read += 1
            yield pair

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        listed = list(changes)
        self.written += sum(len(key) + len(value or b"") for key, value in listed)
        super().write(listed)


def slates(count: int, start_ms: int = START_MS) -> Iterator[tuple[Wire, Wire]]:
    """Yield the bot's slates of five, and a click on each."""
    for n in range(count):
        ts_ms, items = start_ms + n * PERIOD_MS, [f"i{(n + place) % 40}" for place in range(5)]
        yield impression("bot", f"r{n}", ts_ms, *items), action("bot", items[2], ts_ms + 1)


class Bot:
    """Sends slate by slate to a partition, each in a batch of its own, and counts the work of some of them."""

    def __init__(self) -> None:
        self.store = Counting()
        self.partition = Partition(self.store, 0, SETTINGS)
        self.kafka = Kafka()
        self.offset = 0

    def send(self, pairs: Iterable[tuple[Wire, Wire]]) -> tuple[int, int]:
        """Return the bytes written and the keys read meanwhile."""
        before = self.store.written, self.store.read
        for shown, clicked in pairs:
            beat = wire({"watermark": clicked["ts"] + 1})
            for source, event in ((0, shown), (1, clicked), (2, None)):
                log = [wire(event)] if event else []
                records = [Record(2 * self.offset + n, value) for n, value in enumerate([*log, beat])]
                self.partition.handle(SourceTopic(source), records)
            self.kafka.send(self.partition)
            self.offset += 1
        return self.store.written - before[0], self.store.read - before[1]


def test_the_work_of_an_event_does_not_grow() -> None:
    """Hundreds of requests open, thousands of tokens kept for them: bytes written and keys read stay what they were."""
    bot, events = Bot(), list(slates(2400))
    bot.send(events[:400])  # the bound on open requests is reached, and the history is longer than is kept
    early = bot.send(events[400:500])
    bot.send(events[500:2300])
    late = bot.send(events[2300:])
    assert late[0] < 1.05 * early[0]
    assert late[1] <= 1.05 * early[1] + 10
    assert len(list(bot.store.scan(layout.REQUEST))) == SETTINGS.open_requests


def test_a_request_of_long_ago_brings_its_own_tokens_only() -> None:
    """When its window ends, what the bot has done since is neither read nor kept in memory."""
    bot = Bot()
    bot.send(slates(1500))
    window_ms = int(SETTINGS.action_window_s * 1000)
    before = bot.store.read
    bot.send(slates(1, START_MS + window_ms))
    user = bot.partition._users.find(id_key("bot"))
    assert user is not None
    assert bot.store.read - before < 30
    assert len(user.data) < 3 * SETTINGS.example_tokens * layout.TOKEN_BYTES


def test_opening_reads_no_user() -> None:
    """A restart costs the same whatever is open: users are read when time or an event needs them."""
    store = Counting()
    shown = [wire(impression(f"u{n}", "r", START_MS + n, "a", "b")) for n in range(200)]
    log = [Record(n, value) for n, value in enumerate([*shown, wire({"watermark": START_MS + 1000})])]
    partition = Partition(store, 0, SETTINGS)
    for source in SourceTopic:
        partition.handle(source, log if source is SourceTopic.IMPRESSIONS else log[-1:])
    timers = len(list(store.scan(layout.TIMER)))
    before = store.read
    partition = Partition(store, 0, SETTINGS)
    assert (timers, store.read - before) == (200, 200 + 3)  # the timers, Meta, an erasure, a heartbeat in the outbox
    for source in SourceTopic:
        end = Record(partition.next_offsets[source], wire({"watermark": START_MS + 10_000_000}))
        partition.handle(source, [end])
    assert partition.counters.targets == 400


def test_a_slate_beyond_the_bound_becomes_tokens_alone() -> None:
    """It is counted; a click that names it is a late label, one that names none is organic."""
    settings = SETTINGS.model_copy(update={"open_requests": 2})
    shown = [impression("u", f"r{n}", START_MS + n, f"i{n}", "x") for n in range(3)]
    clicks = [action("u", "i2", START_MS + 10, request_id="r2"), action("u", "i2", START_MS + 11)]
    partition, kafka, store = play({"impressions": shown, "actions": clicks}, settings)
    assert partition.counters.dropped_requests == 1
    assert partition.counters.late_labels == 1
    assert len(stored_tokens(store)[id_key("u")]) == 8
    assert sum(len(example.positions) for example in the_examples(kafka)) == 2 * 2 + 1


def test_windows_that_end_make_room() -> None:
    """The bound is on what is open at a time, not on what a user ever does."""
    settings = SETTINGS.model_copy(update={"open_requests": 1, "action_window_s": 1.0})
    shown = [impression("u", f"r{n}", START_MS + 1000 * n, "a") for n in range(5)]
    partition, kafka, _ = play({"impressions": shown}, settings)
    assert partition.counters.dropped_requests == 0
    assert sum(len(example.positions) for example in the_examples(kafka)) == 5


@pytest.mark.parametrize(("names", "dropped"), [(3, 0), (4, 1)])
def test_the_attributes_that_are_remembered_are_bounded(names: int, dropped: int) -> None:
    """The one that changed longest ago is forgotten, so that its next value counts as new."""
    settings = SETTINGS.model_copy(update={"user_attributes": 3})
    told = [{"user_id": "u", "name": f"n{n}", "value": 1, "ts": START_MS + n} for n in [*range(names), 2, 0][:-1]]
    told += [{"user_id": "u", "name": "n0", "value": 1, "ts": START_MS + 50}]
    partition, _, store = play({"attributes": told}, settings)
    assert partition.counters.tokens == names + dropped
    assert partition.counters.dropped_attributes == 2 * dropped
    state = layout.USERS.decode(store.data[layout.user_key(id_key("u"))])
    assert len(state.attributes) == 3
