"""Dead-letters on a real Kafka: counted once, found by their id, sent back once and byte for byte."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from stream.config import StreamSettings
from stream.errors import HstuError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.operations.dead_letters import (
    Letter,
    Wanted,
    _original,
    check_reasons,
    find_letters,
    last_letters,
    replay_letters,
    survey_letters,
)
from stream.schema.dead_letters import DeadLetter, Reason
from tests.kafka import KafkaForTests
from tests.kafka_logs import read
from tests.raw_records import batch, produce, record
from tests.topics import own_topics


def letter(settings: StreamSettings, reason: Reason, offset: int, value: bytes, topic: str = "actions") -> DeadLetter:
    return DeadLetter(reason, "why", settings.topic_prefix + topic, 1, offset, b"k", value)


def write(kafka: Kafka, settings: StreamSettings, letters: Sequence[DeadLetter], **more: bytes) -> None:
    """Write letters as a worker does; `more` are headers of each."""
    producer = clients.producer(kafka)
    headers = [(name.replace("_", "-"), value) for name, value in more.items()]
    for one in letters:
        topic = settings.topic_prefix + "dead-letters"
        producer.send(topic, one.value, key=one.key, headers=[*one.headers(), *headers]).get(10)
    producer.close()


@pytest.fixture
def settings(kafka: KafkaForTests) -> StreamSettings:
    made = own_topics(2)
    create_topics(Kafka(kafka.bootstrap), made)
    return made


def sources(kafka: Kafka, settings: StreamSettings, topic: str = "actions") -> list[tuple[int, bytes, bytes]]:
    """Return partition, key and value of what lies in a source."""
    logs = asyncio.run(read(kafka.bootstrap, settings.topic_prefix + topic))
    return [(number, record.key, record.value) for number, log in enumerate(logs) for record in log]


@pytest.mark.parametrize(
    ("kept", "lengths", "there", "same"),
    [
        ((b"k", b""), ("", ""), (b"k", b""), True),
        ((b"k", b""), ("", ""), (b"k", None), True),
        ((None, b"{"), ("", ""), (None, b"{"), True),
        ((None, b"{"), ("", ""), (b"k", b"{"), True),
        ((None, b""), ("", ""), (b"k", b""), False),
        ((b"k", b""), ("", ""), (b"k", b"{}"), False),
        ((b"k", b"{"), ("", ""), (b"k", b"{}"), False),
        ((b"k", b"{"), ("", ""), (b"other", b"{"), True),
        ((b"k", b"{"), ("", "2"), (b"k", b"{}"), True),
        ((b"k", b"{"), ("", "2"), (b"k", b"{ }"), False),
        ((b"k", b"{"), ("", "2"), (b"k7", b"{}"), False),
        ((None, b"{"), ("", "2"), (b"k", b"{}"), False),
        ((b"k", b""), ("2", ""), (b"k7", None), True),
        ((b"k", b""), ("2", ""), (b"k7", b"{}"), False),
        ((b"k", b""), ("2", ""), (b"k77", b""), False),
    ],
)
def test_what_has_a_letters_place_is_sent_only_if_it_is_the_letters(
    kept: tuple[bytes | None, bytes],
    lengths: tuple[str, str],
    there: tuple[bytes | None, bytes | None],
    same: bool,
) -> None:
    """A topic that was made again has others' events there, of which one may begin as a cut letter does."""
    refused = Letter("actions", 0, 1, "empty", "why", 0, *kept, *lengths)
    record = SimpleNamespace(key=there[0], value=there[1], headers=[("a", b"b")])
    original = _original(refused, lambda place, offset: record)
    if same:
        assert original == (there[0], there[1] or b"", [("a", b"b")])
    else:
        assert original == (None if any(lengths) else (*kept, []))


