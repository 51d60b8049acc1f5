"""Block sizes, warps and stages of the Triton kernels: one fixed choice per width, and the choices for autotuning.

The choices are for Hopper (228 KiB of shared memory a multiprocessor), computed from the size of the tiles. A kernel
holds two operands of its own rows (q and dO, or k and v) and streams two more, `stages` deep.
"""

from dataclasses import dataclass
from typing import Any, Final

from model.attention.triton.batch import interpreted

_FITTING: Final = 200 << 10  # bytes that the operands of a tile may take
_COMFORTABLE: Final = 100 << 10  # the same for the fixed choice: the rest of a tile must stay in registers
_PROGRAMS: Final = 1024  # of the sums of a bias: several waves on 132 multiprocessors


@dataclass(frozen=True, slots=True)
class Config:
    """One choice of block sizes; a square kernel has one block size, which is an argument already."""

    m: int
    n: int
    warps: int
    stages: int
    square: bool = False

    @property
    def blocks(self) -> dict[str, int]:
        """Return the block sizes by the names of the kernel's arguments."""
        return {} if self.square else {"BLOCK_M": self.m, "BLOCK_N": self.n}


_ROWS: Final = (  # m own rows, n streamed keys; the first comfortable one is the fixed choice
    Config(128, 64, 8, 2),
    Config(64, 64, 8, 2),
    Config(64, 32, 8, 1),
    Config(128, 64, 8, 3),
    Config(128, 128, 8, 2),
    Config(64, 64, 4, 2),
    Config(64, 64, 4, 3),
    Config(128, 32, 4, 3),
    Config(64, 32, 4, 2),
    Config(32, 32, 8, 1),
)
_KEYS: Final = (  # n own keys, m streamed rows
    Config(64, 64, 8, 2),
    Config(32, 64, 8, 2),
    Config(32, 32, 8, 1),
    Config(64, 128, 8, 2),
    Config(64, 64, 4, 2),
    Config(32, 128, 8, 2),
    Config(32, 64, 4, 2),
    Config(32, 32, 4, 1),
)
_INTERPRETED: Final = Config(16, 16, 4, 1)


def fixed(kernel: str, arguments: dict[str, Any]) -> Config:
    """Return the fixed choice: the same in every run."""
    return configs(kernel, arguments)[0]


def configs(kernel: str, arguments: dict[str, Any]) -> tuple[Config, ...]:
    """Return the choices that fit, the fixed one first."""
    if kernel.endswith("_sums"):
        block = bias_block(arguments)
        return tuple(Config(block, block, warps, 1, square=True) for warps in (8, 4))
    if interpreted():
        return (_INTERPRETED,)
    choices = _KEYS if kernel == "key_gradients" else _ROWS
    bytes_of = {choice: _operands(kernel, choice, arguments) for choice in choices}
    comfortable = [choice for choice in choices if bytes_of[choice] <= _COMFORTABLE]
    first = comfortable[0] if comfortable else choices[-1]
    others = [choice for choice in choices if bytes_of[choice] <= _FITTING and choice is not first]
    return (first, *others)


def bias_block(arguments: dict[str, Any]) -> int:
    """Return the block size of the sums of a bias; their buffers depend on it, so it is not tuned."""
    if interpreted():
        return 16
    return 64 if _row_bytes(arguments) <= 512 else 32


def shares_of(blocks: int) -> int:
    """Return the number of programs that share the tiles of one block diagonal."""
    return max(1, (4 if interpreted() else _PROGRAMS) // blocks)


def _row_bytes(arguments: dict[str, Any]) -> int:
    """Return the bytes of two operands' rows; float32 counts twice, since it is multiplied in two parts."""
    width: int = arguments["P_QK"] + arguments["P_V"]
    size: int = arguments["Q"].element_size()
    return width * (2 * size if size == 4 else size)


def _operands(kernel: str, config: Config, arguments: dict[str, Any]) -> int:
    own, streamed = (config.n, config.m) if kernel == "key_gradients" else (config.m, config.n)
    weight = 2 if kernel == "key_gradients" else 1  # two accumulators as wide as the operands
    return _row_bytes(arguments) * (weight * own + streamed * config.stages)
