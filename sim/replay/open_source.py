"""What `hstu replay` replays: a file, a data set of a package, a scenario, or a synthetic stream; exactly one."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from sim.dirichlet.stream import DirichletSettings, DirichletStream, whole_records
from sim.errors import SimError
from sim.scenarios.scenario import load_scenario
from sim.sources.datasets import load_dataset
from sim.sources.log_columns import LogSettings
from sim.sources.recorded_log import RecordedLog, read_log
from sim.sources.source import Source
from stream.config import StreamSettings

SYNTHETIC: Final = ("dirichlet",)
_OF_RECORDED: Final = ("user", "item", "time", "action", "rating", "request")


class Opened(NamedTuple):
    """A source, and what whoever joins it should know."""

    source: Source
    fit: Callable[[StreamSettings], StreamSettings] = lambda settings: settings
    """Gives the settings under which a joiner makes fitting examples of it."""
    remark: str = ""
    """A sentence to be read before; mostly empty."""


def open_source(
    log: Path | None,
    dataset: str | None,
    scenario: str | None,
    synthetic: str | None,
    items: Path | None,
    options: Mapping[str, Any],
    stream_options: Mapping[str, Any],
) -> Opened:
    """Open what is named.

    Args:
        log: a file.
        dataset: a data set's name.
        scenario: a scenario's name or file.
        synthetic: a synthetic stream's name.
        items: catalogue of the file.
        options: fields of LogSettings; None means not given.
        stream_options: seed, records (fields of DirichletSettings) and events; None means not given.

    Raises:
        SimError: not exactly one is named, an option does not belong to it, or it cannot be read.
    """
    given = [what for what in (log, dataset, scenario, synthetic) if what is not None]
    if len(given) != 1:
        raise SimError(
            "Name one thing to replay: a LOG file, --dataset movielens, --scenario NAME, or --synthetic dirichlet"
            + (f"; {len(given)} are given." if given else ".")
        )
    chosen = {name: value for name, value in options.items() if value is not None}
    if scenario is not None:
        return _scenario(scenario, {"items": items} | chosen, stream_options)
    _refuse("--scenario", {"events": stream_options.get("events")})
    if synthetic is not None:
        return _synthetic(synthetic, chosen, stream_options, items)
    _refuse("--synthetic dirichlet", stream_options)
    if dataset is not None:
        _refuse("a LOG file", {"items": items} | {name: chosen.get(name) for name in _OF_RECORDED})
        return Opened(load_dataset(dataset, LogSettings(**chosen, rating="rating")))
    assert log is not None
    return Opened(read_log(log, LogSettings(**chosen), items))


def _scenario(name: str, of_logs: Mapping[str, Any], stream_options: Mapping[str, Any]) -> Opened:
    _refuse("a recorded log", of_logs)
    scenario = load_scenario(name).with_(**stream_options)
    return Opened(scenario.source(), scenario.stream_settings, scenario.remark)


def _synthetic(name: str, chosen: dict[str, Any], stream_options: Mapping[str, Any], items: Path | None) -> Opened:
    if name not in SYNTHETIC:
        raise SimError(f"There is no synthetic stream {name!r}; known are {', '.join(SYNTHETIC)}.")
    limit = chosen.pop("limit", None)
    _refuse("a recorded log", {"items": items} | chosen)
    own = {key: value for key, value in stream_options.items() if value is not None}
    stream = DirichletStream(DirichletSettings(**own, limit=limit))
    return Opened(stream, partial(whole_records, length=stream.settings.length))


def _refuse(owner: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise SimError(f"--{name.replace('_', '-')} belongs to {owner}; leave it away here.")


def describe(source: Source) -> str:
    """Say in a sentence what a source holds."""
    first = _day(source.first_ms)
    if not isinstance(source, RecordedLog):
        return f"{source.name}: {len(source):,} events from {first} on."
    users, items = source.users, source.items
    titles = f", {len(source.catalogue):,} records of its catalogue" if source.catalogue else ""
    return (
        f"{source.name}: {len(source):,} events of {users:,} users on {items:,} items{titles}, from {first} to "
        f"{_day(source.last_ms)}; times are {source.read_as}."
    )


def _day(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).date().isoformat()
