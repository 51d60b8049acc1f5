"""A system that is given more partitions goes on as if it had always had them."""

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from stream.errors import StoreError
from stream.example import Example
from stream.join.partition import Partition
from stream.rescale.division import Division, count
from stream.schema.ids import NO_KEY, id_key, partition_of
from stream.schema.topics import SourceTopic
from stream.store import layout
from stream.store.layout import UserState
from tests.memory_store import MemoryStore
from tests.oracles import Wire
from tests.strategies import event_sets, tries
from tests.stream.join.play import SETTINGS, the_examples
from tests.stream.rescale.systems import System, Timed, beginning
from tests.wire import Record, action, impression, wire

LATENESS_MS = 3000
QUICK = SETTINGS.model_copy(update={"lateness_s": LATENESS_MS / 1000, "history_tokens": 64})


def targets_of(examples: list[Example]) -> list[tuple[object, ...]]:
    """Return all that examples say but for their partition, serial, parent and texts, sorted."""
    return sorted(
        (
            *(example.user, example.final_ms, example.first, example.keys.tolist(), example.actions.tolist()),
            *(example.positions.tolist(), example.queries.tolist(), example.requests.tolist()),
            *(example.request_ms.tolist(), example.label_offsets.tolist(), example.labels.tolist()),
        )
        for example in examples
    )


@st.composite
def logs(draw: st.DrawFn) -> list[Timed]:
    """Events of all topics as they arrive, none of them late; one of them may forget a user."""
    events = draw(event_sets(20))
    found = [(source, event) for source in SourceTopic for event in events[source.topic]]
    if found and draw(st.booleans()):
        forgotten = draw(st.sampled_from(found))[1]
        found.append((SourceTopic.ATTRIBUTES, {k: forgotten[k] for k in ("user_id", "ts")} | {"forget": True}))
    delays = draw(st.lists(st.integers(0, LATENESS_MS), min_size=len(found), max_size=len(found)))
    arrival = sorted(range(len(found)), key=lambda at: found[at][1]["ts"] + delays[at])
    return [found[at] for at in arrival]


@hypothesis_settings(max_examples=tries(100), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(), st.data())
def test_any_log_cut_anywhere_gives_what_it_gives_without_more_partitions(
    log: list[Timed], data: st.DataObject
) -> None:
    """Sequences of all users, their digest, and every target in one example; nothing is refused that was not."""
    counts = data.draw(st.sampled_from([(1, 2), (2, 5), (1, 2, 5), (2, 3)]))
    cuts = sorted(data.draw(st.integers(0, len(log))) for _ in counts[1:])
    most = data.draw(st.sampled_from([1, 20, 10**9]))
    kept = System(QUICK.model_copy(update={"partitions": counts[0]}))
    system, before, barrier_ms = System(kept.settings), 0, 0
    examples: list[Example] = []
    for partitions, cut in zip(counts[1:], cuts, strict=True):
        part, before = log[before:cut], cut
        barrier_ms = max([event["ts"] for _, event in log[:cut]], default=0)
        for each in (kept, system):
            each.feed(part, most)
            each.bring_to(barrier_ms, most)
            each.finish()
        assert all(example.final_ms < barrier_ms - LATENESS_MS for example in system.examples()), "all are passed over"
        examples += system.examples()
        system = system.rescaled(partitions)
    for each in (kept, system):
        each.feed(log[before:], most)
        each.bring_to(10**9, most)
        each.finish()
    assert all(example.final_ms >= barrier_ms - LATENESS_MS for example in system.examples()), "none is passed over"
    examples += system.examples()
    assert system.tokens() == kept.tokens()
    assert targets_of(examples) == targets_of(kept.examples())
    assert system.refused() == kept.refused() == {}
    assert sum(p.digest for p in system.partitions) % 2**128 == sum(p.digest for p in kept.partitions) % 2**128
    assert sum(p.counters.tokens for p in system.partitions) == sum(p.counters.tokens for p in kept.partitions)
    assert [p.waiting for p in system.partitions] == [0] * counts[-1]
    for sent in system.sent:  # a trainer that begins with the new log learns every text
        known: set[int] = {NO_KEY}
        for example in the_examples(sent):
            known |= set(example.text_keys.tolist())
            assert set(example.keys.tolist()) | set(example.actions.tolist()) <= known


def test_what_waits_under_one_time_and_offset_stays_apart() -> None:
    """An event that waited, and one of the new log with the user, the time and the offset of it, are two."""
    system = System(QUICK.model_copy(update={"partitions": 1}))
    system.feed([(SourceTopic.ACTIONS, action("u", item, 5000)) for item in "abc"], 10**9)
    system.bring_to(5000, 10**9)
    system = system.rescaled(2)
    system.feed([(SourceTopic.ACTIONS, action("u", item, 5000)) for item in "de"], 10**9)
    system.bring_to(5000, 10**9)
    system = system.rescaled(3)
    system.feed([(SourceTopic.ACTIONS, action("u", "f", 5000))], 10**9)
    opened = System(system.settings, system.stores)  # as after a crash: what waits is read from the stores
    assert sum(partition.waiting for partition in opened.partitions) == 6


def test_a_fresh_store_does_not_begin_in_the_middle() -> None:
    """A log that goes on with another one makes no store: users would be as if they had never been there."""
    partition = Partition(MemoryStore({}), 1, SETTINGS.model_copy(update={"partitions": 3}))
    with pytest.raises(StoreError, match=r"partition 1 goes on with that of old, 2 partitions.*hstu store restore"):
        partition.handle(SourceTopic.ACTIONS, [beginning()])
    partition = Partition(MemoryStore({}), 1, SETTINGS.model_copy(update={"partitions": 3}))
    partition.handle(SourceTopic.ACTIONS, [Record(0, wire(action("u", "a", 1))), beginning(1)])
    assert partition.next_offsets[SourceTopic.ACTIONS] == 2, "a stranger's header stops nothing"


def test_a_user_of_another_partitioner_is_refused() -> None:
    """Nobody knows where their next events will go; the sentence names the user."""
    home = partition_of(b"u", 2)
    store = MemoryStore({layout.user_key(id_key("u")): layout.ENCODER.encode(UserState("u"))})
    assert count(home, store, 2).users == 1
    with pytest.raises(StoreError, match=rf"User 'u' lies in partition {1 - home}, .* puts them in {home}"):
        count(1 - home, store, 2)


def test_two_users_of_one_key_are_refused() -> None:
    """One would take the other's place."""
    old = [MemoryStore({layout.user_key(7): layout.ENCODER.encode(UserState(text))}) for text in ("u", "u1")]
    division = Division([MemoryStore({})])
    division.take(old[0])
    with pytest.raises(StoreError, match=r"The users 'u' and 'u1' have one key.*hstu forget u1"):
        division.take(old[1])


def test_what_belongs_to_all_is_counted_once() -> None:
    """Counters go on as they would have; a waiting event that cannot be read is a dead letter, once."""
    system = System(QUICK.model_copy(update={"partitions": 2}))
    events: list[tuple[SourceTopic, Wire]] = [(SourceTopic.ACTIONS, action(f"u{n}", "a", 1000)) for n in range(9)]
    system.feed([*events, (SourceTopic.IMPRESSIONS, impression("u1", "r", 900, "a"))], 10**9)
    system.bring_to(1000, 10**9)
    system.stores[1].data[layout.waiting_key(3, 1000, SourceTopic.ACTIONS, 7)] = b"["
    new = system.rescaled(5)
    assert sum(partition.counters.events[SourceTopic.ACTIONS] for partition in new.partitions) == 9
    assert new.refused() == {"wrong-type": 1}
