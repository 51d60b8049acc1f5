"""Block sizes, warps and stages of the Triton kernels: one fixed choice per width, and the choices for autotuning.

The choices are for Hopper (228 KiB of shared memory a multiprocessor), computed from the size of the tiles. A kernel
holds two operands of its own rows (q and dO, or k and v) and streams two more, `stages` deep.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from model.attention.triton.batch import interpreted

_FITTING: Final = 200 << 10  # bytes that the operands of a tile may take
_COMFORTABLE: Final = 100 << 10  # the same for the fixed choice: the rest of a tile must stay in registers
_STREAMED: Final = 128 << 10  # the same for pair_slopes, which keeps no operand
_PROGRAMS: Final = 1024  # of the sums of a bias: several waves on 132 multiprocessors


@dataclass(frozen=True, slots=True)
class Config:
    """One choice of block sizes."""

    m: int
    n: int
    warps: int
    stages: int

    @property
    def blocks(self) -> dict[str, int]:
        """Return the block sizes by the names of the kernel's arguments."""
        return {"BLOCK_M": self.m, "BLOCK_N": self.n}


_ROWS: Final = (  # m own rows, n streamed keys
    Config(64, 32, 4, 3),
    Config(128, 32, 8, 2),
    Config(64, 32, 4, 1),
    Config(128, 64, 4, 3),
    Config(128, 64, 8, 3),
    Config(64, 64, 4, 3),
    Config(32, 32, 4, 1),
)
_CHOICES: Final = {  # the first comfortable one is the fixed choice; the order is that of times on an H100
    "attention": _ROWS,
    "query_gradients": _ROWS,
    "key_gradients": (  # n own keys, m streamed rows
        Config(64, 64, 4, 2),
        Config(32, 64, 4, 2),
        Config(32, 64, 4, 1),
        Config(64, 128, 8, 2),
        Config(32, 128, 8, 1),
        Config(32, 32, 4, 1),
    ),
}
_PAIRS: Final = Config(32, 64, 4, 1)  # of the kernels of a bias without products
_SLOPES: Final = (Config(64, 64, 4, 3), Config(64, 64, 4, 2), Config(64, 64, 4, 1), Config(32, 32, 4, 1))
_INTERPRETED: Final = Config(16, 16, 4, 1)


def fixed(kernel: str, arguments: dict[str, Any]) -> Config:
    """Return the fixed choice: the same in every run."""
    return configs(kernel, arguments)[0]


def configs(kernel: str, arguments: dict[str, Any]) -> tuple[Config, ...]:
    """Return the choices that fit, the fixed one first."""
    return _configs(kernel, _row_bytes(arguments) if "P_QK" in arguments else 0, interpreted())


@cache
def _configs(kernel: str, row_bytes: int, interpreted: bool) -> tuple[Config, ...]:
    if interpreted:
        return (_INTERPRETED,)
    if kernel in ("pair_bias", "place_sums"):
        return (_PAIRS,)
    if kernel == "pair_slopes":  # all four operands are streamed; not tuned, since its sums are kept by tile
        fitting = (c for c in _SLOPES if row_bytes * (c.m + c.n) * c.stages <= _STREAMED)
        return (next(fitting, _SLOPES[-1]),)
    choices = _CHOICES[kernel]
    bytes_of = {choice: row_bytes * _operands(kernel, choice) for choice in choices}
    comfortable = [choice for choice in choices if bytes_of[choice] <= _COMFORTABLE]
    first = comfortable[0] if comfortable else choices[-1]
    others = [choice for choice in choices if bytes_of[choice] <= _FITTING and choice is not first]
    return (first, *others)


def shares_of(blocks: int) -> int:
    """Return the number of programs that share the rows of one block of distances."""
    return max(1, (4 if interpreted() else _PROGRAMS) // blocks)


def _row_bytes(arguments: dict[str, Any]) -> int:
    """Return the bytes of two operands' rows; float32 counts twice, since it is multiplied in two parts."""
    width: int = arguments["P_QK"] + arguments["P_V"]
    size: int = arguments["Q"].element_size()
    return width * (2 * size if size == 4 else size)


def _operands(kernel: str, config: Config) -> int:
    """Return the rows of two operands that a program holds at once."""
    own, streamed = (config.n, config.m) if kernel == "key_gradients" else (config.m, config.n)
    weight = 2 if kernel == "key_gradients" else 1  # two accumulators as wide as the operands
    return weight * own + streamed * config.stages
