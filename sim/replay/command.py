"""What `hstu replay` does once its source is open: into Kafka, or through the core in this process."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from sim.config import Settings
from sim.console import progress, stopping_on_signals
from sim.errors import SimError
from sim.replay.open_source import Opened, describe
from sim.replay.rate_limit import RateLimit, parse_speed
from sim.sources.source import TOPICS, total
from stream.config import StreamSettings

_ERR: Final = Console(stderr=True, highlight=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """The flags that say where to and how."""

    direct: bool
    speed: str
    restart: bool
    name: str | None
    attention: str | None
    metrics: Path | None
    create_topics: bool

    def flags(self) -> dict[str, Any]:
        """Give those that are settings."""
        if not self.direct:
            return {}
        return {
            "train.name": self.name or self.attention,
            "model.attention": self.attention,
            "train.metrics_file": None if self.metrics is None else str(self.metrics),
        }

    def refuse_contradictions(self) -> None:
        """Refuse flags that do not go together.

        Raises:
            SimError: they do not.
        """
        speed = parse_speed(self.speed)
        if self.direct and RateLimit(speed).limited:
            raise SimError("--direct goes as fast as it learns; leave --speed away.")
        if not self.direct and (self.attention or self.metrics):
            raise SimError("--attention and --metrics belong to --direct; into Kafka, give them to hstu train.")


def run_replay(opened: Opened, settings: Settings, run: ReplayOptions) -> bool:
    """Replay; False if it was stopped before its end.

    Raises:
        SimError: the replay cannot go on.
        HstuError: Kafka or the store cannot be used.
    """
    _ERR.print(describe(opened.source))
    if opened.remark:
        _ERR.print(opened.remark)
    return _into_this_process(opened, settings, run) if run.direct else _into_kafka(opened, settings, run)


def _into_kafka(opened: Opened, settings: Settings, run: ReplayOptions) -> bool:
    from sim.replay.kafka_sink import KafkaOut
    from sim.replay.progress_file import claimed
    from sim.replay.replay import Replay
    from stream.kafka.bootstrap import require_bootstrap
    from stream.kafka.topics import create_topics, verify_topics

    source = opened.source
    name = run.name or source.name
    if Path(name).name != name:
        raise SimError(f"--name {name} cannot name a file; leave slashes away.")
    bootstrap, stream = require_bootstrap(settings.bootstrap), settings.stream
    if run.create_topics:
        create_topics(bootstrap, stream)
    else:
        verify_topics(bootstrap, stream, TOPICS)
    if wanted := _differences(stream, opened.fit(stream)):
        _ERR.print(f"It makes fitting examples if the workers have {wanted}.")
    path = settings.data_dir / "replay" / f"{name}.json"
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what matters comes as a sentence
    with claimed(path), KafkaOut(bootstrap, stream.partitions, stream.topic_prefix) as out:
        replay = Replay(source, out, path, RateLimit(parse_speed(run.speed)), restart=run.restart)
        state = replay.state
        if state.complete:
            _ERR.print(f"Replay {name} is over: all {state.total:,} events are in Kafka. Begin anew by --restart.")
            return True
        if not state.acknowledged and any(state.offsets.values()):
            _ERR.print("The topics are not empty: what is older than a heartbeat in them will count as late.")
        with progress(name, state.total, state.acknowledged) as replay.progress, stopping_on_signals(replay.stop):
            over = replay.run()
    if over:
        _ERR.print(
            "The topics have reached the end of time: what is sent to them later is refused as late. Live events need "
            "topics of their own (another stream.topic_prefix and data_dir)."
        )
    else:
        _ERR.print(
            f"Stopped after {replay.state.acknowledged:,} of {state.total:,} events; the same command continues."
        )
    return over


def _differences(here: StreamSettings, wanted: StreamSettings) -> str:
    """Say which keys of table [stream] should be otherwise."""
    there = here.model_dump()
    changed = {key: value for key, value in wanted.model_dump().items() if there[key] != value}
    return ", ".join(f"stream.{key} = {value:g}" for key, value in changed.items())


def _into_this_process(opened: Opened, settings: Settings, run: ReplayOptions) -> bool:
    from sim.replay.in_process import DirectRun
    from sim.replay.summary import print_report

    source = opened.source
    settings = settings.model_copy(update={"stream": opened.fit(settings.stream)})
    with DirectRun(settings, restart=run.restart) as direct:
        with progress(settings.train.name, total(source)) as shown, stopping_on_signals(direct.stop):
            over = direct.run(source, shown)
        if over:
            print_report(direct)
        else:
            _ERR.print("Stopped; a run of --direct does not continue: begin anew by --restart.")
    return over
