"""Streams and settings so small that a run takes a fraction of a second."""

import numpy as np

from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.experiment.feeds import Joined, WholeRecords
from sim.experiment.run import RunSpec
from sim.sources.source import action, impression
from stream.config import StreamSettings

MODEL = {"dim": 8, "layers": 1, "heads": 1, "max_len": 16, "bias": "none"}


TRAIN = {"batch_examples": 4, "negatives": 8}


def spec(contestant: str = "silu", **changes: object) -> RunSpec:
    settings = {"model": MODEL, "train": TRAIN} if contestant in ("silu", "softmax") else {"train": TRAIN}
    return RunSpec(**({"scenario": "x", "seed": 1, "contestant": contestant} | settings | changes))  # type: ignore[arg-type]


def records(count: int = 60) -> WholeRecords:
    return WholeRecords(DirichletStream(DirichletSettings(records=count, length=12, items=60, categories=5)))


class Slates:
    """Users are shown three items and click one of them a while later."""

    name, fingerprint, first_ms, catalogue = "slates", "slates", 1_000, ()

    def __len__(self) -> int:
        return len(list(self.events()))

    def events(self, start: int = 0):
        rng, found = np.random.default_rng(0), []
        for n in range(120):
            user, ts, shown = f"u{n % 9}", 1_000 + n * 10_000, [f"i{i}" for i in rng.choice(20, 3, replace=False)]
            found += [impression(user, f"r{n}", shown, ts), action(user, shown[n % 3], "click", ts + 45_000, f"r{n}")]
        yield from sorted(found, key=lambda event: event.ts_ms)[start:]


def slates() -> Joined:
    return Joined(Slates(), StreamSettings(action_window_s=60, gather_s=5, gather_targets=3, example_tokens=16))
