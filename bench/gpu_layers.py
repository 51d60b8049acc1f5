"""HSTU layers and their attention alone against a Transformer layer and SDPA, for bench/gpu.py.

L tokens in full sequences of N, D width, H heads of d. All in bf16. Before an HSTU row is timed, its fused attention is
compared with plain PyTorch in float32 on one such sequence, gradients too. The operations around the attention, silu
in parts and u * norm(o), depend on the number of tokens and not on the length of sequences: they have separate rows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from gpu_rows import DEVICE, DTYPE, TINY, Rows, Sizes, line, milliseconds
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention, silu

from model.attention.activations import activation_named
from model.attention.bias_terms import bias_terms
from model.attention.relative_bias import BIASES, Relations, next_ms
from model.attention.tile_plan import TilePlan, plan_tiles
from model.attention.tiled import attend_tiled
from model.attention.triton.api import attend_fused, norm_gate, silu_parts
from model.attention.triton.batch import FusedBatch, clock_of, fused_batch
from model.network.encoders.hstu import Layer

PLAIN_SCORES: Final = 1 << 28  # B * H * N * N of the plain path at most
ALLOWED: Final = 4e-2  # error relative to a result's largest number, as in self_check.py; 5 times for one number,
# in which much may cancel: it is compared with the largest of them
ALPHA: Final = 1.6  # of Stochastic Length, as the paper trains
BACKENDS: Final = (
    {"math": SDPBackend.MATH} if TINY else {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
)
_SQUARES: Final = {"transformer layer": 24, "hstu layer": 10, "plain layer": 10}  # operations a token, of D * D
_HEADS: Final = ("forward ms", "both ms", "min", "max", "fwd device", "both device", "other/ours", "TFLOP/s", "of max")


class Transformer(nn.Module):
    """A pre-norm Transformer layer on full sequences [B, N, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        shapes = {"qkv": (3 * dim, dim), "out": (dim, dim), "up": (4 * dim, dim), "down": (dim, 4 * dim)}
        weights = {name: nn.Parameter(torch.randn(shape) * 0.02) for name, shape in shapes.items()}
        self.weights = nn.ParameterDict(weights).to(DEVICE, DTYPE)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Return the output, [B, N, D]."""
        w, norm = self.weights, partial(layer_norm, normalized_shape=x_BND.shape[-1:])
        qkv = linear(norm(x_BND), w["qkv"]).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        o_BHNd = scaled_dot_product_attention(*qkv, is_causal=True)
        x_BND = x_BND + linear(o_BHNd.transpose(1, 2).flatten(2), w["out"])
        return x_BND + linear(gelu(linear(norm(x_BND), w["up"])), w["down"])


class Sequences:
    """Full sequences with times and one bias, as each path of the attention reads them."""

    def __init__(self, bias: str, length: int, count: int, sizes: Sizes) -> None:
        generator = torch.Generator().manual_seed(0)
        kind = BIASES.get(bias)
        self.bias = kind(length, dtype=torch.float32, generator=generator) if kind else None
        for parameter in self.bias.parameters() if self.bias else ():  # so large that an error shows
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.5
        self.bias = self.bias.to(DEVICE) if self.bias else None
        self.length, self.tokens, self.sizes = length, count * length, sizes
        self.offsets = torch.arange(count + 1, device=DEVICE) * length
        gaps_ms = torch.exp(torch.rand(self.tokens, generator=generator) * 14).long() * 1000
        self.ts_ms = gaps_ms.cumsum(0).to(DEVICE)
        self.asked_ms = next_ms(self.ts_ms, self.offsets)

    def numbers(self) -> Iterator[Tensor]:
        """Yield random numbers for q, k, v and the gradient of the output, each [L, H, d]."""
        for _ in range(4):
            yield torch.randn(self.tokens, self.sizes.heads, self.sizes.dim // self.sizes.heads, device=DEVICE).to(
                DTYPE
            )

    def batch(self) -> FusedBatch:
        """Return the batch of the fused kernels."""
        clock = clock_of(self.ts_ms, self.asked_ms) if self.bias else None
        return fused_batch(self.offsets, max_len=self.length, tokens=self.tokens, clock=clock)

    def plan(self) -> tuple[TilePlan, Relations | None]:
        """Return the plan and the relations of the plain path."""
        plan = plan_tiles(self.offsets, max_len=self.length, tokens=self.tokens, heads=self.sizes.heads)
        return plan, Relations(plan, self.ts_ms, self.asked_ms, type(self.bias)) if self.bias else None

    def fused(self) -> Callable[..., Tensor]:
        """Return the attention of q, k, v by the kernels, as a function."""
        batch = self.batch()
        return lambda q, k, v: attend_fused(q, k, v, batch, 1.0, "silu", bias_terms(self.bias))

    def plain(self) -> Callable[..., Tensor]:
        """Return the attention of q, k, v by tiles in plain PyTorch, in their dtype, as a function."""
        plan, relations = self.plan()

        def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            activation = activation_named("silu")(plan, q.dtype)
            bias = (lambda tile: relations.bias(self.bias, tile)) if relations else (lambda _: None)
            return attend_tiled(q, k, v, plan, 1.0, activation, bias)

        return run

    def layer(self) -> Layer:
        """Return an HSTU layer with the bias, whose tables stay in float32."""
        d = self.sizes.dim // self.sizes.heads
        widths = {"heads": self.sizes.heads, "d_qk": d, "d_v": d}
        generator = torch.Generator().manual_seed(0)
        layer = Layer(self.sizes.dim, **widths, alpha=1.0, bias=None, dtype=DTYPE, generator=generator).to(DEVICE)
        layer.bias = self.bias
        return layer


def compare(sequences: Sequences) -> float:
    """Return the largest error of the fused attention, relative to a result's largest number.

    Raises:
        RuntimeError: the error is larger than ALLOWED; the sentence names the result.
    """
    *qkv, cotangent = sequences.numbers()
    parameters = dict(sequences.bias.named_parameters()) if sequences.bias else {}

    def results(run: Callable[..., Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        leaves = dict(zip("qkv", (x.to(dtype).requires_grad_() for x in qkv), strict=True))
        out = run(*leaves.values())
        gradients = torch.autograd.grad(out, [*leaves.values(), *parameters.values()], cotangent.to(dtype))
        return {"output": out.detach(), **dict(zip((*leaves, *parameters), gradients, strict=True))}

    ours, wanted, worst = results(sequences.fused(), DTYPE), results(sequences.plain(), torch.float32), 0.0
    lone = max((x.abs().item() for x in wanted.values() if x.numel() == 1), default=0.0)
    for name, exact in wanted.items():
        size = lone if exact.numel() == 1 else exact.abs().max().item()
        off = (ours[name].float() - exact).abs().max().item() / size
        if not off <= ALLOWED * (5 if exact.numel() == 1 else 1):
            raise RuntimeError(f"fused attention is wrong: {name} (or its gradient) is off by {off:.1e} of its largest")
        worst = max(worst, off)
    return worst


def timed(run: Callable[[], Tensor], leaves: list[Tensor], sizes: Sizes) -> dict[str, Any]:
    """Time forward, and forward with backward."""
    cotangent = torch.randn_like(run())
    with torch.no_grad():
        forward = milliseconds(run, sizes.seconds)
    both = milliseconds(lambda: torch.autograd.grad(run(), leaves, cotangent), sizes.seconds)
    return {"forward_ms": forward, "both_ms": both}


def by_sdpa(run: Callable[[], Tensor], leaves: list[Tensor], sizes: Sizes) -> dict[str, Any]:
    """Time each backend of SDPA; return the fastest's times, and all of them."""
    found, refused = {}, {}
    for name, backend in BACKENDS.items():
        try:
            with sdpa_kernel(backend):
                found[name] = timed(run, leaves, sizes)
        except RuntimeError as error:
            refused[name] = str(error).strip().splitlines()[0]
    if not found:
        raise RuntimeError(f"no backend of SDPA runs: {refused}")
    best = min(found, key=lambda name: found[name]["both_ms"]["median"])
    return {"backend": best, **found[best], "others": {**found, **refused}}


def transformer_row(length: int, count: int, sizes: Sizes) -> dict[str, Any]:
    layer = Transformer(sizes.dim, sizes.heads)
    x = torch.randn(count, length, sizes.dim, device=DEVICE, dtype=DTYPE, requires_grad=True)
    return by_sdpa(lambda: layer(x), [x, *layer.parameters()], sizes)


def sdpa_row(length: int, count: int, sizes: Sizes) -> dict[str, Any]:
    leaves = [x.requires_grad_() for x in Sequences("none", length, count, sizes).numbers()][:3]
    qkv = [x.view(count, length, *x.shape[1:]).transpose(1, 2) for x in leaves]
    return by_sdpa(lambda: scaled_dot_product_attention(*qkv, is_causal=True), leaves, sizes)


def fused_row(what: str, bias: str, length: int, count: int, sizes: Sizes) -> dict[str, Any]:
    """Time an HSTU layer, or its attention alone, by the kernels, after a check that they are right."""
    sequences = Sequences(bias, length, count, sizes)
    if what == "attention":
        leaves = [x.requires_grad_() for x in sequences.numbers()][:3]
        leaves += [*sequences.bias.parameters()] if sequences.bias else []
        attention = sequences.fused()
        run = lambda: attention(*leaves[:3])  # noqa: E731
    else:
        layer, batch = sequences.layer(), sequences.batch()
        x = torch.randn(sequences.tokens, sizes.dim, device=DEVICE, dtype=DTYPE, requires_grad=True)
        leaves = [x, *layer.parameters()]
        run = lambda: layer.fused(x, batch, "silu")  # noqa: E731
    out = run()
    torch.autograd.grad(out, leaves, out.detach())  # if tuned, finds block sizes at the batch's full size
    fits = sizes.heads * length**2 <= PLAIN_SCORES
    off = {"off": compare(Sequences(bias, length, 1, sizes))} if fits else {}
    return {**off, **timed(run, leaves, sizes)}


def shortened_row(bias: str, length: int, count: int, sizes: Sizes) -> dict[str, Any]:
    """Time an HSTU layer on as many sequences, each with the tokens that Stochastic Length leaves of it."""
    kept = int(length ** (ALPHA / 2))
    return {"kept": kept, **fused_row("layer", bias, kept, count, sizes)}


def plain_row(bias: str, length: int, count: int, sizes: Sizes) -> dict[str, Any]:
    """Time an HSTU layer by plain PyTorch."""
    sequences = Sequences(bias, length, count, sizes)
    layer, (plan, relations) = sequences.layer(), sequences.plan()
    activation = activation_named("silu")(plan, DTYPE)
    x = torch.randn(sequences.tokens, sizes.dim, device=DEVICE, dtype=DTYPE, requires_grad=True)

    def run() -> Tensor:
        with torch.autocast(DEVICE.type, DTYPE):
            return layer(x, plan, activation, relations)

    return timed(run, [x, *layer.parameters()], sizes)


def gate_operations(path: str, z: Tensor, o: Tensor) -> list[Tensor]:
    """Return the gated rows, v, q and k of a layer from its projection z, [L, 4 D], and its attention o, [L, D]."""
    widths = [o.shape[1]] * 4
    u, *others = silu_parts(z, widths) if path == "fused" else silu(z).split_with_sizes(widths, -1)
    return [norm_gate(u, o, 1e-6) if path == "fused" else u * layer_norm(o, o.shape[1:], eps=1e-6), *others]


def around_row(path: str, tokens: int, sizes: Sizes) -> dict[str, Any]:
    """Time the operations around the attention, after a check that they are right; no autocast on either path."""
    z, o, *cotangents = (torch.randn(tokens, n * sizes.dim, device=DEVICE).to(DTYPE) for n in (4, 1, 1, 1, 1, 1))

    def results(path: str, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in (z, o)]
        outputs = gate_operations(path, *leaves)
        gradients = torch.autograd.grad(outputs, leaves, [x.to(dtype) for x in cotangents])
        return [x.detach().float() for x in (*outputs, *gradients)]

    off = 0.0
    for ours, exact in zip(results(path, DTYPE), results("plain", torch.float32), strict=True):
        off = max(off, ((ours - exact).abs().max() / exact.abs().max()).item())
    if not off <= ALLOWED:
        raise RuntimeError(f"{path}: what stands around the attention is off by {off:.1e} of a result's largest number")
    leaves = [x.requires_grad_() for x in (z, o)]
    with torch.no_grad():
        forward = milliseconds(lambda: gate_operations(path, *leaves), sizes.seconds)
    both = milliseconds(lambda: torch.autograd.grad(gate_operations(path, *leaves), leaves, cotangents), sizes.seconds)
    return {"off": off, "forward_ms": forward, "both_ms": both}


Measure = tuple[str, str, Callable[[], dict[str, Any]]]


def around_measures(tokens: int, sizes: Sizes) -> Iterator[Measure]:
    """Yield the measures of `tokens` tokens, whatever the length of their sequences."""
    for path, other in (("plain", ""), ("fused", "around, plain")):
        yield f"around, {path}", other, partial(around_row, path, tokens, sizes)


def measures(length: int, sizes: Sizes, biases: tuple[str, ...]) -> Iterator[Measure]:
    """Yield the measures at one length: name, name of the row to compare with, and the function."""
    shape = length, max(1, sizes.tokens // length), sizes
    yield "transformer layer", "", partial(transformer_row, *shape)
    yield "sdpa", "", partial(sdpa_row, *shape)
    for bias in biases:
        yield f"hstu layer, {bias}", "transformer layer", partial(fused_row, "layer", bias, *shape)
        yield f"attention, {bias}", "sdpa", partial(fused_row, "attention", bias, *shape)
    if "bucketed" in biases and length >= 4096:
        yield "shortened layer, bucketed", "transformer layer", partial(shortened_row, "bucketed", *shape)
    if "functional" in biases and shape[1] * sizes.heads * length**2 <= PLAIN_SCORES:
        yield "plain layer, bucketed", "transformer layer", partial(plain_row, "bucketed", *shape)


def layer_rows(rows: Rows, sizes: Sizes, lengths: tuple[int, ...], biases: tuple[str, ...], limit_s: int = 60) -> None:
    """Measure at all lengths and print a line for each row."""
    ceiling = rows.row("ceiling", partial(ceiling_row, sizes)).get("tflops", 0.0)
    print(
        f"\n{sizes.tokens:,} tokens, width {sizes.dim}, {sizes.heads} heads, bf16; max: a product of {sizes.matmul:,}, "
        f"{ceiling:.4g} TFLOP/s\na Transformer layer has 12 D² weights, an HSTU layer 5; device: without Python's "
        "launches, and other/ours is by it"
    )
    line("", *_HEADS)
    counts = dict.fromkeys(max(1, sizes.tokens // length) * length for length in lengths)
    planned = [(tokens, around_measures(tokens, sizes)) for tokens in counts]
    for length, measured in [*planned, *((length, measures(length, sizes, biases)) for length in lengths)]:
        for name, other, measure in measured:
            row = rows.row(f"{length} {name}", measure, limit_s)
            if "error" not in row:
                _show(f"{length} {name}", row, rows.there().get(f"{length} {other}", {}), length, sizes, ceiling)


def _show(name: str, row: dict[str, Any], other: dict[str, Any], length: int, sizes: Sizes, ceiling: float) -> None:
    what = name.split(" ", 1)[1].split(",")[0]
    forward, both = row["forward_ms"], row["both_ms"]
    tokens = max(1, sizes.tokens // length) * length
    flops = tokens * (_SQUARES.get(what, 0) * sizes.dim**2 + 2 * length * sizes.dim)  # causal half of two products
    tflops = 3 * flops / both["device"] / 1e9
    ratio = f"{other['both_ms']['device'] / both['device']:.2f}" if "both_ms" in other else ""
    cells = forward["median"], both["median"], both["min"], both["max"], forward["device"], both["device"]
    backend = f" ({row['backend']})" if "backend" in row else ""
    work = (tflops, f"{tflops / ceiling:.0%}" if ceiling else "") if what in ("sdpa", "attention", *_SQUARES) else ()
    line(name + backend, *cells, ratio, *work)


def ceiling_row(sizes: Sizes) -> dict[str, Any]:
    """Return the TFLOP/s of a bf16 product of random matrices."""
    a, b = (torch.randn(sizes.matmul, sizes.matmul, device=DEVICE, dtype=DTYPE) for _ in range(2))
    ms = milliseconds(lambda: a @ b, sizes.seconds)
    return {"ms": ms, "tflops": 2 * sizes.matmul**3 / ms["device"] / 1e9}
