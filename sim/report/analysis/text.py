"""Numbers as text (hit rates with four digits, percentages, durations), and the sentences of the report.

What was not measured is "–". Signs are typographic (+, −), so that columns of gaps line up.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from sim.report.analysis.results import METRIC_TITLES, Results
from sim.report.analysis.settings import is_number, leaves
from sim.report.analysis.statistics import gaps, half_width, reference, regrets, tuned

NOTHING: Final = "–"
_SCORED = {
    "label": "Targets are scored when their label is final: weights may have learned from others since the request.",
    "request": "Targets are scored at their request, by the weights of that time.",
}
_UNITS = ((86_400_000.0, "days"), (3_600_000.0, "hours"), (60_000.0, "minutes"), (1000.0, "seconds"))


def number(value: float | None, digits: int = 4) -> str:
    """Return a number as text: 0.1234."""
    return NOTHING if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 4) -> str:
    """Return a number with its sign: +0.0123 or −0.0123; 0 has none."""
    if value is None:
        return NOTHING
    text = f"{value:+,.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.,") else text[1:]


def percent(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """Return a share in per cent: 12.3 %."""
    if value is None:
        return NOTHING
    return (signed(100 * value, digits) if sign else number(100 * value, digits)) + " %"


def count(value: float | None) -> str:
    """Return a count: 12,345."""
    return NOTHING if value is None else f"{round(value):,}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: 1 run, 2 runs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def spread(mean: float | None, half: float | None, digits: int = 4) -> str:
    """Return a mean with half its interval: 0.1234 ± 0.0012; only the mean where there is no interval."""
    return number(mean, digits) + ("" if half is None or mean is None else f" ± {number(half, digits)}")


def interval(low: float | None, high: float | None, digits: int = 4) -> str:
    """Return an interval of gaps: [+0.0012, +0.0034]."""
    return NOTHING if low is None or high is None else f"[{signed(low, digits)}, {signed(high, digits)}]"


def duration(ms: float | None) -> str:
    """Return event time in the largest unit that it fills: 2.5 days."""
    if ms is None:
        return NOTHING
    size, unit = next(((size, unit) for size, unit in _UNITS if ms >= size), (1.0, "ms"))
    return f"{ms / size:,.3g} {unit}"


def verdict(gap: Mapping[str, Any], other: str) -> str:
    """Return a row of `gaps` as the rest of a sentence that begins with the contestant's name."""
    metric, seeds = METRIC_TITLES[gap["metric"]], gap["seeds"]
    size = f"{number(abs(gap['gap']))} {metric}"
    relative = f"{percent(gap['relative'], sign=True)}; " if gap["relative"] is not None else ""
    limits = f"95 % interval {signed(gap['low'])} to {signed(gap['high'])}"
    match gap["verdict"]:
        case "ahead":
            return f"leads {other} by {size} ({relative}{limits} excludes 0, {seeds} seeds)"
        case "behind":
            return f"trails {other} by {size} ({relative}{limits} excludes 0, {seeds} seeds)"
        case "equal":
            return f"equals {other} exactly on all {seeds} seeds"
        case "open":
            return f"shows no difference from {other} that these {seeds} seeds can tell ({relative}{limits} includes 0)"
    side = "above" if gap["gap"] > 0 else "below"
    return f"is {size} {side} {other} ({relative.rstrip('; ')}) on one seed, so without an interval over seeds"


def tally(verdicts: Iterable[str]) -> str:
    """Return the counts of verdicts over scenarios: ahead in 2 of 5 scenarios, ..."""
    found = list(verdicts)
    names = {
        "ahead": "ahead in {}",
        "behind": "behind in {}",
        "equal": "exactly equal in {}",
        "open": "not to be told apart in {}",
        "one seed": "without an interval (one seed) in {}",
    }
    parts = [text.format(found.count(name)) for name, text in names.items() if name in found]
    return f"{_joined(parts)} of {plural(len(found), 'scenario')}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def contestant_in_question(results: Results, against: str = "softmax") -> str | None:
    """Return the contestant whose gap is reported first: HSTU, else the first neural one that is not `against`."""
    neural = results.runs.filter((pl.col("kind") == "neural") & (pl.col("contestant") != against))["contestant"]
    names = neural.unique(maintain_order=True).to_list()
    return results.hstu if results.hstu in names else next(iter(names), None)


