"""The fused kernels on one GPU: against SDPA, against a product of matrices, in training steps. Stages:

    layers          an HSTU layer (no bias, the paper's, the functional one) beside a pre-norm Transformer layer of the
                    same width with scaled_dot_product_attention and a feed-forward block of 4 D; and the attention of
                    each alone, on equal shapes. SDPA by flash attention and by cuDNN's: the faster one is compared.
                    Also the plain path of the HSTU layer, if it needs at most about a GiB
    training        gather, encode, both losses, backward, AdamW of weights and rows (model/learning/forward_pass.py)
    at the paper's ranking size (3 layers, 2048 tokens, width 512) and retrieval size (6, 512, 256): plain and fused
    deterministic   the same steps, fused, with deterministic algorithms only, as in the learner
    learner         the whole learner on the GPU and on the CPU: close losses, the same bits again, examples/s
    tuned           layers again with block sizes found by measurement, and the list of these

python bench/gpu.py, or bench/gpu.sh, which tests first. Each stage is a process, and each row is written to the file as
soon as it is measured (gpu_rows.py), so a kernel that fails costs only its row. `--tiny` runs the same code in minutes
on a CPU with interpreted kernels: its times mean nothing. Rows that do not fit into --seconds are left out and named.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
import triton
from gpu_layers import layer_rows
from gpu_rows import DEVICE, SIZES, TINY, Rows, failures, write

from model.attention.relative_bias import BIASES
from model.attention.triton import self_check
from model.attention.triton.batch import tuned
from model.attention.triton.self_check import Case

if TINY:
    self_check.SHAPES[:] = [self_check.Shape((9, 0, 1), None, 0)]


def layers(rows: Rows) -> None:
    layer_rows(rows, SIZES, SIZES.lengths, ("none", *BIASES))


def training(rows: Rows) -> None:
    from gpu_training import training_rows

    training_rows(rows, SIZES, (("fused", "bf16"), ("plain", "bf16"), ("fused", "fp32"), ("plain", "fp32")))


def deterministic(rows: Rows) -> None:
    from gpu_training import training_rows

    from model.optim.parameters import make_deterministic

    make_deterministic(torch.get_num_threads())
    training_rows(rows, SIZES, (("fused", "bf16"), ("fused", "fp32")))


def learner(rows: Rows) -> None:
    from gpu_learner import learner_rows

    learner_rows(rows)


def tuned_layers(rows: Rows) -> None:
    with tuned():
        layer_rows(rows, SIZES, SIZES.tuned, ("none", "bucketed"), limit_s=150)
        rows.row("choices", choices)
        for bias in ("none", "bucketed"):
            rows.row(f"check, {bias}", lambda bias=bias: check(bias), limit_s=150)


def choices() -> dict[str, str]:
    """Return the block sizes that were measured to be the fastest."""
    from model.attention.triton import launch

    found = {}
    for (kernel, _), tuner in launch._tuned.items():
        for key, config in tuner.cache.items():
            name = f"{kernel.__name__} {key[: len(launch._KEY)]}"
            found[name] = str(config)
            print(f"{name}: {config}", flush=True)
    return found


def check(bias: str) -> dict[str, Any]:
    """Run the check of first use with the block sizes that are the fastest for its shapes."""
    d = SIZES.dim // SIZES.heads
    self_check.check(Case(DEVICE, torch.bfloat16, d, d, "silu", bias, SIZES.heads))
    print(f"tuned, bias {bias}: the check of first use passes")
    return {"passed": True}


STAGES: Final[dict[str, Callable[[Rows], None]]] = {
    "layers": layers,
    "training": training,
    "deterministic": deterministic,
    "learner": learner,
    "tuned": tuned_layers,
}


def begin(folder: Path) -> Path:
    """Begin the file with the device and the versions; return its path."""
    name = platform.machine() if TINY else torch.cuda.get_device_name()
    head = {"device": name, "torch": torch.__version__, "triton": triton.__version__, "date": time.strftime("%Y-%m-%d")}
    print(head, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu_{name.replace(' ', '-').lower()}_{head['date']}.json"
    write(path, head)
    return path


def drive(stage: str, path: Path, until: float) -> None:
    """Run a stage until all its rows are in the file; after a row that ended the process, go on in a new one."""
    print(f"\n== {stage}", flush=True)
    rows = Rows(path, stage, until)
    arguments = [*sys.argv[1:], "--stage", stage, "--into", str(path), "--until", str(until)]
    while time.time() < until:
        before = len(rows.there())
        try:
            command = [sys.executable, __file__, *arguments]
            code = subprocess.run(command, check=False, timeout=until + 5 - time.time()).returncode
        except subprocess.TimeoutExpired:
            code = 0  # the row says that it did not end
        if code == 0:
            return
        print(f"{stage}: its process ended with {code}.", flush=True)
        if len(rows.there()) == before:
            rows.row("process", lambda code=code: {"error": f"it ended with {code} and measured nothing"})
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small shapes on a CPU, kernels interpreted")
    parser.add_argument("--seconds", type=float, default=420.0, help="end after this time")
    parser.add_argument("--save", type=Path, help="folder of the JSON file (bench/results; none if tiny)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="these, in this order (all)")
    for hidden in ("--stage", "--into", "--until"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.stage:
        STAGES[given.stage](Rows(Path(given.into), given.stage, float(given.until)))
        return
    if not TINY and not torch.cuda.is_available():
        sys.exit("bench/gpu.py wants a CUDA device and finds none; --tiny shows on a CPU that it runs.")
    until = time.time() + given.seconds
    with tempfile.TemporaryDirectory() as nowhere:
        path = begin(given.save or Path(nowhere if TINY else Path(__file__).parent / "results"))
        for stage in given.stages:
            drive(stage, path, until)
        failed = list(failures(json.loads(path.read_text())))
    for name, error in failed:
        print(f"failed: {name}: {error}")
    if path.exists():
        print(f"written: {path}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
