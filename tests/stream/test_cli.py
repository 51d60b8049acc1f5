"""The stream's verbs: flags reach the settings, and what cannot be done is an HstuError."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from stream.cli import add_commands
from stream.config import KafkaSettings, StreamSettings
from stream.errors import BrokerError
from tests.kafka import KafkaForTests


@dataclass
class Settings:
    """Settings as the main command builds them, and the context that loads them."""

    bootstrap: str = ""
    data_dir: Path = Path("hstu-data")
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)

    def load(self, flags: dict[str, Any]) -> "Settings":
        given = {key: value for key, value in flags.items() if value is not None}
        return Settings(**{"data_dir": self.data_dir, "stream": self.stream, **given})


def hstu(*arguments: str, data_dir: Path = Path("hstu-data"), topic_prefix: str = "") -> Result:
    app = typer.Typer()
    add_commands(app)
    settings = Settings(data_dir=data_dir, stream=StreamSettings(topic_prefix=topic_prefix, partitions=2))
    return CliRunner().invoke(app, arguments, obj=settings)


def test_topics_are_created_and_listed(kafka: KafkaForTests, topic_prefix: str) -> None:
    """`topics create` prints what it made and what existed; `topics list` shows each topic, or that it is missing."""
    flags = ("--bootstrap", kafka.bootstrap)
    before = hstu("topics", "list", *flags, topic_prefix=topic_prefix).stdout
    assert before.count("missing") == 6
    for state in ("created", "exists"):
        done = hstu("topics", "create", *flags, topic_prefix=topic_prefix)
        assert f"{topic_prefix}examples: {state}\n" in done.stdout
        assert (done.exit_code, done.stdout.count(state)) == (0, 6)
    after = hstu("topics", "list", *flags, topic_prefix=topic_prefix).stdout
    assert f"{topic_prefix}dead-letters" in after
    assert "missing" not in after


@pytest.mark.parametrize("verb", [("topics", "create"), ("topics", "list"), ("worker",)])
def test_a_verb_without_a_kafka_says_how_to_get_one(verb: tuple[str, ...]) -> None:
    """Each verb that needs a Kafka refuses to guess one."""
    with pytest.raises(BrokerError, match="give --bootstrap HOST:PORT or set HSTU_BOOTSTRAP"):
        raise hstu(*verb).exception or AssertionError


def test_the_node_lives_in_the_data_directory_by_default(tmp_path: Path) -> None:
    """`broker` uses broker/ in the data directory; --data-dir names the node's own directory."""
    for path in (tmp_path / "broker", tmp_path / "other"):
        path.mkdir()
        (path / "foreign").touch()
    with pytest.raises(BrokerError, match=f"^{tmp_path}/broker is not empty"):
        raise hstu("broker", data_dir=tmp_path).exception or AssertionError
    with pytest.raises(BrokerError, match=f"^{tmp_path}/other is not empty"):
        raise hstu("broker", "--data-dir", str(tmp_path / "other"), data_dir=tmp_path).exception or AssertionError


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_an_impossible_port_is_refused(port: str) -> None:
    """The command line refuses it before anything is started."""
    done = hstu("broker", "--port", port)
    assert done.exit_code == 2
    assert "--port" in done.output
