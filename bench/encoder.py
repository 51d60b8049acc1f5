"""Tokens/s of the encoder, forward and backward, beside padded eager PyTorch and a Transformer of the same width.

    eager         HSTU as research code writes it: a linear layer over the tokens, then q, k, v padded; scores, bias and
                  weights stored as [B, H, N, N]; time buckets computed by every layer. It has our weights, and our
                  outputs and gradients are compared with its own before anything is timed.
    plain         model/network/encoders/hstu.py without compiled loops: dense tiles of sequences of like length
                  (model/attention/tiled.py)
    ours          model/network/encoders/hstu.py as it is by default on this machine
    rectools      the HSTU layers of RecTools (PyPI), padded, if it is installed: SiLU, no bias or time buckets
    transformer   pre-norm layers with PyTorch's scaled_dot_product_attention on padded q, k, v and a feed-forward block
                  of four times the width; all else over the tokens alone. It has no bias.

python bench/encoder.py. Jagged lengths, uniform in [N/8, N]; two layers; no optimizer. All rows take turns, --repeats
times, in one process; each turn times the second of two steps, since in training one step follows another. By default
glibc returns large arrays, such as those of `eager`, to the system after an operation and gets new pages for the next
one; with --keep-memory the process keeps its memory, as with other allocators (jemalloc, tcmalloc).
"""

import argparse
import ctypes
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from report import clock_s, machine, save, spread, table
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention, silu

from model.attention.relative_bias import BIASES, FunctionalBias, RelativeBias, next_ms
from model.config import ModelSettings
from model.network.encoders.hstu import Encoder, Layer

EPS, LAYERS = 1e-6, 2
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt


class Shape(NamedTuple):
    """The size of a batch and of the model."""

    batch: int
    max_len: int
    dim: int
    heads: int

    def __str__(self) -> str:
        return f"B{self.batch} N{self.max_len} d{self.dim} h{self.heads}"


SHAPES = (Shape(128, 128, 64, 2), Shape(16, 512, 256, 4))
VARIANTS = list(itertools.product(("silu", "softmax"), ("none", *BIASES)))


class Jagged:
    """A random batch: inputs, times, and each token's place in a padded batch."""

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        lengths = torch.randint(shape.max_len // 8, shape.max_len + 1, (shape.batch,), generator=rng)
        self.shape, self.tokens = shape, int(lengths.sum())
        self.offsets = torch.cat((torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)))
        self.x = torch.randn(self.tokens, shape.dim, generator=rng).requires_grad_()
        self.ts_ms = torch.rand(self.tokens, generator=rng).mul(14).exp().mul(1000).long().cumsum(0)
        self.sequences = torch.arange(shape.batch).repeat_interleave(lengths)
        self.places = torch.arange(self.tokens) - self.offsets[:-1].repeat_interleave(lengths)
        self.asked_ms = next_ms(self.ts_ms, self.offsets)

    def padded(self, x: Tensor) -> Tensor:
        """Return [L, ...] as [B, N, ...]."""
        out = x.new_zeros(self.shape.batch, self.shape.max_len, *x.shape[1:])
        return out.index_put((self.sequences, self.places), x)

    def heads(self, x: Tensor) -> Tensor:
        """Return [L, D] as [B, H, N, d]."""
        return self.padded(x).unflatten(-1, (self.shape.heads, -1)).transpose(1, 2)

    def jagged(self, x_BHNd: Tensor) -> Tensor:
        """Return [B, H, N, d] as [L, D]."""
        return x_BHNd.transpose(1, 2).flatten(2)[self.sequences, self.places]


def eager(encoder: Encoder, batch: Jagged) -> Tensor:
    """Return an encoder's output, with all intermediate arrays materialised."""
    settings, n = encoder.settings, encoder.settings.max_len
    seen_NN = torch.ones(n, n, dtype=torch.bool).tril()
    x = batch.x
    for layer in encoder.layers:
        assert isinstance(layer, Layer)
        u, v, q, k = silu(_norm(x) @ layer.w_uvqk).chunk(4, dim=1)
        scores_BHNN = torch.einsum("bhnd,bhmd->bhnm", batch.heads(q), batch.heads(k)) * layer.alpha
        if layer.bias is not None:
            scores_BHNN = scores_BHNN + _bias(layer.bias, batch)[:, None]
        if settings.attention == "softmax":
            weights_BHNN = torch.softmax(scores_BHNN.masked_fill(~seen_NN, -torch.inf), -1)
        else:
            weights_BHNN = silu(scores_BHNN) / n * seen_NN
        o = batch.jagged(torch.einsum("bhnm,bhmd->bhnd", weights_BHNN, batch.heads(v)))
        x = linear(u * _norm(o), layer.w_out, layer.b_out) + x
    return x


