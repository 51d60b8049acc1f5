"""Compiles the kernels for an H100 on a machine without one:

    python tests/model/attention/triton/ahead.py bfloat16 64 silu bucketed [heads]

A batch runs forward and backward as on a GPU, with a driver that pretends to be one and launches nothing; so arguments
are bound and kernels compiled as on a GPU. Prints for each kernel, with its fixed block sizes: the shared memory, the
registers of a thread, the bytes spilled, and the instruction of its products; first without a window, as in an encoder,
then with one; last the kernels of gate.py for rows of `heads` heads (8). Fails if a kernel does not fit.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from model.attention.triton import gate, launch
from model.attention.triton.block_sizes import fixed
from model.attention.triton.self_check import Case, CheckProblem, GateProblem, Shape

SHARED = 227 << 10  # bytes that a program may take


class H100:
    """The part of a driver that Triton needs before it launches."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, _: int) -> int:
        return 0


def compile_only(kernel: Any, grid: Any, arguments: dict[str, Any], _: bool) -> None:
    """Stand in for launch._launch: compile, do not launch."""
    arguments = {name: arguments[name] for name in kernel.arg_names if name in arguments}
    config = fixed(kernel.__name__, arguments)
    options = {**config.blocks, "num_warps": config.warps, "num_stages": config.stages}
    report(kernel, kernel.run(**arguments, **options, grid=grid, warmup=True), options)


def compile_gate(kernel: Any, x: torch.Tensor, width: int, arguments: dict[str, Any]) -> None:
    """Stand in for gate._launch: compile, do not launch."""
    options = gate.tile(width)
    report(kernel, kernel.run(**arguments, **options, tokens=len(x), grid=(1,), warmup=True), options)


def report(kernel: Any, done: Any, options: dict[str, int]) -> None:
    """Print the resources of a kernel; fail if it needs more than there are."""
    ptx: str = done.asm["ptx"]
    unit = "wgmma" if "wgmma" in ptx else "mma" if "mma.sync" in ptx else "fma"
    print(kernel.__name__, options, f"shared {done.metadata.shared}", assembled(ptx), unit, flush=True)
    assert done.metadata.shared <= SHARED, kernel.__name__


def assembled(ptx: str) -> dict[str, int]:
    """Return the registers and spilled bytes that the assembler reports."""
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        command = [str(assembler), "-v", "--gpu-name=sm_90a", str(file), "-o", str(file.with_suffix(".cubin"))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    patterns = {"registers": r"Used (\d+) registers", "spilled": r"(\d+) bytes spill stores"}
    return {name: int(re.findall(pattern, said)[0]) for name, pattern in patterns.items()}


def main(
    dtype: str = "bfloat16", width: str = "64", activation: str = "silu", bias: str = "bucketed", heads: str = "8"
) -> None:
    """Compile all kernels of one kind."""
    driver.set_active(H100())
    launch._launch, gate._launch = compile_only, compile_gate
    case = Case(torch.device("cpu"), getattr(torch, dtype), int(width), int(width), activation, bias, int(heads))
    for window in (0, 3):
        print(f"window {window}")
        CheckProblem(Shape((5, 0, 3), (2, 0, 1), window), case, bias, seed=0).fused()
    print("around the attention")
    GateProblem(case).fused()


if __name__ == "__main__":
    main(*sys.argv[1:])
