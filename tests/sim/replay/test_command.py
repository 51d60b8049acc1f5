"""`hstu replay` from its options to its end: what it prints on the way."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.errors import ModelError
from sim.config import Settings, load
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.errors import SimError
from sim.replay.command import _refuse_late, _sent, run_replay
from sim.replay.open_source import open_source
from sim.replay.options import ReplayOptions
from sim.sources.source import TOPICS
from stream.config import StreamSettings
from stream.errors import BrokerError
from stream.kafka.connection import Kafka
from stream.schema.tokens import END_OF_TIME_MS
from tests.kafka import KafkaForTests
from tests.sim.replay.commands import hstu
from tests.topics import own_topics


def loaded(flags: dict[str, Any]) -> Settings:
    return load(None, flags)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What would have been done with Kafka, which is not there."""
    made: list[tuple[str, Any]] = []

    def instead(name: str, value: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> bool:
            made.append((name, value(*arguments)))
            return True

        return call

    monkeypatch.setattr("stream.kafka.bootstrap.check_reachable", lambda kafka: None)
    monkeypatch.setattr("stream.kafka.topics.create_topics", instead("created", lambda at, _: at))
    monkeypatch.setattr("stream.kafka.topics.verify_topics", instead("verified", lambda at, _, topics: (at, topics)))
    monkeypatch.setattr("sim.replay.command._send", instead("sent", lambda *arguments: arguments[2:4]))
    return made


def test_the_command_prints_the_figures_and_writes_the_metrics(tmp_path: Path) -> None:
    """The run is named after its attention; the last tables show the baselines and the digests."""
    log = tmp_path / "log.csv"
    log.write_text("who,what,when\n" + "\n".join(f"{n % 7},{n % 5},{1000 + 60 * n}" for n in range(300)))
    columns = (str(log), "--user", "who", "--item", "what", "--time", "when", "--direct")
    done = hstu(tmp_path, [*columns, "--attention", "softmax", "--metrics", str(tmp_path / "m.jsonl")])
    assert done.returncode == 0, done.stderr
    assert "300 events of 7 users on 5 items, from 1970-01-01" in done.stderr
    assert "times are integer seconds" in done.stderr
    for word in ("popularity", "hr@10", "sequences", "examples", "model"):
        assert word in done.stdout.lower()
    assert (tmp_path / "train" / "softmax").exists()
    assert (tmp_path / "m.jsonl").read_text().startswith("{")


def test_topics_are_made_or_verified_before_anything_is_sent(calls: list[tuple[str, Any]]) -> None:
    """The replay is named after its source, unless it has a name of its own."""
    options = {"synthetic": "dirichlet", "records": 30, "bootstrap": "h:1"}
    assert run_replay(loaded, ReplayOptions(**options))
    assert run_replay(loaded, ReplayOptions(**options, create_topics=False, name="mine"))
    assert calls == [
        ("created", Kafka("h:1")),
        ("sent", (Kafka("h:1"), "dirichlet")),
        ("verified", (Kafka("h:1"), TOPICS)),
        ("sent", (Kafka("h:1"), "mine")),
    ]


def test_settings_that_fit_a_source_are_told(calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    """The keys in which the workers' table should differ; nothing where it fits."""
    options = ReplayOptions(synthetic="dirichlet", records=30, bootstrap="h:1")
    fitting = open_source(options).fit(StreamSettings())
    run_replay(loaded, options)
    said = capsys.readouterr().err
    assert f"stream.gather_targets = {fitting.gather_targets:g}" in said.split("if the workers have ")[1]
    assert "stream.partitions" not in said
    run_replay(lambda flags: loaded(flags).model_copy(update={"stream": fitting}), options)
    assert "if the workers have" not in capsys.readouterr().err


def test_contradictions_are_refused_before_a_source_is_read(calls: list[tuple[str, Any]]) -> None:
    """So that a mistake costs no time; a name that cannot be a file's comes before Kafka is touched."""
    with pytest.raises(SimError, match="--direct always runs at full speed"):
        run_replay(loaded, ReplayOptions(log=["absent.csv"], direct=True, speed="5/s"))
    with pytest.raises(SimError, match="--name a/b cannot name a file; remove its slashes"):
        run_replay(loaded, ReplayOptions(synthetic="dirichlet", records=30, name="a/b", bootstrap="h:1"))
    assert calls == []


def test_what_can_be_refused_without_the_log_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Folders that are there, a model that is too short, a Kafka that does not answer: reading may take an hour."""
    (tmp_path / "store" / "p0").mkdir(parents=True)
    log = tmp_path / "log.csv"
    log.write_text("no column of a log\n1\n")
    direct = ReplayOptions(log=[str(log)], direct=True, data_dir=tmp_path)
    with pytest.raises(SimError, match="store is there already, and --direct begins with nothing"):
        run_replay(loaded, direct)
    with pytest.raises(SimError, match="was not made by --direct, so --restart keeps it"):
        run_replay(loaded, replace(direct, restart=True))
    with pytest.raises(ModelError, match=r"is less than stream\.example_tokens"):
        run_replay(lambda flags: loaded(flags | {"model.max_len": 16}), replace(direct, data_dir=tmp_path / "other"))
    for options in (ReplayOptions(log=[str(log)], bootstrap="127.0.0.1:1"), ReplayOptions(log=[str(log)])):
        with pytest.raises(BrokerError, match="No Kafka"):
            run_replay(loaded, options)


def test_what_is_lost_is_said_and_nothing_at_all_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that come late and slates that are too long, before and after; exit code 1 if every event was refused."""
    monkeypatch.setenv("HSTU_STREAM__MAX_SLATE", "2")
    log = tmp_path / "log.csv"
    rows = [f"u,i{n},{1_700_000_000 + late},r,{int(late > 0)}" for n, late in enumerate([0, 0, 700])]
    log.write_text("\n".join(["user_id,item_id,ts,req,label", *rows]))
    flags = [str(log), "--request", "req", "--action", "label", "--direct"]
    done = hstu(tmp_path, flags)
    assert done.returncode == 0, done.stderr
    for said in (
        "1 slates show more than 2 items and will be refused as long-slate",
        "1 actions come 600 s or more after their slate (stream.action_window_s)",
        "The rows of 1 requests lie 600 s or more apart",
        "Actions: click 1 (positive). Shown: 3 items in 1 slates.",
    ):
        assert said in done.stderr
    assert "Late labels: 1 actions" in done.stdout
    log.write_text(log.read_text().replace(",r,1", ",r,0"))
    done = hstu(tmp_path, [*flags, "--restart"])
    assert done.returncode == 1
    assert "Nothing came through: all 1 events were refused (1 long-slate)." in done.stderr


def test_what_will_be_no_label_is_said_at_the_end_too(tmp_path: Path) -> None:
    """As a replay into Kafka ends, beside the rows that were left out."""
    log = tmp_path / "log.csv"
    rows = [f"u,i{n},{1_700_000_000 + late},r,{int(late > 0)}" for n, late in enumerate([0, 0, 700])]
    log.write_text("\n".join(["user_id,item_id,ts,req,label", *rows, "u,i,never,r,1"]))
    flags = {"request": "req", "action": "label", "skip_bad": "1"}
    said = _sent(open_source(ReplayOptions(log=[str(log)], log_flags=flags)).source, StreamSettings(max_slate=2))
    assert "1 of 4 rows are bad and left out" in said
    assert "1 actions come 600 s or more after their slate" in said
    assert "1 slates show more than 2 items and will be refused as long-slate" in said


@pytest.mark.parametrize(("flags", "hint"), [(("--append",), "Another log goes on by --append"), ((), "by --restart")])
def test_a_replay_that_is_over_says_how_to_go_on(
    kafka: KafkaForTests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], hint: str
) -> None:
    """What was appended is not sent again, and --restart is no advice there."""
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,ts\n" + "\n".join(f"u,i{n},{1_700_000_000 + n}" for n in range(9))
    )
    monkeypatch.setenv("HSTU_STREAM__PARTITIONS", "1")
    monkeypatch.setenv("HSTU_STREAM__TOPIC_PREFIX", own_topics(1).topic_prefix)
    own = [str(tmp_path / "log.csv"), "--bootstrap", kafka.bootstrap, *flags]
    for _ in range(2):
        done = hstu(tmp_path, own)
        assert done.returncode == 0, done.stderr
    assert "all 9 events are in Kafka" in done.stderr
    assert hint in done.stderr
    assert ("--restart" in done.stderr) == (not flags)


