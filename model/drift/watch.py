"""What is watched for drift: the model's prequential loss and misses, and what its targets are.

The targets are cut into blocks of BLOCK and more. Of each block there is one value a signal:

    loss            mean loss of its micro-batches before they were learned, each over the logarithm of the number of
                    candidates, so that a vocabulary that grows is no drift
    misses          share of its retrieval targets that the model did not have among its first ten
    concentration   chance that two of its targets are of one item (Simpson, Measurement of Diversity, 1949): a fashion
    items           PSI of the targets' items, in 64 bins by key
    actions         PSI of the actions on the targets; each name has a bin, beyond 63 all others share one
    gaps            PSI of the times between a user's last token and the request, in bins of powers of two of a second

A Page-Hinkley test looks for a rise of each. Equal runs have equal alarms: only event time and order count. A
checkpoint holds the state as JSON. After an alarm `recovery` follows the misses.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.drift.page_hinkley import PageHinkley
from model.drift.population_stability import Reference
from model.drift.recovery import Recovery
from model.evaluation.prequential import MODEL, Outcome
from stream.example import Example

BLOCK: Final = 200  # targets
BINS: Final = {"items": 64, "actions": 64, "gaps": 24}
SIGNALS: Final = ("loss", "misses", "concentration", *BINS)
_LEAST_PSI: Final = 0.02  # standard deviation
_HIT: Final = 10  # places


@dataclass(frozen=True, slots=True)
class Alarm:
    """A signal has risen."""

    signal: str
    targets: int
    """Targets tested until then."""
    event_ms: int
    value: float
    """Of the block that was one too many."""


class DriftWatch:
    """The detectors of one run, and how many alarms they have raised."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(SIGNALS, 0)
        self.recovery = Recovery()
        self._tests = {signal: PageHinkley(_LEAST_PSI) if signal in BINS else PageHinkley() for signal in SIGNALS}
        self._references = {signal: Reference(np.zeros(bins)) for signal, bins in BINS.items()}
        self._actions: dict[int, int] = {}  # bin of an action's key, in the order of their first targets
        self._begin()

    def _begin(self) -> None:
        """Begin a block."""
        self._sums = dict.fromkeys(("targets", "tested", "missed", "losses", "steps"), 0.0)
        self._bins = {signal: np.zeros(bins, np.int64) for signal, bins in BINS.items()}
        self._items: list[int] = []  # keys of the targets

    def add(
        self,
        examples: Sequence[Example],
        outcome: Outcome | None,
        loss: float,
        *,
        candidates: int,
        targets: int,
        event_ms: int,
    ) -> list[Alarm]:
        """Take a micro-batch that was tested and learned, and return the alarms it leads to.

        Args:
            examples: Its examples.
            outcome: Its test; None where there was none.
            loss: Its loss before it was learned; NaN where there was none.
            candidates: Items that the loss is over.
            targets: Targets tested so far, for the alarms.
            event_ms: When its last example became final, for the alarms.
        """
        for example in examples:
            self._count(example)
        if outcome is not None:
            ranks_P = outcome.ranks[MODEL]
            self._sums["tested"] += len(ranks_P)
            self._sums["missed"] += int((ranks_P > _HIT).sum())
        if np.isfinite(loss):
            self._sums["losses"] += loss / math.log(2 + candidates)
            self._sums["steps"] += 1
        return self._end(targets, event_ms) if self._sums["targets"] >= BLOCK else []

    def _count(self, example: Example) -> None:
        self._sums["targets"] += len(example.positions)
        items = example.keys[example.positions]
        self._items += items.tolist()
        self._add("items", items % BINS["items"])
        self._add("actions", np.array([self._action_bin(key) for key in example.labels.tolist()], np.int64))
        known = np.flatnonzero(example.queries >= 0)
        gap_s = (example.request_ms[known] - example.ts_ms[example.queries[known]]) // 1000
        self._add("gaps", np.minimum(np.frexp(np.maximum(gap_s, 0))[1], BINS["gaps"] - 1))

    def _action_bin(self, key: int) -> int:
        last = BINS["actions"] - 1
        if key not in self._actions and len(self._actions) < last:
            self._actions[key] = len(self._actions)
        return self._actions.get(key, last)

    def _add(self, signal: str, bins: NDArray[Any]) -> None:
        self._bins[signal] += np.bincount(bins.astype(np.int64), minlength=BINS[signal])

    def _end(self, targets: int, event_ms: int) -> list[Alarm]:
        """Test the block's values and begin the next."""
        sums = self._sums
        values = {
            "loss": sums["losses"] / sums["steps"] if sums["steps"] else None,
            "misses": sums["missed"] / sums["tested"] if sums["tested"] else None,
            "concentration": _concentration(self._items),
            **{signal: self._references[signal].add(counts) for signal, counts in self._bins.items()},
        }
        self._begin()
        before = self._tests["misses"].level
        found = [
            Alarm(signal, targets, event_ms, round(value, 6))
            for signal, value in values.items()
            if value is not None and self._tests[signal].add(value)
        ]
        for alarm in found:
            self.counts[alarm.signal] += 1
        if found:
            self.recovery.begin(found[0].signal, targets, before)
        elif values["misses"] is not None:
            self.recovery.add(values["misses"])
        return found

    def deciding(self, signal: str) -> dict[str, Any]:
        """Return what decides the next alarms of a signal that has no bins, for a digest."""
        return {"test": self._tests[signal].state(), **{k: self._sums[k] for k in ("targets", "losses", "steps")}}

    def state(self) -> dict[str, Any]:
        """Return everything, for a checkpoint."""
        return {
            "counts": dict(self.counts),
            "recovery": self.recovery.state(),
            "tests": {signal: test.state() for signal, test in self._tests.items()},
            "references": {signal: reference.counts.tolist() for signal, reference in self._references.items()},
            "sums": dict(self._sums),
            "bins": {signal: counts.tolist() for signal, counts in self._bins.items()},
            "items": list(self._items),
            "actions": list(self._actions),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Replace everything by what a state holds."""
        self.counts, self._sums = dict(state["counts"]), dict(state["sums"])
        self.recovery.load_state(state["recovery"])
        for signal, test in state["tests"].items():
            self._tests[signal].load_state(test)
        self._references = {signal: Reference(np.array(counts)) for signal, counts in state["references"].items()}
        self._bins = {signal: np.array(counts, np.int64) for signal, counts in state["bins"].items()}
        self._items = list(state["items"])
        self._actions = {key: number for number, key in enumerate(state["actions"])}


def _concentration(items: list[int]) -> float:
    """Return the chance that two different targets are of one item."""
    count = Counter(items)
    return sum(each * (each - 1) for each in count.values()) / (len(items) * (len(items) - 1))
