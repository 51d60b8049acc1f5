import json
from dataclasses import replace
from typing import Any

import pytest

from model.errors import ModelError
from model.trainer.inbox import Inbox
from model.trainer.merge import Naming
from stream.example import (
    Example,
    FormatError,
    Heartbeat,
    decode,
    encode_example,
    encode_heartbeat,
    farewell,
    message_digest,
)
from tests.factories import START_MS, Record
from tests.runs import ITEMS, LOGS

_HEARTBEAT_BYTES = 48


def ignore_items(records: object) -> None:
    """Stand in for the learner's learn_items."""


def full_inbox() -> Inbox:
    """Return an inbox that has read all logs."""
    inbox = Inbox(3, 2)
    for topic, logs in (("examples", LOGS), ("items", ITEMS)):
        for p, log in enumerate(logs):
            inbox.offer(topic, p, log)
    return inbox


def test_records_are_read_once_and_taken_out_in_one_order() -> None:
    """75 examples make nine micro-batches of eight and a last one of three; catalogue records come in between."""
    inbox, sizes, places, records = full_inbox(), [], [], []
    for p, log in enumerate(LOGS):
        inbox.offer("examples", p, log)  # below the position: dropped
    while inbox.gather(8, records.extend):
        sizes.append(len(inbox.batch))
        places += [placed.place_ms for placed in inbox.batch]
        inbox.batch.clear()
    assert sizes == [8] * 9 + [3]
    assert places == sorted(places)
    assert len(records) == sum(len(log) - 1 for log in ITEMS)  # each log ends with a heartbeat
    assert (inbox.ended, inbox.waiting, inbox.merge.repeats) == (True, 0, 0)


def test_who_is_forgotten_does_not_wait_for_others() -> None:
    """The example that says so ends its micro-batch, alone or behind others; the order stays."""
    log = [record.value for record in LOGS[0] if record.value and len(record.value) > _HEARTBEAT_BYTES][:2]
    second = decode(log[1])
    assert isinstance(second, Example)
    for n in (1, 2):
        log.append(encode_example(farewell(0, 2 + n, second.final_ms + n, n, message_digest(log[-1]))))
    log.append(encode_heartbeat(Heartbeat(0, second.final_ms + 9)))
    inbox = Inbox(1, 0)
    inbox.offer("examples", 0, [Record(offset, None, message, 0) for offset, message in enumerate(log)])
    sizes = []
    while inbox.gather(8, ignore_items):
        sizes.append([placed.value[0].serial for placed in inbox.batch])
        inbox.batch.clear()
    assert sizes == [[1, 2, 3], [4]]


def test_what_waits_is_read_again_from_the_marks() -> None:
    """A second inbox, restored from the marks, takes out exactly what the first had not given away."""
    first = full_inbox()
    for _ in range(4):
        assert first.gather(8, ignore_items)
        first.batch.clear()
    assert first.gather(5, ignore_items)  # half gathered
    marks, left = first.marks(), []
    again = Inbox(3, 2)
    again.restore(marks)
    for topic, logs in (("examples", LOGS), ("items", ITEMS)):
        for p, log in enumerate(logs):
            assert again.position(topic, p) == marks[topic][p]["offset"]
            again.offer(topic, p, log[again.position(topic, p) :])
    for inbox in (first, again):
        assert inbox.gather(1000, ignore_items)
        left.append([(placed.place_ms, placed.partition, placed.offset) for placed in inbox.batch])
    assert left[0] == left[1]
    assert len(left[0]) == 75 - 4 * 8
    assert (again.tokens, again.sequences_digest) == (first.tokens, first.sequences_digest)


def test_the_watermark_is_the_first_example_not_trained_on() -> None:
    """In the middle of a log; before anything is read it is 0."""
    assert Inbox(3, 0).learned_ms == 0
    inbox = full_inbox()
    inbox.gather(8, ignore_items)
    inbox.batch.clear()
    before = min(queue.waiting[0].place_ms for queue in inbox.merge.queues["examples"])
    inbox.gather(8, ignore_items)
    assert inbox.learned_ms == before == inbox.batch[0].place_ms > START_MS


def test_a_missing_example_is_refused() -> None:
    """Lost data is not trained around; the position stays before the gap."""
    inbox = Inbox(3, 0)
    examples = [record for record in LOGS[0] if len(record.value or b"") > _HEARTBEAT_BYTES]
    inbox.offer("examples", 0, examples[:2])
    with pytest.raises(ModelError, match="1 examples are missing"):
        inbox.offer("examples", 0, examples[3:])
    assert inbox.position("examples", 0) == examples[1].offset + 1


def test_foreign_and_damaged_records_are_passed_over() -> None:
    """A broken one of ours is missed at the next serial; another version stops the trainer."""
    inbox = Inbox(3, 2)
    inbox.offer("examples", 0, [Record(0, None, b"hello", 0), Record(1, None, None, 0)])
    inbox.offer("items", 0, [Record(0, b"x", b"{", 0)])
    assert inbox.refused == 3
    far = encode_heartbeat(Heartbeat(0, 2**62))
    inbox.offer("examples", 0, [Record(2, None, (LOGS[0][0].value or b"")[:-8], 0), Record(3, None, far, 0)])
    assert inbox.refused == 5
    with pytest.raises(FormatError, match="version 1, type 1"):
        inbox.offer("examples", 0, [Record(4, None, b"HSTE\x01\x00\x01\x00" + bytes(60), 0)])
    with pytest.raises(ModelError, match="partition 1, holds a message of partition 0"):
        inbox.offer("examples", 1, [LOGS[0][0]])
    with pytest.raises(ModelError, match="Partition 7 of examples"):
        inbox.offer("examples", 7, LOGS[0])


