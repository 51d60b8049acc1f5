"""The fused kernels on one GPU: against SDPA in a Transformer layer, against the matmul ceiling, in training steps.

    ceiling    a product of two large bf16 matrices: what the device gives at most
    layers     one HSTU layer (no bias, the paper's, the functional one) beside a pre-norm Transformer layer of the same
               width with scaled_dot_product_attention and a feed-forward block of 4 D, both in bf16 on full sequences;
               the plain path of the HSTU layer too, where its memory is at most a GiB or so
    training   gather, encode, both losses, backward, AdamW of weights and rows (model/forward.py) at the paper's
               ranking size (3 layers, 2048 tokens, width 512) and retrieval size (6, 512, 256): plain and fused
    tuned      the layer again with block sizes found by measurement, and which they are

python bench/gpu.py, or bench/gpu.sh, which tests first. `--tiny` runs the same code in minutes on a CPU, the kernels
interpreted: its times mean nothing. What no longer fits into --minutes is left out, and said.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

TINY = "--tiny" in sys.argv
if TINY:
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import torch  # noqa: E402
from report import table  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention  # noqa: E402

from model import kernels_check  # noqa: E402
from model.attention import activation_named, plan_tiles  # noqa: E402
from model.attention.fused import batch_of, clock_of, tuned  # noqa: E402
from model.bias import BIASES, Relations, next_ms  # noqa: E402
from model.config import ModelSettings  # noqa: E402
from model.hstu import Layer  # noqa: E402

DEVICE = torch.device("cpu" if TINY else "cuda")
DTYPE = torch.bfloat16
PLAIN_SCORES = 1 << 28  # B * H * N * N of the plain path at most


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096, 8192)
    tokens: int = 32_768  # of a batch of layers
    dim: int = 512
    heads: int = 8
    matmul: int = 8192
    seconds: float = 0.3  # of one measurement
    training: tuple[tuple[str, int, int, int, int, int], ...] = (  # name, layers, tokens, width, heads, sequences
        ("ranking", 3, 2048, 512, 8, 8),
        ("retrieval", 6, 512, 256, 4, 64),
    )
    tuned: tuple[int, ...] = (1024, 4096)


SIZES = Sizes()
if TINY:
    training = (("ranking", 1, 32, 16, 2, 2), ("retrieval", 1, 16, 16, 1, 2))
    SIZES = Sizes((16, 32), 32, 16, 2, 64, 0.0, training, (16,))
    kernels_check.SHAPES[:] = [kernels_check.Shape((9, 0, 1), None, 0)]


@dataclass(frozen=True)
class Deadline:
    """When to stop beginning things."""

    at: float

    def left(self, what: str, wanted_s: float = 20) -> bool:
        """Tell whether there is time left for something; say so if not."""
        if self.at - time.monotonic() > wanted_s:
            return True
        print(f"{what}: left out, the time given has run out; give more --minutes.", flush=True)
        return False


def milliseconds(run: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Time a function on the device, after warming up: min, median and max of at least five runs."""
    run()
    times: list[float] = []
    began = time.monotonic()
    while len(times) < (1 if TINY else 5) or time.monotonic() - began < seconds:
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        times.append(1000 * (time.perf_counter() - start))
    return {"min": min(times), "median": statistics.median(times), "max": max(times)}


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def ceiling_tflops(size: int, seconds: float) -> float:
    """Give the TFLOP/s of a bf16 product of random matrices."""
    a, b = (torch.randn(size, size, device=DEVICE, dtype=DTYPE) for _ in range(2))
    ms = milliseconds(lambda: a @ b, seconds)["median"]
    return 2 * size**3 / ms / 1e9


class Transformer(nn.Module):
    """A pre-norm Transformer layer on full sequences [B, N, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        shapes = {"qkv": (3 * dim, dim), "out": (dim, dim), "up": (4 * dim, dim), "down": (dim, 4 * dim)}
        weights = {name: nn.Parameter(torch.randn(shape) * 0.02) for name, shape in shapes.items()}
        self.weights = nn.ParameterDict(weights).to(DEVICE, DTYPE)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Give the output, [B, N, D]."""
        w, norm = self.weights, partial(layer_norm, normalized_shape=x_BND.shape[-1:])
        qkv = linear(norm(x_BND), w["qkv"]).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        with nullcontext() if TINY else sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            o_BHNd = scaled_dot_product_attention(*qkv, is_causal=True)
        x_BND = x_BND + linear(o_BHNd.transpose(1, 2).flatten(2), w["out"])
        return x_BND + linear(gelu(linear(norm(x_BND), w["up"])), w["down"])


