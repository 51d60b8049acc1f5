"""The drift detectors beside ADWIN, which is river's: the same model, the same values, the streams of bench/drift.py.

    pip install --no-deps river scipy narwhals
    python bench/drift_adwin.py --seeds 3 4 5

ADWIN (Bifet and Gavalda, Learning from Time-Changing Data with Adaptive Windowing, 2007) is asked in two ways, each
with several deltas: of each target, whether the model missed it, as it is mostly used; and of each block, the six
signals of model/drift/watch.py. Only a rise of its mean is an alarm, since a model that learns has falls. One run of
the model serves all.
"""

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from drift import DRIFTS_D, Found, judged, row, scenario, watched
from numpy.typing import NDArray
from report import machine, save, table

from model.drift.page_hinkley import PageHinkley
from model.drift.watch import SIGNALS, Alarm, DriftWatch
from model.evaluation.prequential import MODEL

DELTAS = (0.002, 0.02, 0.2)  # river's default and two that are sooner


class Keeping(PageHinkley):
    """A test that keeps the values it has had."""

    def __init__(self, least: float) -> None:
        super().__init__(least)
        self.values: list[float] = []

    def add(self, value: float) -> bool:
        """Take the next value, and return whether it is an alarm."""
        self.values.append(value)
        return super().add(value)


class Recorder(DriftWatch):
    """A watch that keeps each target's miss and each block's values, with the target and time that they end at."""

    def __init__(self) -> None:
        super().__init__()
        self._tests: dict[str, Any] = {signal: Keeping(test._least) for signal, test in self._tests.items()}
        self.missed: list[tuple[float, int, int]] = []
        self.blocks: dict[str, list[tuple[float, int, int]]] = {signal: [] for signal in SIGNALS}

    def add(self, *given: Any, targets: int, event_ms: int, **named: Any) -> list[Alarm]:
        """Take a micro-batch, as a DriftWatch does."""
        alarms = super().add(*given, targets=targets, event_ms=event_ms, **named)
        ranks_P: NDArray[Any] | tuple[()] = () if given[1] is None else given[1].ranks[MODEL]
        self.missed += [(float(rank > 10), targets, event_ms) for rank in ranks_P]
        for signal, test in self._tests.items():
            self.blocks[signal] += [(value, targets, event_ms) for value in test.values]
            test.values.clear()
        return alarms


def rises(signal: str, values: list[tuple[float, int, int]], delta: float, clock: int) -> list[Alarm]:
    """Return the alarms of ADWIN at which its mean has risen."""
    from river.drift import ADWIN  # no part of the installation

    adwin, found = ADWIN(delta=delta, clock=clock), []
    for value, targets, event_ms in values:
        before = adwin.estimation
        adwin.update(value)
        if adwin.drift_detected and adwin.estimation > before:
            found.append(Alarm(signal, targets, event_ms, value))
    return found


def compared(name: str, path: Path, events: int, seed: int) -> dict[str, dict[str, Any]]:
    """Return, of each detector, what is judged of its alarms on one stream."""
    recorder = Recorder()
    own = watched(path, events, seed, watch=recorder)
    found = {"Page-Hinkley, blocks": own.alarms}
    for delta in DELTAS:
        found[f"ADWIN {delta}, each target"] = rises("misses", recorder.missed, delta, 32)
        found[f"ADWIN {delta}, blocks"] = [
            alarm for signal in SIGNALS for alarm in rises(signal, recorder.blocks[signal], delta, 1)
        ]
    by_time = {detector: sorted(alarms, key=lambda alarm: alarm.targets) for detector, alarms in found.items()}
    return {detector: judged(name, Found(alarms, own.steps)) for detector, alarms in by_time.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 4, 5])
    parser.add_argument("--events", type=int, default=15_000)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in itertools.product(given.seeds, DRIFTS_D):
            for detector, one in compared(name, scenario(name, Path(folder)), given.events, seed).items():
                runs.setdefault(detector, {}).setdefault(name, []).append(one)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.events:,} events, seeds {given.seeds}")
    heads = ("detector", "stream", "found", "days", "targets", "false alarms in targets", "HR@10 after", "by signal")
    table(heads, [(detector, *row(name, own)) for detector, by in runs.items() for name, own in by.items()])
    save("drift-adwin", {"events": given.events, "seeds": given.seeds, "runs": runs}, given.save)


if __name__ == "__main__":
    main()
