"""What `hstu replay` replays: a file, a data set of a package, or a synthetic stream; exactly one of the three."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sim.datasets import load_dataset
from sim.errors import SimError
from sim.generator import DirichletSettings, DirichletStream
from sim.log_settings import LogSettings
from sim.logs import RecordedLog, read_log
from sim.outgoing import Source

SYNTHETIC: Final = ("dirichlet",)
_OF_RECORDED: Final = ("user", "item", "time", "action", "rating", "request")


def open_source(
    log: Path | None,
    dataset: str | None,
    synthetic: str | None,
    items: Path | None,
    options: Mapping[str, Any],
    stream_options: Mapping[str, Any],
) -> Source:
    """Open what is named.

    Args:
        log: a file.
        dataset: a data set's name.
        synthetic: a synthetic stream's name.
        items: catalogue of the file.
        options: fields of LogSettings; None means not given.
        stream_options: fields of DirichletSettings; None means not given.

    Raises:
        SimError: not exactly one is named, an option does not belong to it, or it cannot be read.
    """
    given = [what for what in (log, dataset, synthetic) if what is not None]
    if len(given) != 1:
        raise SimError(
            "Name one thing to replay: a LOG file, --dataset movielens, or --synthetic dirichlet"
            + (f"; {len(given)} are given." if given else ".")
        )
    chosen = {name: value for name, value in options.items() if value is not None}
    if synthetic is not None:
        return _synthetic(synthetic, chosen, stream_options, items)
    _refuse("--synthetic dirichlet", stream_options)
    if dataset is not None:
        _refuse("a LOG file", {"items": items} | {name: chosen.get(name) for name in _OF_RECORDED})
        return load_dataset(dataset, LogSettings(**chosen, rating="rating"))
    assert log is not None
    return read_log(log, LogSettings(**chosen), items)


def _synthetic(
    name: str, chosen: dict[str, Any], stream_options: Mapping[str, Any], items: Path | None
) -> DirichletStream:
    if name not in SYNTHETIC:
        raise SimError(f"There is no synthetic stream {name!r}; known are {', '.join(SYNTHETIC)}.")
    limit = chosen.pop("limit", None)
    _refuse("a recorded log", {"items": items} | chosen)
    own = {key: value for key, value in stream_options.items() if value is not None}
    return DirichletStream(DirichletSettings(**own, limit=limit))


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