def _bias(bias: RelativeBias | FunctionalBias, batch: Jagged) -> Tensor:
    at_N = torch.arange(batch.shape.max_len)
    asked_BN, ts_BN = batch.padded(batch.asked_ms), batch.padded(batch.ts_ms)
    log_gaps_BNN = ((asked_BN[:, :, None] - ts_BN[:, None]).abs() / 1000).clamp(min=1).log()
    by_place_NN = bias.positions[at_N - at_N[:, None] + batch.shape.max_len - 1]
    if isinstance(bias, RelativeBias):
        return bias.times[(log_gaps_BNN / 0.301).long().clamp(max=128)] + by_place_NN
    log_w_BNN = torch.sigmoid(bias.power_logit) * (log_gaps_BNN - bias.log_scale)
    return bias.amplitude * torch.exp(-torch.exp(log_w_BNN)) + by_place_NN


def rectools(shape: Shape, bias: str) -> "RecTools | None":
    """Return the layers of RecTools as a module of a batch, or None if they are not installed."""
    try:
        from rectools.models.nn.transformers.hstu import STULayers
    except ImportError:
        return None
    d = shape.dim // shape.heads
    layers = STULayers(
        LAYERS, shape.dim, shape.heads, d, d, shape.max_len, bias != "none", bias != "none", dropout_rate=0.0
    )
    for parameter in layers.parameters():
        nn.init.normal_(parameter, 0.0, 0.05)
    hidden_NN = torch.ones(shape.max_len, shape.max_len, dtype=torch.bool).triu(1)
    return RecTools(layers, hidden_NN)


class RecTools(nn.Module):
    """The layers of RecTools on one of our batches."""

    def __init__(self, layers: nn.Module, hidden_NN: Tensor) -> None:
        super().__init__()
        self.layers, self.hidden_NN = layers, hidden_NN

    def forward(self, batch: Jagged) -> Tensor:
        """Return the output, padded."""
        x_BND, there_BN1 = batch.padded(batch.x), batch.padded(torch.ones(batch.tokens, 1))
        ts_s = batch.padded(batch.ts_ms) // 1000
        extra = {"x": x_BND, "unix_ts": torch.cat((ts_s, ts_s[:, -1:]), 1)}
        return self.layers(x_BND, there_BN1, self.hidden_NN, None, extra)


class Transformer(nn.Module):
    """The usual layers of the same width."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d = shape.dim
        widths = {"qkv": (d, 3 * d), "out": (d, d), "up": (d, 4 * d), "down": (4 * d, d)}
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(*width) for name, width in widths.items()}) for _ in range(LAYERS)
        )

    def forward(self, batch: Jagged) -> Tensor:
        """Return the output, [L, D]."""
        x = batch.x
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleDict)
            q, k, v = (batch.heads(part) for part in layer["qkv"](_norm(x)).chunk(3, dim=1))
            x = x + layer["out"](batch.jagged(scaled_dot_product_attention(q, k, v, is_causal=True)))
            x = x + layer["down"](gelu(layer["up"](_norm(x))))
        return x


def _norm(x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], eps=EPS)


def new_encoder(shape: Shape, attention: str, bias: str) -> Encoder:
    """Return an encoder whose weights are so far from zero that errors show."""
    settings = ModelSettings(
        attention=attention, bias=bias, dim=shape.dim, heads=shape.heads, max_len=shape.max_len, layers=LAYERS
    )  # type: ignore[arg-type]
    rng = torch.Generator().manual_seed(0)
    encoder = Encoder(settings, dtype=torch.float32, generator=rng)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.05)
    return encoder


def plain(encoder: Encoder, batch: Jagged) -> Tensor:
    """Return an encoder's output by the path in plain PyTorch."""
    return encoder._plain(batch.x, batch.offsets, batch.ts_ms, None, batch.asked_ms)