def test_junk_is_logged_at_the_first_record_and_at_every_tenfold(caplog: pytest.LogCaptureFixture) -> None:
    """Of each topic by itself: a line a record would fill the disk, and hide the others."""
    inbox = Inbox(1, 1)
    inbox.offer("items", 0, [Record(n, b"x", b"{", 0) for n in range(120)])
    inbox.offer("examples", 0, [Record(n, None, b"hello", 0) for n in range(12)])
    assert [record.getMessage().partition(" Offset ")[2].partition(",")[0] for record in caplog.records[:3]] == [
        "0 of items",
        "9 of items",
        "99 of items",
    ]
    assert "the 100th such record of items" in caplog.records[2].getMessage()
    assert (len(caplog.records), inbox.refused) == (5, 132)


def item(offset: int, ts_ms: int, key: str = "x") -> Record:
    """Return a record of the catalogue."""
    return Record(offset, key.encode(), b'{"item_id":"%s","ts":%d}' % (key.encode(), ts_ms), START_MS + 1000)


def restored(inbox: Inbox) -> Inbox:
    """Return an inbox that goes on from the marks of another, as a checkpoint has them."""
    again = Inbox(1, 1, naming=Naming("t-", "silu", lambda: "silu-2"))
    again.restore(json.loads(json.dumps(inbox.marks())))
    return again


CATALOGUE = [
    item(3, START_MS),  # the log begins there
    item(4, START_MS + 10),
    Record(5, b"x", b"{", 7),  # refused
    Record(8, b"\x00heartbeat", b'{"watermark":%d}' % (START_MS + 20), START_MS + 1000),
    item(9, START_MS + 30),
]


@pytest.mark.parametrize("read", range(len(CATALOGUE) + 1))
@pytest.mark.parametrize("taken", range(4))
def test_the_mark_of_items_has_the_last_record_before_it(read: int, taken: int) -> None:
    """Whatever its kind, and whatever waits; it comes once more, is the same, and all goes on: as often as it likes."""
    inbox, learned = Inbox(1, 1), list[Any]()
    inbox.offer("items", 0, CATALOGUE[:read])
    inbox.merge.beat("examples", 0, START_MS + 15 * taken)
    inbox.gather(8, learned.extend)
    again = restored(restored(inbox))
    (mark,) = inbox.marks()["items"]
    before = [record for record in CATALOGUE[:read] if record.offset < mark["offset"]]
    assert again.last_read(0) == (before[-1].offset if before else None)
    assert bool(mark["offset"]) == bool(before)  # where nothing was read before, from the log's beginning
    again.offer("items", 0, [*before[-1:], *CATALOGUE[len(before) :]])
    again.merge.beat("items", 0, START_MS + 40)
    again.merge.beat("examples", 0, START_MS + 50)
    again.gather(8, learned.extend)
    assert [record.ts_ms for record in learned] == [START_MS, START_MS + 10, START_MS + 30]


@pytest.mark.parametrize("last", range(len(CATALOGUE)))
def test_another_record_of_items_at_the_last_offset_is_refused(last: int) -> None:
    """Before anything of the other log is learned; the sentence has the names and the command."""
    inbox = Inbox(1, 1)
    inbox.offer("items", 0, CATALOGUE[: last + 1])
    inbox.merge.beat("items", 0, START_MS + 40)
    inbox.merge.beat("examples", 0, START_MS + 40)
    inbox.gather(8, ignore_items)
    for change in ({"value": b"{}"}, {"key": b"y"}, {"timestamp": 8}):
        again = restored(inbox)
        other = [replace(CATALOGUE[last], **change), item(10, START_MS + 50)]
        refusal = (
            rf"^Offset {CATALOGUE[last].offset} of t-items, partition 0, holds another record than the one that "
            r"trainer silu has read .*Kafka of before; or go on .* hstu train --name silu-2 --weights-from silu, .*\.md"
        )
        with pytest.raises(ModelError, match=refusal):
            again.offer("items", 0, other)
        assert again.waiting == 0


def test_a_last_record_of_items_that_compaction_has_taken_is_not_missed() -> None:
    """A newer one of its key has come, further on."""
    inbox = Inbox(1, 1)
    inbox.offer("items", 0, CATALOGUE[:2])
    inbox.merge.beat("examples", 0, START_MS + 40)
    inbox.gather(8, ignore_items)
    again = restored(inbox)
    again.offer("items", 0, CATALOGUE[3:])
    assert (again.last_read(0), again.position("items", 0)) == (9, 10)


def test_items_future() -> None:
    """A record of 2150 in `items` is passed over, so that a later tombstone of its partition takes its place."""
    inbox, learned = Inbox(1, 1), list[object]()
    record = Record(0, b"x", b'{"item_id":"x","ts":5680281600000}', START_MS)
    inbox.offer("items", 0, [record, Record(1, b"i3", None, START_MS + 1)])
    inbox.merge.beat("items", 0, START_MS + 2)
    inbox.merge.beat("examples", 0, START_MS + 2)
    inbox.gather(8, learned.extend)
    assert (inbox.refused, len(learned), inbox.merge.queues["items"][0].clock_ms) == (1, 1, START_MS + 2)
