"""Full snapshots beside deltas: bytes, time to write, time until a server has them; and what a threshold costs.

    python bench/delta.py --rows 100_000 1_000_000          # sizes and times
    python bench/delta.py --loss movielens --limit 20000    # what --thresholds do to the answers

Sizes: a learner's arrays at the default settings with so many items, each with --pairs counted pairs of two kinds. Then
1 % of the rows are touched: their vectors move, they are counted, and get two new pairs each; a hundred items are born,
and all popularity features are refreshed, as they are every 64 events. What a server does after it has the arrays
(`answerer`) is the same for both. Loss: a stream is trained on; at every --every micro-batches a delta is made, for
each threshold against what it has published so far. Of the last examples' users the ten best items by the published
state are compared with those by the exact one. CPU time, one core.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import clock_s, machine, save, table

from model.config import ModelSettings, TrainSettings
from model.fusion.tables import DISTINCT, EVENTS
from model.learning.learner import Learner
from model.serving.scorer import Scorer
from model.storage.delta_log import DeltaLog, State, next_state
from model.storage.patch import difference, patched, state_digest
from model.storage.snapshot import Manifest, Snapshot, as_numpy, load_snapshot, write_snapshot
from sim.experiment.feeds import micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS
from stream.example import TOKEN_DTYPE, Example

NOW_MS, BORN, PAIRS_OF_TOUCHED = 1_700_000_000_000, 100, 2


def manifest(step: int, learner: Learner) -> Manifest:
    """Return a manifest like a trainer's."""
    tables = {"model": learner.model.model_dump(mode="json"), "train": learner.train.model_dump(mode="json")}
    return Manifest(name="silu", step=step, created=time.time(), watermark_ms=NOW_MS, settings=tables)


