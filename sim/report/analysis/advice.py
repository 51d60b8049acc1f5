"""What to choose for a log: contestants by HR@10 in its last part, with intervals, and the settings of the best model.

Every contestant is tested on the same targets. The last part is cut into the hundredths of the stream; a gap is the
difference of all hits by all targets, and its 95 % interval is Student's t over these stretches of all seeds. So one
seed has an interval too: it says what another stretch of the same log would have given. Where there are few targets or
few items, all of that would be chance or could not be otherwise: then a sentence says so, and nothing is chosen.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from model.config import ModelSettings, TrainSettings
from sim.experiment.hundredths import late_from
from sim.report.analysis.results import Results
from sim.report.analysis.statistics import half_width
from sim.report.analysis.text import number, percent, plural, spread
from stream.config import StreamSettings

_TABLES: Final = {"stream": StreamSettings, "model": ModelSettings, "train": TrainSettings}
_CHEAPER: Final = 0.7  # of the best network's CPU time: what is not told apart from it and costs less is named
_FEW_TARGETS: Final = 200  # in the last part; below, even .1 of HR@10 is within chance
_FEW_ITEMS: Final = 20  # of which ten are shown


@dataclass(frozen=True, slots=True)
class Standing:
    """A contestant's figures in the last part of the log."""

    contestant: str
    title: str
    variant: str
    network: bool
    hr10: float
    behind: float
    """By how much the best has a higher HR@10; 0 for the best."""
    half: float | None
    """Half the interval of that gap; None for the best, and where there is one stretch."""
    cpu_ms: float
    """CPU time of training and tests, by target."""
    settings: Mapping[str, Any]
    """Those of its first run."""

    @property
    def open(self) -> bool:
        """Whether it cannot be told from the best."""
        return self.half is None or self.behind <= self.half

    @property
    def name(self) -> str:
        """Its name, with its variant, and what that is."""
        name = f"{self.contestant} {self.variant}".strip()
        title = self.title if self.title[:2].isupper() else self.title[0].lower() + self.title[1:]
        return name if title == self.contestant else f"{name} ({title})"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to choose."""

    standings: list[Standing]
    """The best first; none where nothing was tested."""
    networks: list[Standing]
    """The networks alone, by how far each is behind the best of them."""
    targets: int
    """In the last part, a seed."""
    late: str
    sentences: list[str]
    toml: str
    """Of the best network, for hstu.toml; empty without one, or where nothing is chosen."""
    toml_title: str
    """What is said above them."""


def advice(results: Results) -> Advice | None:
    """Return what to choose; None where it is no log that was compared."""
    everything = results.runs
    if everything.is_empty() or not all(json.loads(text or "{}").get("log") for text in everything["settings"]):
        return None
    runs = everything.filter(pl.col("late_targets") > 0)
    standings = _standings(results, runs)
    networks = _standings(results, runs.filter(pl.col("kind") == "neural"))
    late = results.in_words("the last {late}")
    targets = int(everything["late_targets"].max() or 0)  # type: ignore[arg-type]
    if doubt := _doubt(standings, targets, everything["items"].max(), late):  # type: ignore[arg-type]
        return Advice(standings, networks, targets, late, [doubt], "", "")
    said = list(_sentences(standings, networks, late))
    toml = _toml(networks[0].settings) if networks else ""
    return Advice(standings, networks, targets, late, said, toml, _toml_title(standings, networks))


def _doubt(standings: list[Standing], targets: int, items: int | None, late: str) -> str:
    """Return why nothing is to be chosen by these figures; empty where they are enough."""
    if items is not None and items <= _FEW_ITEMS:
        return (
            f"Nothing is recommended: HR@10 shows ten of {items} items, so anybody finds most of them; from "
            f"{_FEW_ITEMS + 1} items on it tells contestants apart."
        )
    if targets < _FEW_TARGETS:
        return (
            f"Nothing is recommended: {late} has {plural(targets, 'target')}, and with fewer than {_FEW_TARGETS} the "
            "order is chance. Compare a longer log, or a longer part of it (--late-share)."
        )
    if not standings or not standings[0].hr10:
        return f"Nothing is recommended: nobody has found a target in {late}."
    return ""


def _toml_title(standings: list[Standing], networks: list[Standing]) -> str:
    if not networks or standings[0].network:
        return "The settings of the best network, for hstu.toml:"
    return f"{standings[0].name} needs no network. Only if you want one all the same, the best has these settings:"


def _standings(results: Results, runs: pl.DataFrame) -> list[Standing]:
    """Return the contestants of some runs with the most seeds, the best first."""
    if runs.is_empty():
        return []
    who = ["contestant", "variant"]
    hits = _hits(results, runs).group_by(*who, maintain_order=True).agg(pl.all())
    seeds = {(row["contestant"], row["variant"]): set(row["seed"]) for row in hits.iter_rows(named=True)}
    most = max(map(len, seeds.values()))
    whole = [row for row in hits.iter_rows(named=True) if len(seeds[row["contestant"], row["variant"]]) == most]
    share = {(row["contestant"], row["variant"]): math.fsum(row["hits"]) / math.fsum(row["targets"]) for row in whole}
    whole.sort(key=lambda row: -share[row["contestant"], row["variant"]])
    best = whole[0]
    found = []
    for row in whole:
        key = row["contestant"], row["variant"]
        own = runs.filter(pl.col("contestant") == key[0], pl.col("variant") == key[1])
        cpu_s = math.fsum([*own["train_s"], *own["test_s"]]) / max(1, math.fsum(own["targets"]))
        mean = math.fsum(row["targets"]) / len(row["targets"])
        gaps = [(other - mine) / mean for mine, other in zip(row["hits"], best["hits"], strict=True)]
        found.append(
            Standing(
                *(key[0], str(own["title"][0]), key[1], own["kind"][0] == "neural", share[key]),
                behind=math.fsum(gaps) / len(gaps),
                half=None if row is best else half_width(gaps),
                cpu_ms=1000 * cpu_s,
                settings=json.loads(own["settings"][0]),
            )
        )
    return found


def _hits(results: Results, runs: pl.DataFrame) -> pl.DataFrame:
    """Return hits and targets of each stretch of the last part, in one order for all contestants."""
    first = late_from(float(runs["late_share"][0]))
    late = results.curves.filter(pl.col("bucket") >= first)
    joined = runs.select("run", "contestant", "variant", "seed").join(late, on="run", maintain_order="left_right")
    sums = joined.group_by("contestant", "variant", "seed", "bucket").agg(
        pl.col("hr10").sum().alias("hits"), pl.col("targets").sum()
    )
    return sums.sort("contestant", "variant", "seed", "bucket")


def _sentences(standings: list[Standing], networks: list[Standing], late: str) -> Iterator[str]:
    best = standings[0]
    counters = [each for each in standings if not each.network]
    yield f"{best.name} recommends best in {late}: HR@10 {number(best.hr10)}."
    other = next((each for each in standings if each.network != best.network), None)
    if other is not None:
        what = "counter" if best.network else "network"
        gap = f"{spread(other.behind, other.half)} ({percent(other.behind / best.hr10)} of the best's)"
        verdict = "cannot be told from it" if other.open else "is behind"
        yield f"The best {what}, {other.name}, {verdict}: HR@10 {number(other.hr10)}, less by {gap}."
    if networks and not best.network:
        yield (
            "So the network adds nothing to counts here. hstu train weighs both in one score, so it stays near the "
            "counts, and its live table shows them as `stack`: look there again once there is more of the log."
        )
    yield from _cheaper(networks)
    if not counters:
        yield "No counter was compared, so nobody knows whether a network is needed: add --contestant stack."


def _cheaper(networks: list[Standing]) -> Iterator[str]:
    """Yield what is not told apart from the best network and costs clearly less."""
    for each in networks[1:]:
        if each.open and each.half is not None and each.cpu_ms < _CHEAPER * networks[0].cpu_ms:
            yield (
                f"{each.name} is {spread(each.behind, each.half)} behind {networks[0].name}, which is within chance, "
                f"at {percent(each.cpu_ms / networks[0].cpu_ms, 0)} of its CPU time."
            )


def _toml(spec: Mapping[str, Any]) -> str:
    """Return the settings of a run that are not the defaults, as tables of hstu.toml."""
    parts = []
    for table, kind in _TABLES.items():
        given = kind(**spec[table]).model_dump(mode="json", exclude_defaults=True)
        if lines := [f"{key} = {json.dumps(value)}" for key, value in given.items()]:
            parts.append("\n".join([f"[{table}]", *lines]))
    return "\n\n".join(parts) + "\n"
