"""`hstu replay`: sends a source into Kafka, or through joiner and trainer in this process."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.options import check_lengths
from sim.config import Settings
from sim.console import ERR, progress, stopping_on_signals
from sim.errors import SimError
from sim.replay.direct_folders import check_folders
from sim.replay.open_source import Opened, describe, minute, open_source, refusals, remarks
from sim.replay.options import ReplayOptions
from sim.replay.rate_limit import RateLimit, parse_speed
from sim.sources.recorded_log import RecordedLog
from sim.sources.source import TOPICS, Source, total
from stream.config import StreamSettings
from stream.schema.tokens import END_OF_TIME_MS

if TYPE_CHECKING:
    from sim.replay.in_process import DirectRun
    from sim.replay.kafka_sink import KafkaSink
    from stream.kafka.connection import Kafka


def run_replay(load: Callable[[dict[str, Any]], Settings], options: ReplayOptions) -> bool:
    """Replay what the options name; False if it was stopped before its end.

    Args:
        load: Returns the settings, with flags by dotted names above all else.
        options: The flags.

    Raises:
        SimError: The options contradict one another, the source cannot be read, or the replay cannot go on.
        HstuError: Kafka or the store cannot be used.
    """
    settings = load(options.settings())
    options.refuse_contradictions()
    refuse = _refuse_direct if options.direct else _reach_kafka
    opened = open_source(options, partial(refuse, settings, options))
    ERR.print(describe(opened.source))
    if opened.remark:
        ERR.print(opened.remark)
    if isinstance(opened.source, RecordedLog):
        for sentence in remarks(
            opened.source, opened.fit(settings.stream), settings.train.negative_actions, settings.model.rank_actions
        ):
            ERR.print(sentence)
    return (_into_this_process if options.direct else _into_kafka)(opened, settings, options)


def _refuse_direct(settings: Settings, options: ReplayOptions) -> None:
    check_folders(settings.data_dir, settings.train.name, restart=options.restart)
    if options.log or options.dataset:  # a stream of the simulator has examples of its own length
        check_lengths(settings.model, settings.stream.example_tokens)


def _reach_kafka(settings: Settings, options: ReplayOptions) -> None:
    """Check that the cluster answers and lets us do our work.

    Raises:
        SimError: The replay's name cannot name a file.
        BrokerError: It does not, or topics that are not to be made are missing.
    """
    from stream.kafka.bootstrap import check_reachable, require_kafka
    from stream.kafka.permissions import check_permissions
    from stream.kafka.topics import topic_name, verify_topics

    if options.name and Path(options.name).name != options.name:
        raise SimError(f"--name {options.name} cannot name a file; remove its slashes.")
    kafka, stream = require_kafka(settings.bootstrap, settings.kafka), settings.stream
    names = [topic_name(stream, topic) for topic in TOPICS]
    check_reachable(kafka)
    check_permissions(kafka, reads=names, writes=names)
    if not options.create_topics:
        verify_topics(kafka, stream, TOPICS)


def _into_kafka(opened: Opened, settings: Settings, options: ReplayOptions) -> bool:
    from stream.kafka.bootstrap import require_kafka
    from stream.kafka.topics import create_topics

    kafka = require_kafka(settings.bootstrap, settings.kafka)
    name, stream = _name(opened.source, options), settings.stream
    if options.create_topics:
        create_topics(kafka, stream)
    if wanted := _differences(stream, opened.fit(stream)):
        ERR.print(f"It makes fitting examples if the workers have {wanted}.")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what matters comes as a sentence
    return _send(opened, settings, kafka, name, options)


def _name(source: Source, options: ReplayOptions) -> str:
    """Return a replay's name: a log that is appended has its content in it, since the next may have the same file's."""
    if options.name or not options.append:
        return options.name or source.name
    return f"{source.name}-{source.fingerprint[:8]}"


def _send(opened: Opened, settings: Settings, kafka: "Kafka", name: str, options: ReplayOptions) -> bool:
    from sim.replay.kafka_sink import KafkaSink
    from sim.replay.progress_file import claimed
    from sim.replay.replay import Replay

    stream, path = settings.stream, settings.data_dir / "replay" / f"{name}.json"
    with claimed(path), KafkaSink(kafka, stream.partitions, stream.topic_prefix) as out:
        limit = RateLimit(parse_speed(options.speed))
        replay = Replay(opened.source, out, path, limit, restart=options.restart, ends=not options.append)
        state = replay.state
        if state.complete:
            again = "Another log goes on by --append" if options.append else "Begin again by --restart"
            ERR.print(f"Replay {name} is over: all {_counted(opened.source)} are in Kafka. {again}.")
            return True
        if not replay.begun:
            reached_ms = out.reached_ms()
            _refuse_late(opened.source, reached_ms, stream)
            _refuse_again(opened.source, reached_ms, out)
        with progress(name, state.total, state.acknowledged) as replay.progress, stopping_on_signals(replay.stop):
            over = replay.run()
    if over:
        ERR.print(f"{_sent(opened.source, stream)} {_how_to_go_on(options)}")
    else:
        ERR.print(f"Stopped after {state.acknowledged:,} of {state.total:,} records; the same command continues.")
    return over


def _refuse_late(source: Source, reached_ms: int | None, stream: StreamSettings) -> None:
    """Refuse a log that the topics' records would make late, before anything is sent."""
    if reached_ms is None or source.first_ms >= reached_ms - stream.lateness_s * 1000:
        return
    topics = f"The topics (stream.topic_prefix {stream.topic_prefix!r}) hold records already"
    ended = "their time has ended" if reached_ms >= END_OF_TIME_MS else f"up to {minute(reached_ms)}"
    raise SimError(
        f"{topics}: {ended}, and the log begins at {minute(source.first_ms)}, so its events would be refused as late. "
        "Replay it into other topics (another stream.topic_prefix and data_dir), or all files at once; logs that "
        "follow one another are replayed in their order, each by --append."
    )


