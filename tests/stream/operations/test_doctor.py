"""`hstu doctor` on a real Kafka: a sound installation has no complaint, and each fault has its line with a remedy."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from stream.config import KafkaSettings, StreamSettings
from stream.kafka import clients
from stream.kafka.connection import Kafka
from stream.kafka.topics import create_topics
from stream.metrics_server import Health, serve_metrics
from stream.operations import doctor, host_checks, topic_checks
from stream.operations.doctor import examine
from stream.operations.findings import Level
from stream.schema.ids import partition_of
from tests.examined import configure, send, wrong
from tests.kafka import KafkaForTests
from tests.topics import own_topics
from tests.wire import action, wire

PARTITIONS = 2  # of the fixture `settings`


def test_nothing_is_wrong_with_new_topics(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """Every check has run and found nothing, and the topic made to ask for the time is gone."""
    user = "u1"
    home = partition_of(user.encode(), PARTITIONS)
    event = wire(action(user, "i", 1))
    send(Kafka(kafka.bootstrap), settings, "actions", (home, user.encode(), event), (0, None, b'{"watermark": 5}'))
    found = list(examine(kafka.bootstrap, KafkaSettings(), settings, data_dir))
    assert wrong(Kafka(kafka.bootstrap), settings, data_dir) == {}
    checks = {"versions", "data directory", "disk", "Kafka", "topics", "configuration", "retention", "keys", "clock"}
    assert checks <= {finding.what for finding in found}
    with clients.admin_client(Kafka(kafka.bootstrap), 10) as admin:
        assert not [name for name in admin.list_topics() if name.startswith(settings.topic_prefix + "hstu-doctor")]


def test_without_kafka_it_says_so_and_looks_at_the_machine(data_dir: Path) -> None:
    """The address that does not answer is a failure; versions and data directory were looked at."""
    found = list(examine("", KafkaSettings(), StreamSettings(), data_dir))
    assert [finding.what for finding in found] == ["versions", "data directory", "disk", "Kafka"]
    assert found[-1].level is Level.FAIL
    assert "give --bootstrap" in found[-1].says


def test_a_port_of_something_else_is_no_kafka(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An HTTP server answers, and not as a broker: no hint is given, but where TLS is wanted (docs/kafka.md)."""
    monkeypatch.setattr(host_checks, "_TIMEOUT_S", 2.0)
    port, stop = serve_metrics(CollectorRegistry(), "127.0.0.1", 0, Health(), "a setting")
    try:
        for protocol, hint in (("PLAINTEXT", ""), ("SSL", f" 127.0.0.1:{port} does not speak TLS, but")):
            security = KafkaSettings.model_validate({"security.protocol": protocol})
            *_, last = examine(f"127.0.0.1:{port}", security, StreamSettings(), data_dir)
            assert last.says.startswith(f"No Kafka answered at 127.0.0.1:{port} within 2 s; start one by hstu broker")
            assert last.says.partition("HSTU_BOOTSTRAP.")[2].startswith(hint)
            assert bool(hint) or last.says.endswith("HSTU_BOOTSTRAP")
    finally:
        stop()


def test_missing_topics_and_other_partition_counts_fail(kafka: KafkaForTests, data_dir: Path) -> None:
    """Both name the topics."""
    settings = own_topics(PARTITIONS)
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)
    assert set(found) == {"topics"}
    assert "and 3 more do not exist" in found["topics"].says
    create_topics(Kafka(kafka.bootstrap), settings)
    other = wrong(Kafka(kafka.bootstrap), settings.model_copy(update={"partitions": 3}), data_dir)["partitions"]
    assert (other.level, f"{settings.topic_prefix}impressions has 2" in other.says) == (Level.FAIL, True)
    assert "set it to 2 (HSTU_STREAM__PARTITIONS=2) if they have always been that many" in other.says
    assert "delete" not in other.says + other.mend