def born(learner: Learner, count: int) -> None:
    """Let items be born, with texts."""
    first = len(learner.items)
    keys = np.arange(first, first + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    learner.items.admit(keys, np.full(count, NOW_MS))
    learner.items.learn_texts(keys.tolist(), [f"item {n}" for n in range(first, first + count)])
    learner.weights.grow(learner.items.keys, len(learner.features))
    learner.popularity.grow(len(learner.items))


def touch(learner: Learner, rows: np.ndarray, pairs: int, rng: np.random.Generator) -> None:
    """Move the vectors of rows, count them, and count pairs of theirs."""
    counters, ts_ms = learner._fusion._linear.counters, np.full(len(rows), NOW_MS)
    learner.weights.item_weights()[torch.from_numpy(rows)] *= 1.1
    learner.popularity.add(rows, ts_ms)
    counters.grow(len(learner.items))
    counters._sums[rows] += counters.weigh(ts_ms, move=True).popularity
    counters._totals[:] = counters._sums.sum(0)
    counters._facts[EVENTS] += len(rows)
    counters._facts[DISTINCT] = (counters._sums > 0).any(1).sum()
    left, many_ms = np.repeat(rows, pairs), np.repeat(ts_ms, pairs)
    for each in (counters._together, counters._following):
        each.add(left, rng.integers(len(learner.items), size=len(left)), many_ms)
    counters.make_ready(0)


def sizes(rows: int, pairs: int, folder: Path) -> dict[str, float]:
    """Return bytes and seconds of a full snapshot and of a delta at so many rows."""
    learner, rng, log = Learner(ModelSettings(), TrainSettings(), baselines=False), np.random.default_rng(0), {}
    born(learner, rows)
    touch(learner, np.arange(rows), pairs, rng)
    clock = [clock_s()]

    def lap(name: str) -> None:
        log[name], clock[0] = clock_s() - clock[0], clock_s()

    arrays = as_numpy(learner.snapshot_arrays(NOW_MS))
    lap("arrays_s")
    root = write_snapshot(folder, arrays=arrays, manifest=manifest(1, learner))
    lap("full_write_s")
    deltas = DeltaLog(folder, 0.0)
    deltas.begin(root.name, arrays, manifest(1, learner))
    clock[0] = clock_s()
    snapshot = load_snapshot(root)
    lap("full_read_s")
    Scorer(snapshot)
    lap("answerer_s")
    touch(learner, np.sort(rng.choice(rows, rows // 100, replace=False)), PAIRS_OF_TOUCHED, rng)
    born(learner, BORN)
    arrays = as_numpy(learner.snapshot_arrays(NOW_MS))
    clock[0] = clock_s()
    path = deltas.append(arrays, manifest(2, learner))
    lap("delta_write_s")
    after = next_state(folder, State(snapshot, root.name), root.name)
    lap("delta_read_s")
    assert after is not None
    assert state_digest(after.snapshot.arrays) == state_digest(arrays)
    full, delta = (root / "arrays.safetensors").stat().st_size, path.stat().st_size
    _, parts = difference(snapshot.arrays, arrays, 0.01)
    coarse = sum(part.nbytes for part in parts.values())
    return {"full_bytes": full, "delta_bytes": delta, "delta_bytes_at_0.01": coarse, **log}


def asked(example: Example) -> np.ndarray:
    """Return the tokens of an example."""
    tokens = np.zeros(len(example.keys), TOKEN_DTYPE)
    tokens["key"], tokens["action"] = example.keys, example.actions
    tokens["ts_ms"], tokens["kind"] = example.ts_ms, example.kinds
    return tokens


def best(arrays: Mapping[str, Any], learner: Learner, examples: list[Example]) -> list[set[int]]:
    """Return the ten best items of each example's user."""
    scorer = Scorer(Snapshot(Path("bench"), manifest(1, learner), arrays))
    none = np.empty(0, np.int64)
    found = (scorer.topk(scorer.history(asked(each)), each.final_ms, 10, none)[0] for each in examples)
    return [set(rows.tolist()) for rows in found]


def loss(log: str, limit: int, every: int, thresholds: list[float]) -> list[dict[str, float]]:
    """Return bytes of the deltas and what is left of the ten best, by threshold."""
    feed = open_stream(log, {"limit" if log in DATASETS else "events": limit}, 1, {"example_tokens": 64}).feed()
    learner = Learner(ModelSettings(), TrainSettings(), baselines=False)
    published: dict[float, Mapping[str, Any]] = {}
    sent, kept, total = dict.fromkeys(thresholds, 0), dict.fromkeys(thresholds, 0), 0
    for number, (records, batch) in enumerate(micro_batches(feed, learner.train.batch_examples), 1):
        learner.learn_items(records)
        learner.step(batch, test=False)
        if number % every:
            continue
        exact = {name: np.array(array) for name, array in as_numpy(learner.snapshot_arrays(batch[-1].final_ms)).items()}
        asked_of = [each for each in batch if len(each.keys)]
        truth = best(exact, learner, asked_of)
        total += 10 * len(asked_of)
        for threshold in thresholds:
            patch, parts = difference(published.get(threshold, exact), exact, threshold)
            published[threshold] = patched(published.get(threshold, exact), patch, parts)
            sent[threshold] += sum(part.nbytes for part in parts.values())
            pairs = zip(truth, best(published[threshold], learner, asked_of), strict=True)
            kept[threshold] += sum(len(a & b) for a, b in pairs)
    if not total:
        raise SystemExit("The log is too short for what is published so seldom; raise --limit, or lower --every.")
    return [
        {"threshold": t, "bytes": sent[t], "of exact": sent[t] / sent[0.0], "same": kept[t] / total} for t in thresholds
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--loss", help="movielens, ml-100k or a scenario")
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.0, 0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}", flush=True)
    if given.loss:
        found = loss(given.loss, given.limit, given.every, [0.0, *(t for t in given.thresholds if t)])
        table(list(found[0]), [tuple(row.values()) for row in found])
        save(f"delta-loss-{given.loss}", {"limit": given.limit, "every": given.every, "rows": found}, given.save)
        return
    figures: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        sizes(2_000, given.pairs, Path(folder))  # compiles what is timed below
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            figures[rows] = sizes(rows, given.pairs, Path(folder))
        print(rows, flush=True)
        table(("", "figure"), [*figures[rows].items()])
    save("delta", {"pairs": given.pairs, "rows": figures}, given.save)


if __name__ == "__main__":
    main()
