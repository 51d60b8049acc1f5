"""The best possible figures on the paper's stream: the oracle's in its last 10 %, by the law of items in a category.

python bench/oracle.py. Records are evenly spread over the last 10 % of the stream, or over all of it. The oracle is
compared with two that know less: itself at the first event of a record, and a predictor that takes the counts of the
categories so far, plus 1/2, for their probabilities. The recalled figures of the paper are unverified; the exponents at
which the oracle reaches them are interpolated linearly on a grid.
"""

import argparse
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from report import machine, save, table

from sim.dirichlet.oracle import OracleFigures, first_seen, mean_of, oracle
from sim.dirichlet.oracle_posterior import NODES, urn
from sim.dirichlet.oracle_ranking import gains, rank_record, record_items
from sim.dirichlet.stream import DirichletSettings, DirichletStream

FIGURES: Final = ("hr10", "hr50", "ndcg10", "mrr", "log_loss")
RECALLED: Final = {"Transformer": (0.0442, 0.2025), "softmax": (0.0617, 0.2496), "SiLU": (0.0893, 0.3170)}
POSITIONS: Final = (1, 2, 8, 32, 128)


def spread_over(first: int, end: int, count: int) -> NDArray[np.int64]:
    """Return records evenly spread over [first, end)."""
    return first + (np.arange(count) * (end - first)) // count


def by_counts(stream: DirichletStream, records: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the realised hits at 10 if (counts + 1/2) were the categories' probabilities, [R, L]."""
    hits, gain = [], gains(stream.settings.items)
    for record in records.tolist():
        made = stream.records(record, record + 1)
        earlier = np.eye(stream.settings.categories)[made.categories[0]]
        score = np.cumsum(earlier, axis=0) - earlier + 0.5
        hits.append(rank_record(score, made.items[0], made.categories[0], record_items(stream, record), gain)[1][:, 0])
    return np.array(hits)


def precision(stream: DirichletStream, records: NDArray[np.int64]) -> dict[str, float]:
    """Return the largest relative change by twice the nodes, and the largest error of a sum of probabilities."""
    once, twice = urn(stream.settings), urn(stream.settings, 2 * NODES)
    changes, sums = [], []
    for record in records.tolist():
        category_L = stream.records(record, record + 1).categories[0]
        a, b = once.predict(category_L), twice.predict(category_L)
        changes.append(np.abs(a - b)[b > 0] / b[b > 0])
        sums.append(np.abs(a.sum(axis=1) - 1))
    return {"twice_the_nodes": float(np.concatenate(changes).max()), "sum": float(np.concatenate(sums).max())}


def figures_of(zipf: float, given: argparse.Namespace) -> dict[str, Any]:
    """Return all figures of one law."""
    stream = DirichletStream(DirichletSettings(zipf=zipf, records=given.stream))
    records = spread_over(int(0.9 * given.stream), given.stream, given.records)
    start = time.process_time()
    late = oracle(stream, records)
    took_s = time.process_time() - start
    some = slice(None, None, max(len(records) // 200, 1))
    whole = oracle(stream, spread_over(0, given.stream, given.whole))
    found: dict[str, Any] = {
        "zipf": zipf,
        "late": _means(late),
        "whole": _means(whole),
        "counts_less_oracle": mean_of(by_counts(stream, records[some]) - late.realised.hr10[some])._asdict(),
        "by_position": {n: float(late.expected.hr10[:, n - 1].mean()) for n in POSITIONS},
        "ms_a_record": 1000 * took_s / len(records),
        "precision": precision(stream, records[:: max(len(records) // 20, 1)]),
    }
    if given.seen:
        found["late_seen"] = _means(late_seen := oracle(stream, records, seen_before=first_seen(stream)))
        found["unseen"] = float(np.isinf(late_seen.ranks).mean())
    return found


def _means(figures: OracleFigures) -> dict[str, dict[str, float]]:
    return {name: mean._asdict() for name, mean in figures.means().items()}


def on_grid(given: argparse.Namespace) -> NDArray[np.float64]:
    """Return exponent, HR@10 and HR@50 of the last 10 % in rows, exponents from 0 to 1."""
    records = spread_over(int(0.9 * given.stream), given.stream, 300)
    rows = []
    for zipf in np.linspace(0, 1, given.grid).tolist():
        found = oracle(DirichletStream(DirichletSettings(zipf=zipf, records=given.stream)), records).means()
        rows.append((zipf, found["hr10"].value, found["hr50"].value))
    return np.array(rows)


def exponents(grid: NDArray[np.float64]) -> dict[str, list[float]]:
    """Return the exponents at which the oracle reaches the recalled HR@10 and HR@50 of each model."""
    return {
        name: [float(np.interp(wanted, grid[:, 1 + i], grid[:, 0])) for i, wanted in enumerate(recalled)]
        for name, recalled in RECALLED.items()
    }


def show(results: list[dict[str, Any]]) -> None:
    """Print the tables of all laws."""
    for part, title in (("late", "last 10 %"), ("whole", "whole stream"), ("late_seen", "last 10 %, ids seen before")):
        rows = [_row(result, part, kind) for result in results if part in result for kind in ("", "realised_")]
        if rows:
            table((title, *(f"{name} ±" for name in FIGURES)), rows)
            print()
    heads = (
        "HR@10",
        *(f"event {n}" for n in POSITIONS),
        "counts - oracle",
        "±",
        "ms a record",
        "twice the nodes",
        "sum - 1",
    )
    rows = []
    for result in results:
        rest = (
            *result["counts_less_oracle"].values(),
            result["ms_a_record"],
            *(f"{x:.0e}" for x in result["precision"].values()),
        )
        rows.append((f"zipf {result['zipf']:g}", *result["by_position"].values(), *rest))
    table(heads, rows)


def _row(result: dict[str, Any], part: str, kind: str) -> tuple[str, ...]:
    means = result[part]
    loss = {"": "entropy", "realised_": "log_loss"}[kind]
    cells = [means[loss if name == "log_loss" else kind + name] for name in FIGURES]
    name = f"zipf {result['zipf']:g}, {'realised' if kind else 'expected'}"
    return name, *(f"{cell['value']:.4f} {cell['stderr']:.4f}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zipf", type=float, nargs="*", default=[0.0, 0.5, 1.0, 1.5])
    parser.add_argument("--stream", type=int, default=1_000_000, help="records of the stream")
    parser.add_argument("--records", type=int, default=1000, help="of the last 10 %%")
    parser.add_argument("--whole", type=int, default=300, help="records of the whole stream")
    parser.add_argument("--seen", action="store_true", help="also rank only among ids that earlier records have shown")
    parser.add_argument("--grid", type=int, default=21, help="exponents from 0 to 1 to interpolate between")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    oracle(DirichletStream(DirichletSettings(records=2)), range(2))  # compiles
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; CPU time of one core")
    results = [figures_of(zipf, given) for zipf in given.zipf]
    show(results)
    grid = on_grid(given)
    needed = exponents(grid)
    print()
    table(("zipf", "HR@10", "HR@50"), grid.tolist())
    heads = ("recalled, unverified", "HR@10", "from zipf", "HR@50", "from zipf")
    print()
    rows = [(name, *(x for pair in zip(RECALLED[name], needed[name], strict=True) for x in pair)) for name in RECALLED]
    table(heads, rows)
    asked = {"stream": given.stream, "records": given.records, "whole": given.whole}
    save(
        f"oracle_{given.stream}records",
        asked | {"laws": results, "grid": grid.tolist(), "exponents": needed},
        given.save,
    )


if __name__ == "__main__":
    main()
