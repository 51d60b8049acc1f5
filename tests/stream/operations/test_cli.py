"""The operators' verbs: exit codes, --json, and that nothing is replayed without being named."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from stream.config import KafkaSettings, StreamSettings
from stream.errors import HstuError
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.operations.cli import add_commands
from tests.kafka import KafkaForTests
from tests.topics import own_topics


@dataclass
class Settings:
    """Settings as the main command builds them, and the context that loads them."""

    stream: StreamSettings = field(default_factory=StreamSettings)
    bootstrap: str = ""
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    data_dir: Path = Path("hstu-data")
    kafka: KafkaSettings = field(default_factory=KafkaSettings)

    def load(self, flags: dict[str, Any]) -> "Settings":
        return Settings(self.stream, **{key: value for key, value in flags.items() if value is not None})

    def titles(self, settings: object) -> Callable[[str], str | None]:
        return {"a": "Title"}.get


def hstu(settings: StreamSettings, *arguments: str) -> Result:
    app = typer.Typer()
    add_commands(app)
    return CliRunner().invoke(app, arguments, obj=Settings(settings))


def test_doctor_exits_with_1_where_something_fails(kafka: KafkaForTests, tmp_path: Path) -> None:
    """Each line has its level and a remedy; --json is one document; without a failure the code is 0."""
    settings, flags = own_topics(1), ("--bootstrap", kafka.bootstrap, "--data-dir", str(tmp_path / "data"))
    done = hstu(settings, "doctor", *flags)
    assert done.exit_code == 1
    assert "FAIL topics: " in done.stdout
    assert "→ run hstu topics create\n" in done.stdout
    create_topics(Kafka(kafka.bootstrap), settings)
    done = hstu(settings, "doctor", "--json", *flags)
    assert done.exit_code == 0
    assert {"level": "ok", "what": "topics", "says": "6 topics with 1 partitions each", "mend": ""} in json.loads(
        done.stdout
    )


def test_letters_are_listed_shown_and_replayed(kafka: KafkaForTests) -> None:
    """By the id that list prints; bytes that are no text are shown escaped, and as base64 in JSON."""
    settings, flags = own_topics(1), ("--bootstrap", kafka.bootstrap)
    create_topics(Kafka(kafka.bootstrap), settings)
    topic = settings.topic_prefix + "actions"
    headers = {"reason": "not-json", "detail": "no\x1b[2Jway", "topic": topic, "partition": "0", "offset": "7"}
    producer = clients.producer(Kafka(kafka.bootstrap))
    encoded = [(name, text.encode()) for name, text in headers.items()]
    producer.send(settings.topic_prefix + "dead-letters", b"\xff\n", key=b"u", headers=encoded).get(10)
    encoded[3] = ("partition", b"5")
    producer.send(settings.topic_prefix + "dead-letters", b"forged", headers=encoded).get(10)
    producer.close()
    listed = json.loads(hstu(settings, "dead-letters", "list", "--json", *flags).stdout)
    assert listed["counts"] == [{"reason": "not-json", "topic": topic, "count": 1}]
    assert listed["last"][0]["id"] == f"{topic}/0/7"
    assert (listed["last"][0]["value"], listed["last"][0]["value_base64"]) == (None, "/wo=")
    shown = hstu(settings, "dead-letters", "show", f"{topic}/0/7", *flags).stdout
    assert "value:    \\xff\\n\n" in shown
    assert "\x1b" not in shown
    sent = hstu(settings, "dead-letters", "replay", f"{topic}/0/7", *flags)
    assert f"not-json\t{topic}\t1" in sent.stdout
    assert "1 sent, 0 had been sent before" in sent.stderr
    again = hstu(settings, "dead-letters", "replay", "--topic", topic, *flags)
    assert "0 sent, 1 had been sent before" in again.stderr
    assert f"1 passed over ({topic}/5/7: there is no such partition)." in again.stderr
    assert listed["foreign"] == [f"{topic}/5/7: there is no such partition"]
    unknown = hstu(settings, "dead-letters", "replay", f"{topic}/0/7", f"{topic}/0/8", "x", *flags)
    assert "0 sent, 1 had been sent before" in unknown.stderr
    assert isinstance(unknown.exception, HstuError)
    assert f"There is no dead-letter {topic}/0/8; x, 2 of the ids given" in str(unknown.exception)
    assert "1 more that no worker has written" in hstu(settings, "dead-letters", "list", *flags).stderr


def test_who_forgets_a_user_learns_what_it_waits_for(kafka: KafkaForTests) -> None:
    """Event time, which stands still where nothing comes."""
    settings = own_topics(1)
    create_topics(Kafka(kafka.bootstrap), settings)
    done = hstu(settings, "forget", "ada", "--until", "1999-12-31", "--bootstrap", kafka.bootstrap)
    assert done.exit_code == 0
    assert (
        "user ada is erased up to 1999-12-31 00:00:00.000 once event time in each partition is 30 s past" in done.stdout
    )
    assert "events or heartbeats have to come" in done.stdout
    assert hstu(settings, "forget", "ada", "--bootstrap", kafka.bootstrap).exit_code == 0
    late = hstu(settings, "forget", "bob", "--until", "1999-12-31", "--bootstrap", kafka.bootstrap)
    assert (late.exit_code, late.stdout) == (1, "")
    (until,) = re.findall(r"workers would refuse the record as late.* Give --until (\S+) ", str(late.exception))
    assert hstu(settings, "forget", "bob", "--until", until, "--bootstrap", kafka.bootstrap).exit_code == 0


def test_a_replay_of_everything_has_to_be_asked_for() -> None:
    """Without an id or a filter nothing is sent."""
    with pytest.raises(HstuError, match="Name what to replay"):
        raise hstu(StreamSettings(), "dead-letters", "replay").exception or AssertionError
    with pytest.raises(HstuError, match="no reason 'latte'"):
        raise hstu(StreamSettings(), "dead-letters", "replay", "--reason", "latte").exception or AssertionError