class Hstu:
    """An HSTU layer on full sequences, jagged [L, D]; fused or plain."""

    def __init__(self, bias: str, length: int, sequences: int, sizes: Sizes) -> None:
        generator = torch.Generator().manual_seed(0)
        kind = BIASES.get(bias)
        made = kind(length, dtype=torch.float32, generator=generator) if kind else None
        d = sizes.dim // sizes.heads
        widths = {"heads": sizes.heads, "d_qk": d, "d_v": d}
        layer = Layer(sizes.dim, **widths, alpha=1.0, bias=None, dtype=DTYPE, generator=generator)
        layer.bias = made  # its tables stay in float32
        self.layer, self.kind, self.length, self.heads = layer.to(DEVICE), kind, length, sizes.heads
        self.offsets = torch.arange(sequences + 1, device=DEVICE) * length
        gaps_ms = torch.exp(torch.rand(sequences * length, generator=generator) * 14).long() * 1000
        self.ts_ms = gaps_ms.cumsum(0).to(DEVICE)
        self.shape: dict[str, int] = {"max_len": length, "tokens": sequences * length}
        self.asked_ms = next_ms(self.ts_ms, self.offsets)

    def fused(self) -> Callable[[Tensor], Tensor]:
        """Give the layer by the kernels; what a batch's layers share is made before."""
        clock = clock_of(self.ts_ms, self.asked_ms) if self.kind else None
        batch = batch_of(self.offsets, **self.shape, clock=clock)
        return lambda x_LD: self.layer.fused(x_LD, batch, "silu")

    def plain(self) -> Callable[[Tensor], Tensor]:
        """Give the layer by padded PyTorch, likewise."""
        plan = plan_tiles(self.offsets, **self.shape, heads=self.heads)
        relations = Relations(plan, self.ts_ms, self.asked_ms, self.kind) if self.kind else None
        activation = activation_named("silu")(plan, DTYPE)

        def run(x_LD: Tensor) -> Tensor:
            with torch.autocast(DEVICE.type, DTYPE):
                return self.layer(x_LD, plan, activation, relations)

        return run


def timed(run: Callable[[Tensor], Tensor], x: Tensor, weights: nn.Module, seconds: float) -> dict[str, Any]:
    """Time forward, and forward with backward, of a layer."""

    def both() -> None:
        weights.zero_grad(set_to_none=True)
        run(x).backward(cotangent)

    cotangent = torch.randn_like(x)
    with torch.no_grad():
        forward = milliseconds(lambda: run(x), seconds)
    return {"forward_ms": forward, "both_ms": milliseconds(both, seconds)}


def layer_flops(rival: bool, length: int, tokens: int, dim: int) -> float:
    """Give the operations of one forward: projections, and the causal half of two products."""
    return tokens * ((24 if rival else 10) * dim * dim + 2 * length * dim)


