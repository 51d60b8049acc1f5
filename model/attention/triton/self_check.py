"""The check that the fused kernels must pass before they are used: small random batches against float64 on the CPU.

B sequences, N = the longest. Every batch runs with the case's bias and without one, forward and backward, and is
compared with the loops of reference.py. Then the operations of gate.py run on random rows as wide as the case's layers
and are compared with PyTorch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from model.attention.bias_terms import bias_terms
from model.attention.masks import place
from model.attention.reference import attention as reference
from model.attention.relative_bias import BIASES, FunctionalBias, RelativeBias, next_ms
from model.attention.triton.api import attend_fused, norm_gate, silu_parts
from model.attention.triton.batch import clock_of, fused_batch
from model.errors import ModelError

_TOLERANCES: Final = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}  # relative to the largest number
_TF32: Final = 1e-2  # the same for float32 where PyTorch, and so the kernels, may multiply it as TF32
_TINY: Final = 1e-30  # a row of one number has a norm of zero
_LONE: Final = 5  # factor of the tolerance for a result of one number: much may cancel in its sum
_MAX_LEN: Final = 192
_HEADS: Final = 2
_ROWS: Final = 131  # of a GateProblem: two programs or more, the last one not full
_EPS: Final = 1e-6  # of the norm, as in hstu.py


@dataclass(frozen=True, slots=True)
class Shape:
    """Lengths and candidates of a batch, and a window."""

    lengths: tuple[int, ...]
    targets: tuple[int, ...] | None
    window: int


SHAPES: Final = [Shape((150, 0, 1, 67), None, 0), Shape((140, 1, 33), (20, 1, 0), 0)]  # an encoder sets no window


class Case(NamedTuple):
    """The device, types and sizes that one check is valid for."""

    device: torch.device
    dtype: torch.dtype
    d_qk: int
    d_v: int
    activation: str
    bias: str  # a name in relative_bias.BIASES, or "none"
    heads: int  # of a layer: the rows of its gate are heads * d wide


def check(case: Case) -> None:
    """Compare outputs and gradients on all SHAPES.

    Raises:
        ModelError: A result differs from the reference's; the sentence names it.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(case.device.type, enabled=False):
        for seed, shape in enumerate(SHAPES):
            for bias in dict.fromkeys(("none", case.bias)):
                _compare(CheckProblem(shape, case, bias, seed))
        _compare(GateProblem(case))


class CheckProblem:
    """One random batch in float64 on the CPU with the output's gradient; its leaves are rounded to the case's dtype."""

    def __init__(self, shape: Shape, case: Case, bias: str, seed: int) -> None:
        self.case, self.shape = case, shape
        self.where = f"lengths {list(shape.lengths)}, bias {bias}"
        self.generator = torch.Generator().manual_seed(seed)
        tokens = sum(shape.lengths)
        self.offsets = torch.tensor([0, *shape.lengths]).cumsum(0)
        self.targets = None if shape.targets is None else torch.tensor(shape.targets)
        self.leaves = {name: self._random(tokens, case.d_qk) for name in "qk"} | {"v": self._random(tokens, case.d_v)}
        self.cotangent = self._random(tokens, case.d_v)
        gaps_ms = torch.exp(torch.rand(tokens, generator=self.generator, dtype=torch.float64) * 18).long()
        self.ts_ms = 1_700_000_000_000 + gaps_ms.cumsum(0)
        self.asked_ms = next_ms(self.ts_ms, self.offsets, num_targets=self.targets)
        self.bias = self._bias(bias) if bias in BIASES else None
        self.alpha = case.d_qk**-0.5

    def reference(self, *, signed: bool = False) -> dict[str, Tensor]:
        """Return the outputs and gradients of the loops, by name; `signed` draws the sign of each row's cotangent."""
        rows = torch.randint(0, 2, (len(self.cotangent), 1, 1), generator=torch.Generator().manual_seed(0))
        cotangent = self.cotangent * (2 * rows - 1) if signed else self.cotangent
        leaves = {name: leaf.clone().requires_grad_() for name, leaf in self.leaves.items()}
        dense = None if self.bias is None else dense_bias(self.bias, self, _MAX_LEN)
        options: dict[str, Any] = {"max_len": _MAX_LEN, "alpha": self.alpha, "activation": self.case.activation}
        options |= {"num_targets": self.targets, "window": self.shape.window}
        q, k, v = leaves.values()
        out = reference(q, k, v, self.offsets, **options, bias=dense)
        return _with_gradients({"output": out}, [cotangent], leaves, self.bias)

    def fused(self) -> dict[str, Tensor]:
        """Return those of the kernels, on the case's device."""
        device, dtype = self.case.device, self.case.dtype
        leaves = {name: leaf.to(device, dtype).requires_grad_() for name, leaf in self.leaves.items()}
        bias = None
        if self.bias is not None:
            bias = type(self.bias)(_MAX_LEN, dtype=torch.float32, generator=torch.Generator())
            bias.load_state_dict(self.bias.state_dict())
            bias.to(device)
        batch = fused_batch(
            self.offsets.to(device),
            max_len=_MAX_LEN,
            tokens=len(self.ts_ms),
            num_targets=None if self.targets is None else self.targets.to(device),
            window=self.shape.window,
            clock=clock_of(self.ts_ms, self.asked_ms).to(device),
        )
        q, k, v = leaves.values()
        out = attend_fused(q, k, v, batch, self.alpha, self.case.activation, bias_terms(bias))
        return _with_gradients({"output": out}, [self.cotangent.to(device, dtype)], leaves, bias)

    def _random(self, tokens: int, width: int) -> Tensor:
        numbers = torch.randn(tokens, _HEADS, width, generator=self.generator, dtype=torch.float64)
        return numbers.to(self.case.dtype).double()

    def _bias(self, name: str) -> RelativeBias | FunctionalBias:
        bias = BIASES[name](_MAX_LEN, dtype=torch.float64, generator=self.generator)
        with torch.no_grad():
            for parameter in bias.parameters():  # exact in float32; as large as scores, so an error shows
                parameter.add_(torch.randn(parameter.shape, generator=self.generator) * 0.5)
                parameter.copy_(parameter.float())
        return bias


