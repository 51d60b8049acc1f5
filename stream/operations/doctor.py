"""`hstu doctor`: every check in order, each line with what to fix."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from stream.config import KafkaSettings, StreamSettings
from stream.errors import BrokerError, HstuError
from stream.kafka import clients
from stream.kafka.bootstrap import require_kafka
from stream.kafka.connection import Kafka
from stream.kafka.permissions import check_permissions
from stream.kafka.topics import topic_name
from stream.operations.dead_letters import Wanted, survey_letters
from stream.operations.findings import Finding, Level, fail, ok, warn
from stream.operations.host_checks import check_clock, check_copies, check_data_dir, check_kafka, check_versions
from stream.operations.topic_checks import check_configs, check_keys, check_left, check_progress, check_topics
from stream.schema.topics import DEAD_LETTERS

_NAMED: Final = 3  # kinds of dead letters
_Check = Callable[[], Iterable[Finding]]


def examine(bootstrap: str, security: KafkaSettings, settings: StreamSettings, data_dir: Path) -> Iterator[Finding]:
    """Yield what is found, as it is found; without Kafka or its topics, what can be seen without them.

    Args:
        bootstrap: The Kafka's address; empty if none is named.
        security: How to connect to it.
        settings: Name the topics, and say what they must keep.
        data_dir: Of this machine's stores.
    """
    yield from _looked_at("versions", check_versions)
    yield from _looked_at("data directory", partial(check_data_dir, data_dir))
    yield from _looked_at("copies", partial(check_copies, data_dir))
    try:
        kafka = require_kafka(bootstrap, security)
        yield from check_kafka(kafka)
    except BrokerError as error:
        yield fail("Kafka", _bare(error), "mend that, or name another; where there is none, hstu broker starts one")
        return
    try:
        topics = list(check_topics(kafka, settings))
    except HstuError as error:
        topics = [_unseen("topics", error)]
    else:
        if any(finding.level is Level.FAIL for finding in topics):
            yield from topics
            return
    yield from topics
    checks: list[tuple[str, _Check]] = [
        ("configuration", partial(check_configs, kafka, settings)),
        ("keys", partial(check_keys, kafka, settings)),
        ("stores", partial(check_progress, kafka, settings, data_dir)),
        ("left stores", partial(check_left, kafka, settings, data_dir)),
        ("dead-letters", partial(check_letters, kafka, settings)),
        ("clock", partial(check_clock, kafka, settings)),
    ]
    for what, check in checks:
        yield from _looked_at(what, check)


def _looked_at(what: str, check: _Check) -> Iterator[Finding]:
    """Yield what a check finds, or that it could not look: no check keeps the others from theirs."""
    try:
        yield from check()
    except Exception as error:  # an examination ends with the last check, whatever one of them meets
        yield _unseen(what, error)


def _unseen(what: str, error: Exception) -> Finding:
    says = _bare(error) if isinstance(error, HstuError) else clients.reason(error)
    return fail(what, f"could not be looked at: {says}", "mend that, or let this user do it (docs/kafka.md, ACLs)")


def check_letters(kafka: Kafka, settings: StreamSettings) -> Iterator[Finding]:
    """Yield how many records were refused."""
    check_permissions(kafka, reads=[topic_name(settings, DEAD_LETTERS)])
    counts = survey_letters(kafka, settings, Wanted(), 0).counts
    if not counts:
        yield ok("dead-letters", "none")
        return
    worst = sorted(counts.items(), key=lambda count: -count[1])
    says = ", ".join(f"{count:,} {reason} on {topic}" for (reason, topic), count in worst[:_NAMED])
    if rest := worst[_NAMED:]:
        says += f", and {sum(count for _, count in rest):,} of {len(rest)} more kinds"
    yield warn("dead-letters", says, "hstu dead-letters list shows them; mend the producers, then replay what can be")


def _bare(error: Exception) -> str:
    return str(error).rstrip(".")