def layers(length: int, sizes: Sizes, biases: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Time all layers at one length."""
    sequences = max(1, sizes.tokens // length)
    x = torch.randn(sequences * length, sizes.dim, device=DEVICE, dtype=DTYPE, requires_grad=True)
    transformer = Transformer(sizes.dim, sizes.heads)
    full = (sequences, length, sizes.dim)
    yield "transformer", timed(lambda x: transformer(x.view(full)).view_as(x), x, transformer, sizes.seconds)
    for bias in biases:
        hstu = Hstu(bias, length, sequences, sizes)
        yield f"hstu {bias}", timed(hstu.fused(), x, hstu.layer, sizes.seconds)
        if sequences * sizes.heads * length**2 <= PLAIN_SCORES and bias == "bucketed":
            yield f"plain {bias}", timed(hstu.plain(), x, hstu.layer, sizes.seconds)


def layer_table(sizes: Sizes, ceiling: float, deadline: Deadline, lengths: tuple[int, ...], what: str) -> list[Any]:
    """Time layers at all lengths, print their table as it grows, give its rows."""
    found = []
    heads = ("length, layer", "forward ms", "both ms", "min", "max", "tokens/s both", "SDPA/ours", "TFLOP/s", "of max")
    print(f"\n{what}: {sizes.tokens:,} tokens, width {sizes.dim}, {sizes.heads} heads, {DTYPE}".replace("torch.", ""))
    for length in lengths:
        if not deadline.left(f"length {length}"):
            break
        rows, rival = [], 0.0
        for name, times in layers(length, sizes, ("none", *BIASES) if what == "layers" else ("none", "bucketed")):
            both = times["both_ms"]
            rival = rival or both["median"]
            tokens = max(1, sizes.tokens // length) * length
            tflops = 3 * layer_flops(name == "transformer", length, tokens, sizes.dim) / both["median"] / 1e9
            row = (times["forward_ms"]["median"], both["median"], both["min"], both["max"])
            row = (*row, 1000 * tokens / both["median"], rival / both["median"], tflops, f"{tflops / ceiling:.0%}")
            rows.append((f"{length} {name}", *row))
            found.append({"length": length, "layer": name, "tokens": tokens, **times})
        table(heads, rows)
    return found


def training_table(sizes: Sizes, deadline: Deadline) -> list[Any]:
    """Time whole training steps, plain and fused, in float32 and under bf16 autocast."""
    from gpu_training import Trainer

    found, rows = [], []
    for name, layer_count, length, dim, head_count, sequences in sizes.training:
        shape: dict[str, Any] = {"layers": layer_count, "max_len": length, "dim": dim, "heads": head_count}
        for path, dtype in (("fused", "bf16"), ("plain", "bf16"), ("fused", "fp32"), ("plain", "fp32")):
            if not deadline.left(f"training {name}, {path} {dtype}", 30):
                continue
            trainer = Trainer(ModelSettings(**shape), sequences, DEVICE.type, bf16=dtype == "bf16")
            with patch("model.hstu.serve", lambda *_, **__: False) if path == "plain" else nullcontext():
                result = _training(trainer, sizes.seconds)
            found.append({"size": name, "path": path, "dtype": dtype, **shape, "sequences": sequences, **result})
            if "error" in result:
                print(f"training {name}, {path} {dtype}: {result['error']}", flush=True)
                continue
            step = result["step_ms"]
            row = (*step.values(), result["encoder_ms"]["median"], 1000 * trainer.tokens / step["median"])
            rows.append((f"{name}, {path} {dtype}", *row, result["gib"]))
            del trainer
    heads = ("training", "step ms min", "median", "max", "encoder ms", "tokens/s", "peak GiB")
    print("\nwhole training steps; encoder: its forward and backward alone")
    table(heads, rows)
    return found


def _training(trainer: Any, seconds: float) -> dict[str, Any]:
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        step_ms, encoder_ms = milliseconds(trainer.step, 3 * seconds), milliseconds(trainer.encode, seconds)
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    gib = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
    return {"step_ms": step_ms, "encoder_ms": encoder_ms, "gib": gib}


def choices() -> dict[str, str]:
    """Say which block sizes measuring has found the fastest."""
    from model.attention import triton_launch

    found = {}
    for (kernel, _), tuner in triton_launch._tuned.items():
        for key, config in tuner.cache.items():
            found[f"{kernel.__name__} {key}"] = str(config)
    return found


def header() -> dict[str, str]:
    """Name what this ran on."""
    import triton

    name = platform.machine() if TINY else torch.cuda.get_device_name()
    return {"device": name, "torch": torch.__version__, "triton": triton.__version__, "date": time.strftime("%Y-%m-%d")}


def save(figures: dict[str, Any], folder: Path) -> None:
    """Write what there is so far."""
    if TINY:
        return
    folder.mkdir(parents=True, exist_ok=True)
    name = figures["device"].replace(" ", "-").lower()
    path = folder / f"gpu_{name}_{figures['date']}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"written: {path}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small shapes on a CPU, kernels interpreted")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin nothing after so many minutes")
    parser.add_argument("--save", type=Path, default=Path(__file__).parent / "results", help="folder of the JSON file")
    given = parser.parse_args()
    if not TINY and not torch.cuda.is_available():
        sys.exit("bench/gpu.py wants a CUDA device and finds none; --tiny shows on a CPU that it runs.")
    deadline = Deadline(time.monotonic() + 60 * given.minutes)
    figures: dict[str, Any] = header()
    print(figures, flush=True)
    figures["ceiling_tflops"] = ceiling = ceiling_tflops(SIZES.matmul, SIZES.seconds)
    print(f"ceiling: {ceiling:.4g} TFLOP/s in a bf16 product of {SIZES.matmul}", flush=True)
    figures["layers"] = layer_table(SIZES, ceiling, deadline, SIZES.lengths, "layers")
    save(figures, given.save)
    figures["training"] = training_table(SIZES, deadline)
    save(figures, given.save)
    with tuned():
        figures["tuned"] = layer_table(SIZES, ceiling, deadline, SIZES.tuned, "layers, tuned")
    figures["choices"] = choices()
    for name, choice in figures["choices"].items():
        print(f"{name}: {choice}")
    save(figures, given.save)


if __name__ == "__main__":
    main()
