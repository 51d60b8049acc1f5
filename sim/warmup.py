"""`hstu warmup`: compiles what training, serving and comparing compile at first use, by doing a little of each."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from model.baselines import BASELINES
from model.config import ModelSettings, TrainSettings
from model.evaluation.prequential import LOGISTIC
from model.keys.admission import Admission
from model.keys.key_table import KeyTable
from model.learning.learner import Learner
from model.serving.answerer import Answerer
from model.serving.hot_swap import Swapper
from model.serving.top_k import ROWS, best, rounded
from model.storage.aliases import LATEST
from model.storage.patch import difference
from model.storage.snapshot import Snapshot
from sim.config import Settings
from sim.experiment.feeds import micro_batches
from sim.experiment.run import Run, RunSpec, Scalar
from sim.experiment.streams import feed_of, open_stream, stream_of
from sim.experiment.upper_bounds import upper_bound
from sim.replay.in_process import DirectRun
from stream.store.reader import SequenceReader

_SLATES: Final = "everything"  # a scenario of slates and clicks, whose items come and go
_EVENTS: Final[dict[str, Scalar]] = {"base.events": 400, "base.users": 40, "base.items": 200}
_RECORDS: Final[dict[str, Scalar]] = {"records": 40, "items": 200, "categories": 10, "length": 32}
_OFTEN: Final = {"snapshot_s": 0.2, "delta_s": 0.01}
_TRAINERS: Final[Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]] = (  # tables [model] and [train]
    ({"attention": "silu"}, _OFTEN),
    ({"attention": "silu_seen", "bias": "functional"}, {"stochastic_length_alpha": 1.6}),
    ({"attention": "softmax"}, {**_OFTEN, "delta_threshold": 0.01, "admit_after": 2, "max_items": 64, "item_ttl_d": 1}),
)


def warm_up() -> None:
    """Run small trainers, servers and contestants, in a folder that is deleted afterwards."""
    with TemporaryDirectory(prefix="hstu-warmup-") as folder:
        for model, train in _TRAINERS:
            _learn_and_answer(Path(folder, model["attention"]), model, train)
    _rarely_called()
    for contestant in (*BASELINES, LOGISTIC):
        spec = RunSpec(scenario=_SLATES, overrides=_EVENTS, seed=0, contestant=contestant)
        Run(spec, feed_of(spec)).run()
    paper = RunSpec(scenario="paper", overrides=_RECORDS, seed=0, contestant="")
    upper_bound(paper, stream_of(paper))


def _rarely_called() -> None:
    """Call loops that small runs seldom reach: for many ids, many items, moved rows, closed loops."""
    keys = np.arange(10, dtype=np.uint64)
    KeyTable(4).add(keys, np.arange(10))  # grows
    Admission(2, exact=1, width=64).count(keys)  # counts in a sketch
    for dtype in (np.float32, np.float64):
        difference({"rows": np.zeros((9, 2), dtype)}, {"rows": np.eye(9, 2, dtype=dtype)}, threshold=0.1)
    items_VD = torch.ones(ROWS + 1, 1)
    best(items_VD, torch.ones(1), 1, np.empty(0, np.int64), coarse=rounded(items_VD))  # of more than one block
    spec = RunSpec(scenario=_SLATES, overrides=_EVENTS, seed=0, contestant="")
    learner = Learner(ModelSettings(), TrainSettings(device="cpu"))
    for _, examples in islice(micro_batches(feed_of(spec), 8), 3):
        learner.step(examples)
        learner.recommend(examples, 3)


def _learn_and_answer(folder: Path, model: Mapping[str, Any], train: Mapping[str, Any]) -> None:
    stream = open_stream(_SLATES, _EVENTS, 0, {})
    assert stream.scenario is not None
    source = stream.scenario.source()
    settings = Settings(
        bootstrap="",
        data_dir=folder,
        stream=stream.settings,
        model=ModelSettings(**model),
        train=TrainSettings(name="warmup", **train),
    )
    with closing(SequenceReader(folder, settings.stream)) as sequences:

        def make(snapshot: Snapshot) -> Answerer:
            return Answerer(snapshot, sequences)

        snapshots = folder / "snapshots" / settings.train.name
        swapper = Swapper(snapshots, LATEST, make)

        def ask(_: int = 0) -> None:
            if snapshots.exists() and any(snapshots.iterdir()) and swapper.poll() and swapper.answerer is not None:
                swapper.answerer.warm_up()

        with DirectRun(settings) as run:
            run.run(source, ask)
        ask()
