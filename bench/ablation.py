"""Which differences between SiLU and softmax attention matter: 1/n, the norm after it, or the scale of the scores.

python bench/ablation.py. One learner for each variant on the paper's stream in a small world (5,000 items, 50
categories), the same records for all, --seeds seeds; HR@10 of all targets and of the last tenth, tested before they are
trained on. norm(o) after the attention cancels factors of a whole row, except for the norm's epsilon. So only the
variants without norm can use the size of the sum (how much of the history supports it: the paper's intensity). `n` is
max_len, 128. First the bench prints what the norm's epsilon of 1e-6 is added to: the variance of o in the first layer
of a fresh default model (max_len 512), median over the last tokens of 100 histories of 50.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from movies import make_movies
from report import clock_s, machine, save, table
from torch import Tensor
from torch.nn.functional import layer_norm, linear, silu

from model.attention.activations import Activation
from model.attention.relative_bias import Relations
from model.attention.tile_plan import TilePlan
from model.attention.tiled import attend_tiled
from model.config import ModelSettings, TrainSettings
from model.learning.learner import Learner
from model.network.encoders import hstu
from sim.compare.presets import PRESETS
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.experiment.feeds import WholeRecords
from sim.experiment.run import Run, RunSpec
from sim.report.analysis.statistics import half_width

MODEL = dict(PRESETS["paper"][1].model) | {"max_len": 128}
TRAIN = dict(PRESETS["paper"][1].train) | {"device": "cpu"}


class Variant(NamedTuple):
    """One layer."""

    attention: str
    alpha: float | None = None  # of the scores; None: as the layer has it
    eps: float | None = 1e-6  # of norm(o); None: no norm
    factor: float = 1.0  # of o


VARIANTS = {
    "softmax": Variant("softmax"),
    "silu: 1/n": Variant("silu"),
    "silu_seen: 1/keys seen": Variant("silu_seen"),
    "silu, norm's eps 1e-12": Variant("silu", eps=1e-12),
    "silu, no 1/n": Variant("silu", factor=128.0),
    "silu, scores by 1/sqrt(d)": Variant("silu", alpha=32**-0.5),
    "softmax, scores as they are": Variant("softmax", alpha=1.0),
    "softmax, no norm": Variant("softmax", eps=None),
    "silu, no norm": Variant("silu", eps=None),
    "silu, no norm, no 1/n": Variant("silu", eps=None, factor=128.0),
    "silu_seen, no norm": Variant("silu_seen", eps=None),
}


def layer_of(variant: Variant, variances: list[Tensor] | None = None) -> Callable[..., Tensor]:
    """Return `hstu.Layer.forward` with the variant's changes; it appends the variances of o, [L], to `variances`."""

    def forward(
        self: hstu.Layer, x_LD: Tensor, plan: TilePlan, activation: Activation, relations: Relations | None
    ) -> Tensor:
        normed = layer_norm(x_LD, x_LD.shape[-1:], eps=1e-6)
        u, v, q, k = silu(normed @ self.w_uvqk).split_with_sizes(self.widths, -1)
        q, k, v = (part.view(len(part), self.heads, part.shape[1] // self.heads) for part in (q, k, v))
        o = attend_tiled(q, k, v, plan, self.alpha, activation, self._bias_of(relations)).flatten(1) * variant.factor
        if variances is not None:
            variances.append(o.detach().var(-1, correction=0))
        if variant.eps is not None:
            o = layer_norm(o, o.shape[-1:], eps=variant.eps)
        return linear(u * o, self.w_out, self.b_out) + x_LD

    return forward


def variance_at_start(attention: str) -> float:
    """Return the median variance of o in the first layer of a fresh model."""
    variances: list[Tensor] = []
    hstu.Layer.forward = layer_of(Variant(attention), variances)  # type: ignore[method-assign]
    learner = Learner(ModelSettings(attention=attention), TrainSettings(device="cpu"))  # type: ignore[arg-type]
    learner.step(make_movies(100, burst=50, tokens=50), learn=False)
    return float(variances[0][49::50].median())


def run(variant: Variant, records: int, seed: int) -> dict[str, Any]:
    """Train on one stream with one kind of layer."""
    feed = WholeRecords(DirichletStream(DirichletSettings(records=records, items=5_000, categories=50, seed=seed)))
    spec = RunSpec(
        scenario="paper",
        seed=seed,
        contestant=variant.attention,
        model=MODEL,
        train=TRAIN,
        test_share=0.25,
        frozen=False,
    )
    trained = Run(spec, feed)
    if variant.alpha is not None:
        for layer in trained.contestant._learner.weights.recommender.encoder.layers:  # type: ignore[attr-defined]
            layer.alpha = variant.alpha
    return trained.run()


def interval(numbers: list[float], sign: str = "") -> str:
    """Return the mean and half the 95 % interval."""
    half = half_width(numbers)
    return f"{statistics.mean(numbers):{sign}.4f}" + ("" if half is None else f" ± {half:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=4_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    hstu.use_compiled = hstu.use_fused = lambda *_, **__: False  # type: ignore[assignment]  # the path that is patched
    variances = {name: variance_at_start(name) for name in ("silu", "silu_seen", "softmax")}
    print("variance of o at the start:", ", ".join(f"{name} {value:.1e}" for name, value in variances.items()))
    start_s, found = clock_s(), {}
    for name, variant in VARIANTS.items():
        hstu.Layer.forward = layer_of(variant)  # type: ignore[method-assign]
        found[name] = [run(variant, given.records, seed) for seed in range(given.seeds)]
        print(name, interval([each["hr10"] for each in found[name]]), flush=True)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; {given.records:,} records, {given.seeds} seeds")
    rows = []
    for name, own in found.items():
        pairs = list(zip(own, found["softmax"], strict=True))
        cells = []
        for key in ("hr10", "late_hr10"):
            cells += [interval([each[key] for each in own]), interval([a[key] - b[key] for a, b in pairs], "+")]
        rows.append((name, *cells))
    table(("", "HR@10", "against softmax", "last tenth", "against softmax"), rows)
    kept = {name: [{k: v for k, v in each.items() if k != "curves"} for each in own] for name, own in found.items()}
    save(
        "ablation",
        {"records": given.records, "variances": variances, "runs": kept, "cpu_s": clock_s() - start_s},
        given.save,
    )


if __name__ == "__main__":
    main()