def test_a_check_that_breaks_is_a_finding(
    kafka: KafkaForTests, settings: StreamSettings, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised; the others are done."""

    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(doctor, "check_keys", broken)
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)
    assert found.keys() == {"keys"}
    assert "could not be looked at: OSError: [Errno 5] Input/output error" in found["keys"].says


def test_retention_and_configuration(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """A source kept for less than a window fails, for a week it is warned of; `items` without compaction fails."""
    name = settings.topic_prefix + "actions"
    configure(Kafka(kafka.bootstrap), name, retention_ms="604800000")
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)["retention"]
    assert (found.level, "kept for 7 d" in found.says) == (Level.WARN, True)
    configure(Kafka(kafka.bootstrap), name, retention_ms="60000")
    assert wrong(Kafka(kafka.bootstrap), settings, data_dir)["retention"].level is Level.FAIL
    configure(Kafka(kafka.bootstrap), settings.topic_prefix + "items", cleanup_policy="delete")
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)["configuration"]
    assert (found.level, "cleanup.policy=delete where compact" in found.says) == (Level.FAIL, True)
    assert "-c cleanup.policy=compact" in found.mend


@pytest.mark.parametrize(
    ("topic", "key", "value", "level", "says"),
    [
        ("actions", "cleanup.policy", "compact", Level.FAIL, "where delete is wanted: of the records of one key"),
        ("attributes", "cleanup.policy", "compact,delete", Level.FAIL, "where delete is wanted"),
        ("examples", "cleanup.policy", "compact", Level.FAIL, "where delete is wanted"),
        ("dead-letters", "cleanup.policy", "compact", Level.FAIL, "where delete is wanted"),
        ("items", "cleanup.policy", "compact,delete", Level.FAIL, "where compact is wanted"),
        ("items", "delete.retention.ms", "1000", Level.FAIL, "=1000 where"),
        ("dead-letters", "max.message.bytes", "1000", Level.FAIL, "where 1048588 is wanted: Kafka refuses larger"),
        ("examples", "max.message.bytes", "1048588", Level.FAIL, "where 16777216 is wanted"),
        ("actions", "max.message.bytes", "1000", Level.WARN, "where 1048588 is wanted: Kafka refuses larger"),
    ],
)
def test_configurations_that_lose_events_or_stop_a_worker(
    topic: str, key: str, value: str, level: Level, says: str, kafka: KafkaForTests, settings: StreamSettings
) -> None:
    """Each has its line, with the command that mends it; of what is compacted nobody says that it is kept."""
    name = settings.topic_prefix + topic
    configure(Kafka(kafka.bootstrap), name, **{key: value})
    found = list(topic_checks.check_configs(Kafka(kafka.bootstrap), settings))
    (one,) = [one for one in found if f"{name} has {key}={value} " in one.says]
    assert (one.level, says in one.says) == (level, True)
    assert f"-n {name} -c {key}=" in one.mend
    assert not [one for one in found if one.says == "as hstu topics create sets it"]
    kept = [one.says for one in found if one.what == "retention"]
    assert kept == ([] if (topic, key) == ("examples", "cleanup.policy") else ["examples are kept without limit"])


@pytest.mark.parametrize(
    ("configs", "level", "says"),
    [
        ({"retention.ms": "1000"}, Level.FAIL, "is kept for 1 s, less than 1 d"),
        ({"retention.ms": "172800000"}, Level.OK, "examples are kept for 2 d"),
        ({"retention.bytes": "5000"}, Level.OK, "examples are kept up to 5,000 bytes a partition"),
    ],
)
def test_one_line_says_how_long_examples_are_kept(
    configs: dict[str, str], level: Level, says: str, kafka: KafkaForTests, settings: StreamSettings
) -> None:
    """None says OK beside one that fails."""
    configure(Kafka(kafka.bootstrap), settings.topic_prefix + "examples", **configs)
    found = topic_checks.check_configs(Kafka(kafka.bootstrap), settings)
    (one,) = [one for one in found if one.what == "retention"]
    assert (one.level, says in one.says) == (level, True)


def test_keys_elsewhere_are_warned_of(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """Users whose records lie in another partition, and keys that are no ids, are counted; `hstu forget` is in all."""
    user = "u1"
    home = partition_of(user.encode(), PARTITIONS)
    event = wire(action(user, "i", 1))
    records = [(home, user.encode(), event), (1 - home, user.encode(), event), (home, b"another", event)]
    send(Kafka(kafka.bootstrap), settings, "actions", *records, (0, b"", b"not json"), (0, b"", b"[" * 9000))
    forgets = [(number, user.encode(), b'{"user_id":"u1","forget":true,"ts":1}') for number in range(PARTITIONS)]
    send(Kafka(kafka.bootstrap), settings, "attributes", *forgets)
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)["keys"]
    assert found.level is Level.WARN
    assert "of the last 3 records" in found.says
    assert "1 in a partition that murmur2 would not choose" in found.says
    assert "1 with another key than their id" in found.says


def test_refused_records_are_counted(kafka: KafkaForTests, settings: StreamSettings, data_dir: Path) -> None:
    """By reason and topic, with the verb that shows them."""
    headers = [(name, b"0") for name in ("partition", "offset")]
    headers += [("reason", b"late"), ("topic", (settings.topic_prefix + "actions").encode())]
    producer = clients.producer(Kafka(kafka.bootstrap))
    producer.send(settings.topic_prefix + "dead-letters", b"x", headers=headers).get(10)
    producer.close()
    found = wrong(Kafka(kafka.bootstrap), settings, data_dir)["dead-letters"]
    assert (found.level, "1 late on" in found.says) == (Level.WARN, True)
    assert "hstu dead-letters list" in found.mend


def test_kinds_of_dead_letters_beyond_three_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three of most letters are named; of the others it says how many there are."""

    def said(**counts: int) -> str:
        of = {(reason, "t"): count for reason, count in counts.items()}
        monkeypatch.setattr(doctor, "survey_letters", lambda *_: SimpleNamespace(counts=of))
        return next(iter(doctor.check_letters(Kafka("h:1"), StreamSettings()))).says

    three = "9 late on t, 5 invalid on t, 4 future on t"
    assert said(invalid=5, future=4, late=9) == three
    assert said(a=1, invalid=5, future=4, b=2, late=9) == f"{three}, and 3 of 2 more kinds"


def test_an_open_data_directory_is_warned_of(data_dir: Path) -> None:
    """It holds what users did; one that cannot be written fails."""
    data_dir.chmod(0o755)
    (found, *_) = host_checks.check_data_dir(data_dir)
    assert (found.level, found.mend) == (Level.WARN, f"chmod -R go-rwx {data_dir}")
    (data_dir / "file").touch()
    (found, *_) = host_checks.check_data_dir(data_dir / "file")
    assert found.level is Level.FAIL


def test_what_a_rescale_has_left_is_warned_of(data_dir: Path) -> None:
    """Folders that hold users' histories, whom `hstu forget` does not reach there; others are none."""
    for name in ("store", "rescaling", "rescale-sample-x1", "store-of-4-partitions", "train"):
        (data_dir / name).mkdir()
    found = {one.what: one for one in examine("", KafkaSettings(), StreamSettings(), data_dir)}["copies"]
    assert (found.level, found.says.split(" in ")[0]) == (
        Level.WARN,
        "rescale-sample-x1, rescaling, store-of-4-partitions",
    )
    for path in data_dir.glob("*-*"):
        path.rmdir()
    (data_dir / "rescaling").rmdir()
    assert not list(host_checks.check_copies(data_dir))


def test_a_nearly_full_disk(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 5 GiB it is warned of, below 0.5 GiB it fails."""
    for free, level in ((6 << 30, Level.OK), (4 << 30, Level.WARN), (1 << 20, Level.FAIL)):
        usage = SimpleNamespace(total=100 << 30, free=free)
        monkeypatch.setattr(host_checks.shutil, "disk_usage", lambda path, usage=usage: usage)
        assert list(host_checks.check_data_dir(data_dir))[-1].level is level


@pytest.mark.parametrize(("shift_s", "level"), [(0, Level.OK), (-30, Level.WARN), (600, Level.FAIL)])
def test_the_clock_is_compared_with_kafkas(
    shift_s: float, level: Level, kafka: KafkaForTests, settings: StreamSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both directions, with the distance."""
    now = host_checks.time.time

    class Shifted:
        @staticmethod
        def time() -> float:
            return now() + shift_s

    monkeypatch.setattr(host_checks, "time", Shifted)
    (found,) = host_checks.check_clock(Kafka(kafka.bootstrap), settings)
    assert found.level is level
    if shift_s:
        assert ("ahead of" if shift_s > 0 else "behind") in found.says


def test_packages_are_compared_with_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too old and one that is missing are named; an extra's packages are not asked for."""
    wanted = ["typer>=9999", "no-such-package>=1", "torch>=9999; extra == 'train'", "msgspec"]
    monkeypatch.setattr(host_checks, "requires", lambda name: wanted)
    (found,) = host_checks.check_versions()
    assert found.level is Level.FAIL
    assert ">=9999 is wanted" in found.says
    assert "no-such-package is missing" in found.says
    assert "torch" not in found.says
    assert json.dumps(found.level) == '"fail"'