def answer(results: Results, against: str = "softmax") -> list[str]:
    """Return sentences on the gap in question, HR@10 over the whole stream; the first sums up several scenarios."""
    who = contestant_in_question(results, against)
    rows = gaps(results, against).filter(
        (pl.col("contestant") == (who or "")) & (pl.col("metric") == "hr10") & (pl.col("protocol") == "all")
    )
    loops = _of_loops(results, who, against)
    if who is None or rows.is_empty():
        return loops or [f"There is no pair of runs with {against} on one seed, so there is no gap to tell."]
    name, other = results.title(who), results.title(against)
    each = [f"{row['scenario_title']}: {name} {verdict(row, other)}." for row in rows.iter_rows(named=True)]
    if len(each) == 1:
        return [*each, *loops]
    seeds = sorted({int(n) for n in rows["seeds"]})
    seeds_text = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    first = f"{name} against {other}, HR@10 over the whole stream, {seeds_text}: {tally(rows['verdict'])}."
    return [first, *each, *loops]


def _of_loops(results: Results, who: str | None, against: str) -> list[str]:
    """Return sentences on the regret of the contestant in question in closed loops."""
    chosen = tuned(results.runs).select("scenario", "contestant", "variant")
    rows = regrets(results, against).join(chosen, on=["scenario", "contestant", "variant"], maintain_order="left")
    sentences = []
    for row in rows.filter(pl.col("contestant") == (who or "")).drop_nulls("gap").iter_rows(named=True):
        gap = signed(row["gap"]) + ("" if row["gap_half"] is None else f" ± {number(row['gap_half'])}")
        sentences.append(
            f"{results.scenario_title(row['scenario'])}, a closed loop: {results.title(row['contestant'])} regrets "
            f"{number(row['regret'])} clicks a request, {gap} beside {results.title(against)} over "
            f"{plural(row['seeds'], 'seed')}."
        )
    return sentences


def remarks(results: Results, scenario: str) -> list[str]:
    """Return the notes below a scenario's table: when and how many targets were scored, and the oracle's own errors."""
    runs = results.runs.filter(pl.col("scenario") == scenario)
    runs = runs.join(tuned(results.runs), on=["scenario", "contestant", "variant"], how="semi", maintain_order="left")
    scored = [_SCORED[name] for name in runs["score_at"].drop_nulls().unique().sort() if name in _SCORED]
    return [*scored, *_tested(runs), *_oracle(runs)]


def _tested(runs: pl.DataFrame) -> list[str]:
    shares = {leaves(text).get("test_share") for text in runs["settings"]}
    part = sorted(float(share) for share in shares if is_number(share) and share < 1)
    return [f"Only {100 * part[0]:g} % of the micro-batches are tested, the same ones for everybody."] if part else []


def _oracle(runs: pl.DataFrame) -> list[str]:
    rows = runs.filter(pl.col("contestant") == (reference(runs) or "")).sort("seed")
    said = []
    if losses := rows["log_loss"].drop_nulls().to_list():
        said.append(f"log-loss {spread(math.fsum(losses) / len(losses), half_width(losses))} nats")
    if errors := rows["stderr_hr10"].drop_nulls().to_list():
        error = math.sqrt(math.fsum(each * each for each in errors)) / len(errors)
        said.append(f"HR@10 is sampled, with a standard error of {number(error)} of its own")
    return [f"{rows['title'][0]}: {'; '.join(said)}."] if said else []