def test_letters_are_counted_once_by_reason_and_topic(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """A letter that a killed worker wrote twice is one; the newest are shown, newest first; filters hold."""
    late = [letter(settings, Reason.LATE, offset, b"%d" % offset) for offset in range(3)]
    other = letter(settings, Reason.NOT_JSON, 9, b"{", "attributes")
    write(Kafka(kafka.bootstrap), settings, [*late, late[1], other])
    found = survey_letters(Kafka(kafka.bootstrap), settings, Wanted(), 2)
    prefix = settings.topic_prefix
    assert found.counts == {("late", prefix + "actions"): 3, ("not-json", prefix + "attributes"): 1}
    assert found.last[0].id == f"{prefix}attributes/1/9"
    assert len(found.last) == 2
    only = survey_letters(Kafka(kafka.bootstrap), settings, Wanted(topics=[prefix + "attributes"]), 0)
    assert only.counts == {("not-json", prefix + "attributes"): 1}


def test_a_letter_is_found_by_its_id(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """It has the bytes and the reason; an id that does not exist is a sentence, as is a reason."""
    write(Kafka(kafka.bootstrap), settings, [letter(settings, Reason.BAD_TIME, 7, b"\xff\x00")])
    (found,) = find_letters(Kafka(kafka.bootstrap), settings, f"{settings.topic_prefix}actions/1/7")
    assert (found.reason, found.detail, found.key, found.value) == ("bad-time", "why", b"k", b"\xff\x00")
    with pytest.raises(HstuError, match="There is no dead-letter x/1/7"):
        find_letters(Kafka(kafka.bootstrap), settings, "x/1/7")
    with pytest.raises(HstuError, match=r"no reason 'latte'; known are empty, unreadable, too-large"):
        check_reasons(["latte"])


def test_letters_are_sent_back_once(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """To their partition, byte for byte; a second replay sends nothing, a dry run neither, and list knows."""
    letters = [letter(settings, Reason.FUTURE, 0, b'{"a":1}'), letter(settings, Reason.LATE, 1, b'{"a":2}')]
    write(Kafka(kafka.bootstrap), settings, letters)
    wanted, name = Wanted(reasons=["future"]), settings.topic_prefix + "actions"
    assert replay_letters(Kafka(kafka.bootstrap), settings, wanted, dry_run=True).sent == {("future", name): 1}
    assert sources(Kafka(kafka.bootstrap), settings) == []
    assert replay_letters(Kafka(kafka.bootstrap), settings, wanted, dry_run=False).sent == {("future", name): 1}
    assert sources(Kafka(kafka.bootstrap), settings) == [(1, b"k", b'{"a":1}')]
    again = replay_letters(Kafka(kafka.bootstrap), settings, Wanted(ids=[f"{name}/1/0"]), dry_run=False)
    assert (again.sent, again.before) == ({}, 1)
    assert len(sources(Kafka(kafka.bootstrap), settings)) == 1
    found = survey_letters(Kafka(kafka.bootstrap), settings, Wanted(), 5)
    assert (found.replayed, sum(found.counts.values())) == (1, 2)


def test_a_letter_without_a_key_is_sent_back_once(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """The note that it was sent has neither key nor value, which Kafka's client refused once the event was sent."""
    broker, name = Kafka(kafka.bootstrap), settings.topic_prefix + "actions"
    write(broker, settings, [DeadLetter(Reason.NOT_JSON, "", name, 1, at, None, b"{%d" % at) for at in (0, 1)])
    assert replay_letters(broker, settings, Wanted(), dry_run=False).sent == {("not-json", name): 2}
    assert replay_letters(broker, settings, Wanted(), dry_run=False).before == 2
    assert survey_letters(broker, settings, Wanted(), 5).replayed == 2
    assert sorted(value for _, _, value in sources(broker, settings)) == [b"{0", b"{1"]


def test_a_letter_of_a_topic_that_is_gone_or_smaller_stops_no_other(
    kafka: KafkaForTests, settings: StreamSettings
) -> None:
    """It is passed over by name, by a dry run as well: Kafka's client waits for a partition, or fails."""
    broker, prefix = Kafka(kafka.bootstrap), settings.topic_prefix
    letters = [letter(settings, Reason.LATE, 0, b"{}", topic) for topic in ("actions", "attributes", "impressions")]
    write(broker, settings, letters)
    with clients.admin_client(broker, 10) as admin:
        admin.delete_topics([prefix + "actions", prefix + "attributes"])
        while set(admin.list_topics()) & {prefix + "actions", prefix + "attributes"}:
            pass
        admin.create_topics([clients.NewTopic(prefix + "attributes", 1, 1)])
    for dry_run in (True, False):
        done = replay_letters(broker, settings, Wanted(), dry_run=dry_run)
        assert done.sent == {("late", prefix + "impressions"): 1}
        assert sorted(done.passed_over) == [
            f"{prefix}{topic}/1/0: Kafka has no such partition now" for topic in ("actions", "attributes")
        ]


def test_a_letter_of_a_topic_that_was_made_again_is_another_one(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """It has the place of one before: both are listed, shown and sent back, each once."""
    first, second = (letter(settings, Reason.NOT_JSON, 5, value) for value in (b"first", b"second"))
    broker, name = Kafka(kafka.bootstrap), settings.topic_prefix + "actions"
    write(broker, settings, [first])
    wanted = Wanted(ids=[f"{name}/1/5"])
    assert replay_letters(broker, settings, wanted, dry_run=False).sent == {("not-json", name): 1}
    write(broker, settings, [second, second])
    found = survey_letters(broker, settings, Wanted(), 5)
    assert (sum(found.counts.values()), found.replayed) == (2, 1)
    assert {each.value for each in last_letters(broker, settings, 5)} == {b"first", b"second"}
    assert [each.value for each in find_letters(broker, settings, f"{name}/1/5")] == [b"first", b"second"]
    again = replay_letters(broker, settings, wanted, dry_run=False)
    assert (again.sent, again.before) == ({("not-json", name): 1}, 1)
    assert replay_letters(broker, settings, wanted, dry_run=False).before == 2
    assert [value for _, _, value in sources(broker, settings)] == [b"first", b"second"]


def test_letters_that_will_be_late_are_counted(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """By the time of their partition's log: an event, a heartbeat, each no later than Kafka had it."""
    values = [b'{"ts": 1}', b'{"ts": 170001}', b'{"ts": 169999}', b"{", b'{"ts": 199999}']
    write(Kafka(kafka.bootstrap), settings, [letter(settings, Reason.LONG_SLATE, i, v) for i, v in enumerate(values)])
    wanted = Wanted(reasons=["long-slate"])
    assert replay_letters(Kafka(kafka.bootstrap), settings, wanted, dry_run=True).late == 0
    producer = clients.producer(Kafka(kafka.bootstrap))
    for value, partition in ((b'{"watermark": 200000}', 1), (b'{"ts": 100}', 1), (b'{"ts": 300000}', 0)):
        producer.send(settings.topic_prefix + "actions", value, partition=partition).get(10)
    producer.close()
    assert settings.lateness_s == 30
    assert replay_letters(Kafka(kafka.bootstrap), settings, wanted, dry_run=True).late == 2


def test_a_cut_letter_is_replaced_by_its_record(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """Where Kafka still has the record, all of it is sent; where not, the letter is named and nothing is sent."""
    topic, whole = settings.topic_prefix + "actions", b"x" * 1000
    producer = clients.producer(Kafka(kafka.bootstrap))
    offset = producer.send(topic, whole, key=b"k", partition=1, headers=[("hstu-replay", b"7")]).get(10).offset
    producer.close()
    assert (
        Letter("a", 0, 1, "", "", 0, b"k", b"x", "", "2").content
        != Letter("a", 0, 1, "", "", 0, b"k", b"x", "", "3").content
    )
    cut = [letter(settings, Reason.NOT_JSON, at, whole[:10]) for at in (offset, 5)]
    write(Kafka(kafka.bootstrap), settings, cut, cut_from_bytes=b"1000")
    done = replay_letters(Kafka(kafka.bootstrap), settings, Wanted(reasons=["not-json"]), dry_run=False)
    assert (done.sent, done.lost) == ({("not-json", topic): 1}, [f"{topic}/1/5"])
    assert sources(Kafka(kafka.bootstrap), settings) == [(1, b"k", whole)] * 2
    _, (_, again) = asyncio.run(read(kafka.bootstrap, topic))
    assert again.headers == (("hstu-replay", b"7"), ("dead-letter", f"{topic}/1/{offset}".encode()))


def test_an_unreadable_record_is_sent_back_readable(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """Without the header whose name nobody can read, with its others: the worker takes it then."""
    topic = settings.topic_prefix + "actions"
    odd = record(b"k", b'{"a":1}', [(b"hstu-replay", b"7"), (b"\xff", b"x")])
    assert produce(kafka.bootstrap, topic, 1, batch(odd, 1)) == 0
    write(Kafka(kafka.bootstrap), settings, [letter(settings, Reason.UNREADABLE, 0, b'{"a":1}')])
    done = replay_letters(Kafka(kafka.bootstrap), settings, Wanted(), dry_run=False)
    assert done.sent == {("unreadable", topic): 1}
    _, (_, again) = asyncio.run(read(kafka.bootstrap, topic))
    assert (again.key, again.value) == (b"k", b'{"a":1}')
    assert again.headers == (("hstu-replay", b"7"), ("dead-letter", f"{topic}/1/0".encode()))


def test_forged_letters_stop_nothing(kafka: KafkaForTests) -> None:
    """A place or a reason that no worker can have named, or a record that Kafka refuses, is named and passed over."""
    settings = own_topics(1)  # so that letters are read in their order
    create_topics(Kafka(kafka.bootstrap), settings)
    prefix = settings.topic_prefix
    name = prefix + "actions"
    forged = [
        DeadLetter(Reason.LATE, "", name, 999_999, 0, b"k", b"v"),
        DeadLetter(Reason.LATE, "", name, -1, 0, b"k", b"v"),
        DeadLetter(Reason.LATE, "", prefix + "examples", 0, 0, b"k", b"v"),
        DeadLetter(Reason.LATE, "", "no topic", 0, 0, b"k", b"v"),
        DeadLetter(Reason.LATE, "", prefix + "items", 0, 0, None, b"v"),
        DeadLetter(cast(Reason, SimpleNamespace(value="because")), "", name, 0, 0, b"k", b"v"),
    ]
    write(Kafka(kafka.bootstrap), settings, [*forged, DeadLetter(Reason.LATE, "", name, 0, 1, b"k", b"{}")])
    done = replay_letters(Kafka(kafka.bootstrap), settings, Wanted(), dry_run=False)
    assert done.sent == {("late", name): 1}
    whys = [
        "no such partition",
        "no such partition",
        "not a topic",
        "not a topic",
        "InvalidRecord",
        "no reason 'because'",
    ]
    places = [f"{one.topic}/{one.partition}/{one.offset}: " for one in forged]
    assert len(done.passed_over) == len(forged)
    for place, why in zip(places, whys, strict=True):
        assert [said for said in done.passed_over if said.startswith(place) and why in said], (place, why)
    (log,) = asyncio.run(read(kafka.bootstrap, name, 1))
    assert [record.value for record in log] == [b"{}"]
    found = survey_letters(Kafka(kafka.bootstrap), settings, Wanted(), 5)
    assert (found.counts, len(found.foreign)) == ({("late", name): 1, ("late", prefix + "items"): 1}, 5)


def test_foreign_records_are_no_letters(kafka: KafkaForTests, settings: StreamSettings) -> None:
    """A letter that names another topic than an input is never sent anywhere; records without headers are counted."""
    foreign = DeadLetter(Reason.LATE, "", "somebody-elses", 0, 0, b"k", b"v")
    write(Kafka(kafka.bootstrap), settings, [foreign])
    producer = clients.producer(Kafka(kafka.bootstrap))
    producer.send(settings.topic_prefix + "dead-letters", b"what is this?").get(10)
    name = settings.topic_prefix + "actions"
    for partition, offset in (("one", "7"), ("1", "x"), ("1", "x")):
        headers = {"topic": name, "partition": partition, "offset": offset, "reason": "late"}
        encoded = [(key, text.encode()) for key, text in headers.items()]
        producer.send(settings.topic_prefix + "dead-letters", b"v", headers=encoded).get(10)
    producer.close()
    found = survey_letters(Kafka(kafka.bootstrap), settings, Wanted(), 5)
    assert found.counts == {}
    assert len(found.foreign) == 5
    junk = [said for said in found.foreign if said.startswith(f"{settings.topic_prefix}dead-letters/")]
    assert "has no header 'topic' or 'partition' or 'offset' or 'reason'" in junk[0]
    assert f"{name}/-1/-1: its place has 'x' where a number is wanted" in found.foreign
    assert len(replay_letters(Kafka(kafka.bootstrap), settings, Wanted(), dry_run=False).passed_over) == 5
    assert replay_letters(Kafka(kafka.bootstrap), settings, Wanted(reasons=["late"]), dry_run=False).sent == {}
