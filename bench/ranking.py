"""How good click probabilities are in one pass: normalised entropy, AUC and calibration of towers, counts and both.

    python bench/ranking.py --logs position delayed movielens --seeds 1 2 3

Every impression is tested before it is learnt, by three models on the same targets: the encoder's towers alone, the
logistic regression over counts, and the two fused, which is what answers have. --logs are scenarios, or a data set,
whose ratings become impressions of one item: liked from 4 on, or not acted on. A seed is that of the stream (of a data
set: of the order of rows of one instant) and of the model. Prints mean ± standard deviation over the seeds, of the
whole stream and of its second half by impressions. Calibration is the sum of predictions over the sum of labels.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from recipe import cell
from report import clock_s, machine, save, table

from model.config import ModelSettings, TrainSettings
from model.evaluation.metrics import RankingTally
from model.evaluation.prequential import ENCODER, LOGISTIC, MODEL
from model.learning.click_fusion import ClickFusion
from model.learning.learner import Learner
from sim.experiment.feeds import Feed, Joined, micro_batches
from sim.experiment.streams import open_stream
from sim.sources.datasets import DATASETS, load_dataset
from sim.sources.log_columns import LogSettings
from stream.config import StreamSettings

RANKERS = {ENCODER: "towers alone", LOGISTIC: "counts alone", MODEL: "both"}
LIKED_FROM = 4.0


def feed_of(log: str, seed: int, limit: int | None, tokens: int) -> tuple[Feed, str]:
    """Return a stream with impressions, and the action that is predicted."""
    joiner = {"example_tokens": tokens}
    if log in DATASETS:
        shown = LogSettings(
            rating="rating", rating_as="impression", positive_from=LIKED_FROM, shuffle_ties=seed, limit=limit
        )
        return Joined(load_dataset(log, shown), StreamSettings(**joiner)), "like"
    return open_stream(log, {"events": limit} if limit else {}, seed, joiner).feed(), "click"


def predicted(feed: Feed, action: str, seed: int) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_], float]:
    """Return each model's logits, the labels, and the CPU seconds of the learner."""
    train = TrainSettings(seed=seed, device="cpu", fuse_counts=False)
    learner = Learner(ModelSettings(rank_actions=(action,)), train, baselines=False)
    learner._clicks = ClickFusion((action,), fused=True, logistic=True)  # retrieval's counts would only cost time here
    logits: dict[str, list[NDArray[np.float64]]] = {name: [] for name in RANKERS}
    labels, start_s = [], clock_s()
    for records, batch in micro_batches(feed, train.batch_examples):
        learner.learn_items(records)
        outcome = learner.step(batch).outcome
        if outcome is not None:
            labels.append(outcome.labels)
            for name in RANKERS:
                logits[name].append(outcome.logits[name])
    return {name: np.concatenate(parts) for name, parts in logits.items()}, np.concatenate(labels), clock_s() - start_s


def figures(logits_T1: NDArray[np.float64], labels_T1: NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures of one model."""
    found = {}
    for part, start in (("", 0), ("late_", len(labels_T1) // 2)):
        tally = RankingTally(["action"])
        tally.count(logits_T1[start:], labels_T1[start:], np.zeros(len(labels_T1) - start, np.intp))
        _, ne, calibration = tally.figures()[0, -1].tolist()
        found |= {f"{part}ne": ne, f"{part}auc": float(tally.auc()[0]), f"{part}calibration": calibration}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", nargs="+", default=["position", "delayed"], help="scenarios with slates, data sets")
    parser.add_argument("--limit", type=int, help="slates or rows at most")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of an example at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, list[dict[str, float]]]] = {log: {name: [] for name in RANKERS} for log in given.logs}
    for seed in given.seeds:
        for log in given.logs:
            feed, action = feed_of(log, seed, given.limit, given.tokens)
            logits, labels, cpu_s = predicted(feed, action, seed)
            for name in RANKERS:
                found[log][name].append(figures(logits[name], labels))
                print(f"{log}, seed {seed}, {len(labels):,} impressions, {cpu_s:.0f} CPU s: {RANKERS[name]}: ", end="")
                print({key: round(value, 4) for key, value in found[log][name][-1].items()}, flush=True)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; seeds {given.seeds}, {given.tokens} tokens, limit {given.limit}")
    names = ("ne", "auc", "calibration", "late_ne", "late_auc", "late_calibration")
    rows = [
        (log, RANKERS[ranker], *(cell(runs, name) for name in names))
        for log, rankers in found.items()
        for ranker, runs in rankers.items()
    ]
    heads = ("NE", "AUC", "calibration", "NE, 2nd half", "AUC, 2nd half", "calibration, 2nd half")
    table(("stream", "model", *heads), rows)
    saved = {"seeds": given.seeds, "tokens": given.tokens, "limit": given.limit, "runs": found}
    save(f"ranking-{'-'.join(given.logs)}", saved, given.save)


if __name__ == "__main__":
    main()
