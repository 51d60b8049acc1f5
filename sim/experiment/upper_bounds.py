"""Upper bounds as a row beside the contestants: the oracle of the paper's stream, the seer of a drifting world.

The oracle is the exact posterior of someone who knows the generator (sim/dirichlet/oracle.py), over an evenly spread
sample of records. The seer also knows every user's hidden taste, which no recommender can know, so its bound is higher.
Data sets have no bound. The oracle ranks the items that the stream has shown before, as recommenders do; the seer ranks
all live items.
"""

import time
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.evaluation.metrics import METRICS
from sim.dirichlet.oracle import first_seen, oracle
from sim.dirichlet.oracle_ranking import HITS
from sim.dirichlet.stream import DirichletStream
from sim.experiment.hundredths import BUCKETS, late_from
from sim.experiment.run import RunSpec
from sim.experiment.streams import Stream
from sim.scenarios.scenario import PaperScenario, WorldScenario

ORACLE: Final = "oracle"
ORACLE_RECORDS: Final = 500  # sampled from the last part, and as many from the rest


def has_upper_bound(stream: Stream) -> bool:
    """Return whether the stream has an upper bound; a closed loop has regret instead."""
    return stream.scenario is not None and not stream.closed


def upper_bound(spec: RunSpec, stream: Stream) -> dict[str, Any]:
    """Return a row of runs.parquet and its curves, as Run.run does."""
    start_s = time.process_time()
    if isinstance(stream.scenario, PaperScenario):
        row = _oracle(stream.scenario.source(), late_from(spec.late_share))
    elif isinstance(stream.scenario, WorldScenario):
        row = _seer(stream.scenario, late_from(spec.late_share))
    else:
        raise TypeError(f"{stream.key} has no upper bound")
    row |= {"contestant": ORACLE, "kind": "oracle", "variant": "", "seed": spec.seed, "score_at": spec.score_at}
    row["late_share"] = spec.late_share
    return row | {"test_s": time.process_time() - start_s, "settings": spec.text}


def _oracle(stream: DirichletStream, first_late: int) -> dict[str, Any]:
    records = stream.settings.records
    late = records * first_late // BUCKETS
    parts = [
        np.linspace(*ends, min(ends[1] - ends[0] + 1, ORACLE_RECORDS)) for ends in ((0, late - 1), (late, records - 1))
    ]
    sample = np.unique(np.concatenate(parts).astype(np.int64))
    found = oracle(stream, sample, seen_before=first_seen(stream))
    columns = {name: getattr(found.expected, name) for name in HITS}
    bucket_t = np.repeat(np.minimum(sample * BUCKETS // records, BUCKETS - 1), stream.settings.length)
    # equal parts of the stream have equal weights, whatever their numbers of sampled records
    before, late_t = first_late / BUCKETS, bucket_t >= first_late
    weight_t = np.where(late_t, (1 - before) / late_t.mean(), before / max((~late_t).mean(), 1e-9))
    weight_R = weight_t.reshape(len(sample), -1)[:, 0] / len(sample)
    mean_R = found.expected.hr10.mean(axis=1)
    return {
        "title": "oracle: exact posterior",
        "log_loss": float(weight_R @ found.log_loss.mean(axis=1)),
        "stderr_hr10": float(np.sqrt(weight_R**2 @ (mean_R - weight_R @ mean_R) ** 2)),
        **_figures(columns, bucket_t, first_late, weight_t),
    }


def _seer(scenario: WorldScenario, first_late: int) -> dict[str, Any]:
    found = scenario.seer()
    clicks, ranks = found.requests, found.ranks.astype(np.float64)
    bucket = np.minimum(clicks * BUCKETS // max(len(found.ts_ms), 1), BUCKETS - 1)
    columns = {metric.column: metric.of_rank(ranks) for metric in METRICS}
    return {"title": "seer: knows hidden tastes", **_figures(columns, bucket, first_late)}


def _figures(
    columns: dict[str, NDArray[Any]],
    bucket_t: NDArray[np.int64],
    first_late: int,
    weight_t: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Return means of all and of the last part, and sums by bucket.

    An upper bound does not learn, so its frozen figures equal its late ones.
    """
    late = bucket_t >= first_late
    count = np.bincount(bucket_t, minlength=BUCKETS)
    sums = {name: np.bincount(bucket_t, column.ravel(), BUCKETS) for name, column in columns.items()}
    row: dict[str, Any] = {"targets": len(bucket_t), "late_targets": int(late.sum()), "frozen_targets": int(late.sum())}
    for name, column in columns.items():
        row[name] = float(np.average(column.ravel(), weights=weight_t))
        last = float(column.ravel()[late].mean()) if late.any() else None
        row |= {f"late_{name}": last, f"frozen_{name}": last}
    used = np.flatnonzero(count)
    row["curves"] = [
        {"bucket": int(b), "age": "all", "targets": int(count[b])} | {name: float(own[b]) for name, own in sums.items()}
        for b in used
    ]
    return row