def _refuse_again(source: Source, reached_ms: int | None, out: "KafkaSink") -> None:
    """Refuse a log that begins where the topics end, and whose first event is there already."""
    if reached_ms is None or source.first_ms > reached_ms:
        return
    if out.holds(next(source.events())):
        raise SimError(
            f"The topics hold the log's first event, of {minute(source.first_ms)}, already: it has been replayed into "
            "them, under another name or by other options, and would count twice. Remove from the log what is there, "
            "or replay it into other topics (another stream.topic_prefix and data_dir)."
        )


def _counted(source: Source) -> str:
    """Return how many events a source has, and records of its catalogue."""
    records = f" and {len(source.catalogue):,} records of the catalogue" if source.catalogue else ""
    return f"{len(source):,} events{records}"


def _how_to_go_on(options: ReplayOptions) -> str:
    if options.append:
        return "Time has not ended: another log goes on by --append as well."
    return (
        "The topics have reached the end of time: what is sent to them later is refused as late. Live events need "
        "other topics (another stream.topic_prefix and data_dir)."
    )


def _sent(source: Source, stream: StreamSettings) -> str:
    """Return sentences about what has been sent, what was left out, and what will be no label."""
    lost = [*source.summary.losses(), *refusals(source.summary, stream)] if isinstance(source, RecordedLog) else []
    return " ".join([f"{_counted(source)} are in Kafka.", *lost])


def _differences(here: StreamSettings, wanted: StreamSettings) -> str:
    """Return the keys of table [stream] that should have other values, with these."""
    there = here.model_dump()
    changed = {key: value for key, value in wanted.model_dump().items() if there[key] != value}
    return ", ".join(f"stream.{key} = {value:g}" for key, value in changed.items())


def _into_this_process(opened: Opened, settings: Settings, options: ReplayOptions) -> bool:
    from sim.replay.in_process import DirectRun
    from sim.replay.summary import print_report

    source = opened.source
    settings = settings.model_copy(update={"stream": opened.fit(settings.stream)})
    with DirectRun(settings, restart=options.restart) as direct:
        with progress(settings.train.name, total(source)) as shown, stopping_on_signals(direct.stop):
            over = direct.run(source, shown)
        if over:
            print_report(direct)
            for sentence in source.summary.losses() if isinstance(source, RecordedLog) else []:
                ERR.print(sentence)
            _refuse_nothing(direct, len(source))
        else:
            ERR.print("Stopped; a run of --direct does not continue: begin again by --restart.")
    return over


def _refuse_nothing(run: "DirectRun", events: int) -> None:
    """Raise where no event came through, so that the exit code says so."""
    if sum(run.refused().values()) >= events:
        kinds = ", ".join(f"{count:,} {reason}" for reason, count in run.refused().items())
        raise SimError(f"Nothing came through: all {events:,} events were refused ({kinds}).")