class GateProblem:
    """The operations of gate.py on random rows; every other row is so small that epsilon matters."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.widths = [case.heads * d for d in (case.d_v, case.d_v, case.d_qk, case.d_qk)]
        self.where = f"rows of {self.widths[0]}"
        generator = torch.Generator().manual_seed(0)
        widths = (sum(self.widths), self.widths[0], *self.widths)
        z, o, d_y, *others = (torch.randn(_ROWS, width, generator=generator) for width in widths)
        z += 1
        o += 1
        d_y += o  # gives a mean gradient, and one along o, that are large enough to matter
        for x in (o, d_y):  # both, so that o's gradient is of one size in all rows
            x[::2] *= _EPS**0.5
        z, o, *self.cotangents = (x.to(case.dtype).double() for x in (z, o, d_y, *others))
        self.leaves = {"z": z, "o": o}

    def reference(self) -> dict[str, Tensor]:
        """Return the outputs and gradients of plain PyTorch, by name."""
        z, o = leaves = [leaf.clone().requires_grad_() for leaf in self.leaves.values()]
        u, *others = silu(z).split_with_sizes(self.widths, -1)
        return self._found([u * layer_norm(o, o.shape[-1:], eps=_EPS), *others], leaves)

    def fused(self) -> dict[str, Tensor]:
        """Return those of the kernels, on the case's device."""
        z, o = leaves = [leaf.to(self.case.device, self.case.dtype).requires_grad_() for leaf in self.leaves.values()]
        u, *others = silu_parts(z, self.widths)
        return self._found([norm_gate(u, o, _EPS), *others], leaves)

    def _found(self, outputs: list[Tensor], leaves: list[Tensor]) -> dict[str, Tensor]:
        named = dict(zip(("gated output", "part v", "part q", "part k"), outputs, strict=True))
        cotangents = [x.to(outputs[0].device, outputs[0].dtype) for x in self.cotangents]
        return _with_gradients(named, cotangents, dict(zip(self.leaves, leaves, strict=True)), None)


def dense_bias(bias: RelativeBias | FunctionalBias, problem: CheckProblem, max_len: int) -> Tensor:
    """Return a bias as a tensor [B, N, N], differentiable."""
    lengths = problem.shape.lengths
    longest = max(lengths, default=0)
    dense = []
    for b, length in enumerate(lengths):
        tokens = slice(int(problem.offsets[b]), int(problem.offsets[b + 1]))
        index = torch.arange(length)
        history = length - (problem.shape.targets[b] if problem.shape.targets else 0)
        steps = place(index[None, :], history) - place(index[:, None], history) + max_len - 1
        ts_s, asked_s = problem.ts_ms[tokens].double() / 1000, problem.asked_ms[tokens].double() / 1000
        block = bias(steps[None].clamp(min=0), bias.measure(asked_s[None, :, None], ts_s[None, None, :]))
        dense.append(torch.nn.functional.pad(block[0], (0, longest - length, 0, longest - length)))
    return torch.stack(dense)


def _with_gradients(
    outputs: dict[str, Tensor], cotangents: Sequence[Tensor], leaves: dict[str, Tensor], bias: torch.nn.Module | None
) -> dict[str, Tensor]:
    wanted = leaves | (dict(bias.named_parameters()) if bias else {})
    gradients = torch.autograd.grad(list(outputs.values()), list(wanted.values()), cotangents)
    found = {**outputs, **{f"gradient of {name}": g for name, g in zip(wanted, gradients, strict=True)}}
    return {name: tensor.detach().cpu().double() for name, tensor in found.items()}


def _compare(problem: CheckProblem | GateProblem) -> None:
    for name, error, numbers in errors(problem):
        allowed = _tolerance(problem.case.dtype) * (1 if numbers > 1 else _LONE)
        if not error <= allowed:
            raise ModelError(
                f"the {name} is off by {error:.1e} of its largest number, more than {allowed:.0e} ({problem.where})"
            )


def errors(problem: CheckProblem | GateProblem) -> Iterator[tuple[str, float, int]]:
    """Yield each result's name, its largest error relative to its largest number, and how many numbers it has.

    In a result of one number the rows may cancel by chance, so it counts as large as with other signs of the rows.
    """
    wanted, found = problem.reference(), problem.fused()
    lone = [name for name, exact in wanted.items() if exact.numel() == 1]
    others = problem.reference(signed=True) if lone and isinstance(problem, CheckProblem) else {}
    for name, exact in wanted.items():
        size = max(x[name].abs().max().item() for x in (wanted, others) if name in x)
        yield name, ((found[name] - exact).abs().max().item() / max(size, _TINY)), exact.numel()


def _tolerance(dtype: torch.dtype) -> float:
    if dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        return _TF32
    return _TOLERANCES[dtype]
