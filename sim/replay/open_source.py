"""Opens what `hstu replay` replays: a file, a data set of a package, a scenario, or a synthetic stream."""

import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple

from sim.dirichlet.stream import DirichletSettings, DirichletStream, whole_records
from sim.errors import SimError
from sim.replay.options import ReplayOptions
from sim.scenarios.scenario import load_scenario
from sim.sources.datasets import load_dataset
from sim.sources.log_summary import LogSummary
from sim.sources.open_log import log_settings, open_log
from sim.sources.recorded_log import RecordedLog
from sim.sources.source import Source
from sim.sources.tables.places import files_of
from stream.config import StreamSettings

SYNTHETIC: Final = ("dirichlet",)
_OF_DATASET: Final = ("rating_as", "positive_from", "shuffle_ties", "limit")


class Opened(NamedTuple):
    """A source, and how it is to be joined."""

    source: Source
    fit: Callable[[StreamSettings], StreamSettings] = lambda settings: settings
    """Returns the settings under which a joiner makes fitting examples of it."""
    remark: str = ""
    """A sentence that is printed before the replay; mostly empty."""


def open_source(options: ReplayOptions, before_reading: Callable[[], object] = lambda: None) -> Opened:
    """Open what the options name.

    Args:
        options: The options.
        before_reading: Called once they are known to go together and before anything is read, which may take long.

    Raises:
        SimError: They do not name exactly one source, an option does not belong to it, or it cannot be read.
    """
    named = (options.log or None, options.dataset, options.scenario, options.synthetic)
    if (given := len([what for what in named if what is not None])) != 1:
        raise SimError(
            "Name one thing to replay: a LOG file, --dataset movielens, --scenario NAME, or --synthetic dirichlet"
            + (f"; {given} are given." if given else ".")
        )
    if options.scenario is not None:
        opened = _scenario(options.scenario, options)
        before_reading()
        return opened
    _refuse("--scenario", {"events": options.events})
    if options.synthetic is not None:
        opened = _synthetic(options.synthetic, options)
        before_reading()
        return opened
    _refuse("--synthetic dirichlet", options.of_stream())
    of_log = options.of_log()
    if options.dataset is not None:
        _refuse("a LOG file", {name: value for name, value in of_log.items() if name not in _OF_DATASET})
        settings = log_settings(of_log | {"rating": "rating"})
        before_reading()
        return Opened(load_dataset(options.dataset, settings))
    assert options.log is not None
    files_of(options.log)
    before_reading()
    return Opened(open_log(options.log, of_log))


def _scenario(name: str, options: ReplayOptions) -> Opened:
    _refuse("a recorded log", options.of_log())
    scenario = load_scenario(name).with_(**options.of_stream())
    return Opened(scenario.source(), scenario.stream_settings, scenario.remark)


def _synthetic(name: str, options: ReplayOptions) -> Opened:
    if name not in SYNTHETIC:
        raise SimError(f"There is no synthetic stream {name!r}; known are {', '.join(SYNTHETIC)}.")
    _refuse("a recorded log", options.of_log() | {"limit": None})
    own = {key: value for key, value in options.of_stream().items() if value is not None}
    stream = DirichletStream(DirichletSettings(**own, limit=options.of_log().get("limit")))
    return Opened(stream, partial(whole_records, length=stream.settings.length))


def _refuse(owner: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            flag = "as" if name == "read_as" else name.replace("_", "-")
            raise SimError(f"--{flag} belongs to {owner}; remove it here.")


def describe(source: Source) -> str:
    """Return a sentence about what a source holds."""
    first = _day(source.first_ms)
    if not isinstance(source, RecordedLog):
        return f"{source.name}: {len(source):,} events from {first} on."
    users, items = source.users, source.items
    titles = f", {len(source.catalogue):,} records of its catalogue" if source.catalogue else ""
    return (
        f"{source.name}: {len(source):,} events of {users:,} users on {items:,} items{titles}, from {first} to "
        f"{_day(source.last_ms)}; times are {source.read_as}."
    )


def remarks(
    log: RecordedLog, stream: StreamSettings, negative_actions: Collection[str], rank_actions: Collection[str]
) -> list[str]:
    """Return what a user should know of a log before it is replayed: how it was read, its actions, what is lost."""
    summary = log.summary
    said = [
        *log.remarks,
        *summary.sentences(negative_actions),
        *_without_tower(summary, negative_actions, rank_actions),
    ]
    return said + refusals(summary, stream)


def refusals(summary: LogSummary, stream: StreamSettings) -> list[str]:
    """Return what a worker will make no labels of, under these settings."""
    said = []
    if late := summary.late_actions(stream.action_window_s):
        said.append(
            f"{late:,} actions come {stream.action_window_s:g} s or more after their slate (stream.action_window_s): "
            "they are tokens, but no labels."
        )
    if wide := summary.wide_requests(stream.action_window_s):
        said.append(
            f"The rows of {wide:,} requests lie {stream.action_window_s:g} s or more apart, and are one slate at the "
            "first of their times; is --request the column of a session?"
        )
    if large := sum(count for size, count in summary.slate_sizes.items() if size > stream.max_slate):
        said.append(
            f"{large:,} slates show more than {stream.max_slate} items and will be refused as long-slate; their "
            f"actions will be no labels. The largest has {max(summary.slate_sizes):,}: stream.max_slate."
        )
    return said


def _without_tower(summary: LogSummary, negative_actions: Collection[str], rank_actions: Collection[str]) -> list[str]:
    """Return a sentence where items are shown, but no positive action of the log has a ranking tower."""
    positive = [name for name, _ in summary.actions.most_common() if name not in negative_actions]
    if not summary.slates or not positive or not set(rank_actions).isdisjoint(positive):
        return []
    named, listed = ", ".join(positive), json.dumps(positive, ensure_ascii=False)
    return [f"No click probability is learnt for {named}: set model.rank_actions = {listed} in hstu.toml."]


def minute(ts_ms: int) -> str:
    """Return a time to the minute."""
    return f"{datetime.fromtimestamp(ts_ms / 1000, UTC):%Y-%m-%d %H:%M}"


def _day(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).date().isoformat()
