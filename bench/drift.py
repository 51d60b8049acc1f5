"""Drift detectors: how soon they find a drift, and how often they raise an alarm without one.

    python bench/drift.py --seeds 3 4 5
    python bench/drift.py --seeds 3 4 5 --streams rotation --boost 3

The scenarios rotation (all tastes change, days 10 and 20) and shock (items in fashion, days 12 and 21), and one without
drift, of 300 users each, so that there is a taste to lose. An alarm within WITHIN_D days of a drift has found it; every
other one is false, those of the days after a drift too. A model of one layer tests and learns each micro-batch once.
The detectors' constants were chosen on seeds 1 and 2. --boost is train.drift_boost: its effect is on HR@10 in the
WITHIN_D days after a drift.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from report import machine, save, table

from model.config import ModelSettings, TrainSettings
from model.drift.watch import SIGNALS, Alarm, DriftWatch
from model.evaluation.prequential import MODEL
from model.learning.learner import Learner
from sim.experiment.feeds import micro_batches
from sim.experiment.streams import open_stream

DAY_MS: Final = 86_400_000
TOKENS: Final = 32
WITHIN_D: Final = 4.0
DRIFTS_D: Final = {"rotation": (10.0, 20.0), "shock": (12.0, 21.0), "calm": ()}
PRESETS: Final = Path(__file__).parents[1] / "sim" / "scenarios" / "presets"
_CALM: Final = 'title = "No drift"\ndescription = "Nothing changes."\n[base]\nevents = 100_000\ndays = 30\n'


class Found(NamedTuple):
    """One run: its alarms, and for each step its event time, targets tested so far and those among the first ten."""

    alarms: list[Alarm]
    steps: list[tuple[int, int, int]]

    @property
    def start_ms(self) -> int:
        """Time of its first example."""
        return self.steps[0][0]

    def hit_rate(self, from_ms: float, until_ms: float) -> float:
        """Return HR@10 between two event times."""
        within = [step[1:] for step in self.steps if from_ms <= step[0] < until_ms]
        (targets, hits), (targets_then, hits_then) = within[0], within[-1]
        return (hits_then - hits) / (targets_then - targets)


def scenario(name: str, folder: Path) -> Path:
    """Write a scenario of 300 users and return its file."""
    text = _CALM if name == "calm" else (PRESETS / f"{name}.toml").read_text()
    path = folder / f"{name}.toml"
    path.write_text(text.replace("days = 30\n", "days = 30\nusers = 300\n"))
    return path


def watched(path: Path, events: int, seed: int, boost: float = 1.0, watch: DriftWatch | None = None) -> Found:
    """Test, learn and watch a stream once, by another watch where one is given."""
    feed = open_stream(str(path), {"events": events}, seed, {"example_tokens": TOKENS}).feed()
    changes = {"replay_every": 0, "batch_examples": 16, "negatives": 256, "drift_boost": boost}
    train = TrainSettings(seed=seed, device="cpu", **changes)
    learner = Learner(ModelSettings(max_len=TOKENS, dim=32, layers=1, heads=1), train, baselines=False)
    learner.drift = watch or learner.drift
    alarms, steps, hits = list[Alarm](), list[tuple[int, int, int]](), 0
    for records, batch in micro_batches(feed, train.batch_examples):
        learner.learn_items(records)
        step = learner.step(batch)
        hits += int((step.outcome.ranks[MODEL] <= 10).sum()) if step.outcome else 0
        steps.append((step.event_ms, learner.metrics.targets, hits))
        alarms += step.alarms
    return Found(alarms, steps)


def judged(name: str, found: Found) -> dict[str, Any]:
    """Return the delays of the drifts that were found, None for the others, and the number of false alarms."""
    delays, after, false = [], [], list(found.alarms)
    for day in DRIFTS_D[name]:
        at_ms = found.start_ms + day * DAY_MS
        own = [alarm for alarm in found.alarms if at_ms <= alarm.event_ms < at_ms + WITHIN_D * DAY_MS]
        false = [alarm for alarm in false if alarm not in own]
        before = max((targets for ms, targets, _ in found.steps if ms < at_ms), default=0)
        after.append(found.hit_rate(at_ms, at_ms + WITHIN_D * DAY_MS))
        first = own[0] if own else None
        delays.append(first and {"days": (first.event_ms - at_ms) / DAY_MS, "targets": first.targets - before})
    by_signal = {signal: sum(alarm.signal == signal for alarm in found.alarms) for signal in SIGNALS}
    found_by = {"delays": delays, "false": len(false), "alarms": by_signal}
    return {**found_by, "hr@10 after": after, "targets": found.steps[-1][1]}


def row(name: str, runs: list[dict[str, Any]]) -> tuple[object, ...]:
    """Return what is printed of one stream."""
    delays = [delay for run in runs for delay in run["delays"]]
    hits = [delay for delay in delays if delay]
    false, targets = (sum(run[key] for run in runs) for key in ("false", "targets"))
    days = f"{statistics.median(delay['days'] for delay in hits):.1f}" if hits else "-"
    steps = f"{statistics.median(delay['targets'] for delay in hits):.0f}" if hits else "-"
    alarms = ", ".join(f"{s} {n}" for s in SIGNALS if (n := sum(run["alarms"][s] for run in runs))) or "-"
    after = [rate for run in runs for rate in run["hr@10 after"]]
    rate = f"{statistics.mean(after):.3f}" if after else "-"
    return name, f"{len(hits)} of {len(delays)}", days, steps, f"{false} in {targets:,}", rate, alarms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", nargs="+", default=list(DRIFTS_D), choices=list(DRIFTS_D))
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--events", type=int, default=15_000)
    parser.add_argument("--boost", type=float, default=1.0, help="train.drift_boost")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in given.streams}
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in itertools.product(given.seeds, given.streams):
            runs[name].append(judged(name, watched(scenario(name, Path(folder)), given.events, seed, given.boost)))
            print(f"{name}, seed {seed}: {runs[name][-1]}", flush=True)
    print(
        f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.events:,} events, seeds {given.seeds}, boost {given.boost:g}"
    )
    heads = ("stream", "found", "days", "targets", "false alarms in targets", "HR@10 after", "alarms by signal")
    table(heads, [row(name, own) for name, own in runs.items()])
    figures = {"events": given.events, "seeds": given.seeds, "boost": given.boost, "runs": runs}
    save("drift", figures, given.save)


if __name__ == "__main__":
    main()