def test_logs_of_one_name_follow_one_another_and_none_is_sent_twice(
    kafka: KafkaForTests, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Days that lie in folders; what is there already is refused by its first event, whatever the replay's name."""
    stream = own_topics(1)

    def run(day: int, **flags: Any) -> str:
        (tmp_path / str(day)).mkdir(exist_ok=True)
        log = tmp_path / str(day) / "events.csv"
        log.write_text(f"user_id,item_id,ts\nu,i,{1_700_000_000 + 86_400 * day}\n")
        (tmp_path / "items.csv").write_text("item_id,title\ni,Title\n")
        items = {"log_flags": {"items": str(tmp_path / "items.csv")}}
        options = ReplayOptions(log=[str(log)], bootstrap=kafka.bootstrap, data_dir=tmp_path, **items, **flags)
        assert run_replay(lambda given: loaded(given).model_copy(update={"stream": stream}), options)
        return capsys.readouterr().err

    counted = "1 events and 1 records of the catalogue are in Kafka"
    assert all(f"\n{counted}. Time has not ended" in run(day, append=True) for day in (1, 2))
    assert "is over: all 1 events and 1 records of the catalogue are in Kafka" in run(2, append=True)
    for flags in ({"name": "other"}, {"append": True, "restart": True}):
        with pytest.raises(SimError, match=r"hold the log's first event, of 2023-11-16 22:13, already"):
            run(2, **flags)
    assert counted in run(3)


def test_a_log_that_would_be_late_is_refused_before_a_record_is_sent() -> None:
    """By the prefix, what the topics have reached and what to do."""
    source = DirichletStream(DirichletSettings(records=30))
    stream = StreamSettings(topic_prefix="p-")
    _refuse_late(source, None, stream)
    _refuse_late(source, source.first_ms + int(stream.lateness_s * 1000), stream)
    with pytest.raises(SimError, match=r"topic_prefix 'p-'\) hold records already: up to .* each by --append"):
        _refuse_late(source, source.first_ms + int(stream.lateness_s * 1000) + 1, stream)
    with pytest.raises(SimError, match="their time has ended, and the log begins at"):
        _refuse_late(source, END_OF_TIME_MS, stream)
