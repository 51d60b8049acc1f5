"""What the tests of the kernels share: the device, which of them run where, and how good a result must be.

They run on a GPU, or on the CPU under TRITON_INTERPRET=1 (test_dispatch.py).
"""

import os
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from model.attention.triton.batch import interpreted

DEVICE = torch.device("cuda" if torch.cuda.is_available() and not interpreted() else "cpu")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.type == "cpu" and not interpreted(), reason="no GPU; test_dispatch.py runs these interpreted"
    ),
]


@pytest.fixture(autouse=True)
def _living_device() -> Iterator[None]:
    """Let one of several workers end where a kernel has made the device unusable for it: a new one goes on."""
    yield
    if DEVICE.type == "cuda" and "PYTEST_XDIST_WORKER" in os.environ:
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)


ROOM = 1e-6 if interpreted() else 1e-5  # of the largest number, where plain PyTorch is exact; float32 is 3 x TF32


def assert_as_good(ours: list[Tensor], theirs: list[Tensor], exact: list[Tensor], times: float = 2) -> None:
    """Assert that our errors are at most twice those of plain PyTorch in the same dtype.

    Where plain PyTorch is exact, the size of the largest result is the measure: a result's own may be a sum in which
    much cancels, or zero, as a softmax's gradients are where each row sees one key.
    """
    size = max((right.abs().max().item() for right in exact if right.numel()), default=0.0)
    for our, their, right in zip(ours, theirs, exact, strict=True):
        errors = [(x.double() - right).abs().max().item() if right.numel() else 0.0 for x in (our, their)]
        assert errors[0] <= times * errors[1] + ROOM * size, errors


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