def ours(encoder: Encoder, batch: Jagged) -> Tensor:
    """Return an encoder's output by the path that it chooses."""
    return encoder(batch.x, batch.offsets, batch.ts_ms)


def step(module: nn.Module, output: Callable[[], Tensor], batch: Jagged) -> list[Tensor]:
    """Run forward and backward; return the output and all gradients."""
    for leaf in (batch.x, *module.parameters()):
        leaf.grad = None
    y = output()
    y.square().mean().backward()
    return [y.detach(), *(leaf.grad for leaf in (batch.x, *module.parameters()) if leaf.grad is not None)]


def distance(found: list[Tensor], wanted: list[Tensor]) -> float:
    """Return the largest difference, relative to each tensor's largest entry."""
    pairs = zip(found, wanted, strict=True)
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)


def measure(shape: Shape, repeats: int, only: str) -> tuple[list[list[object]], dict[str, object]]:
    """Return the table's rows of one shape, and their figures."""
    batch = Jagged(shape)
    transformer = Transformer(shape)
    runs: dict[str, Callable[[], list[Tensor]]] = {
        "transformer": lambda: step(transformer, lambda: transformer(batch), batch)
    }
    for bias in ("none", "bucketed"):
        if (layers := rectools(shape, bias)) is not None:
            runs[f"silu {bias} rectools"] = lambda layers=layers: step(layers, lambda: layers(batch), batch)
    errors = {}
    for attention, bias in (variant for variant in VARIANTS if only in " ".join(variant)):
        encoder = new_encoder(shape, attention, bias)
        for path in (eager, plain, ours):
            runs[f"{attention} {bias} {path.__name__}"] = lambda encoder=encoder, path=path: step(
                encoder, lambda: path(encoder, batch), batch
            )
        names = [f"{attention} {bias} {path.__name__}" for path in (eager, plain, ours)]
        wanted, *others = (runs[name]() for name in names)
        errors |= dict(zip(names[1:], (distance(found, wanted) for found in others), strict=True))
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _, (name, run) in itertools.product(range(repeats), runs.items()):
        run()
        start = clock_s()
        run()
        rates[name].append(batch.tokens / (clock_s() - start))
    return rows(shape, rates, errors), {"tokens": batch.tokens, "tokens_per_s": rates, "distance": errors}


def rows(shape: Shape, rates: dict[str, list[float]], errors: dict[str, float]) -> list[list[object]]:
    """Return a line for each rate, with its ratios to eager of the same formula and to the Transformer."""
    medians = {name: spread(own)["median"] for name, own in rates.items()}
    out: list[list[object]] = []
    for name, own in rates.items():
        eager_name = " ".join([*name.split()[:2], "eager"])
        ratio = f"{medians[name] / medians[eager_name]:.2f}" if eager_name in medians else ""
        beside = f"{medians[name] / medians['transformer']:.2f}"
        error = f"{errors[name]:.0e}" if name in errors else ""
        out.append([f"{shape} {name}", *spread(own).values(), ratio, beside, error])
    return out


def keep_memory() -> None:
    """Let the process keep freed memory (glibc)."""
    library = ctypes.CDLL(None)
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="only variants with this in their name, e.g. bucketed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--keep-memory", action="store_true", help="freed memory stays with the process")
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    if given.keep_memory:
        keep_memory()
    figures: dict[str, object] = {}
    for threads in given.threads:
        torch.set_num_threads(threads)
        print(machine() + ("" if rectools(SHAPES[0], "none") else "; RecTools is not installed: left out"))
        lines: list[list[object]] = []
        for shape in SHAPES:
            own, behind = measure(shape, given.repeats, given.only)
            lines += own
            figures[f"{shape} {threads} threads"] = behind
        table(["tokens/s", "min", "median", "max", "x eager", "x transformer", "distance"], lines)
    save("encoder_keeping_memory" if given.keep_memory else "encoder", figures, given.save)


if __name__ == "__main__":
    main()
