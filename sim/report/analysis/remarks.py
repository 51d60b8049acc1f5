"""What must be said below a scenario's table: when targets were scored, how many of them, the oracle's own figures."""

import math

import polars as pl

from sim.report.analysis.results import Results
from sim.report.analysis.settings import is_number, leaves
from sim.report.analysis.statistics import reference, tuned
from sim.report.analysis.student import half_width
from sim.report.analysis.text import number, spread

_SCORED = {
    "label": "Targets are scored when their label is final: weights may have learnt from others since the request.",
    "request": "Targets are scored at their request, by the weights of that time.",
}


def remarks(results: Results, scenario: str) -> list[str]:
    """Give the sentences that hold of one scenario."""
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
