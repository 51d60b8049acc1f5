"""Shared by the tests of the kernels: the device, the marks, and how good a result must be.

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
    """End a worker of several if a kernel has made the device unusable for it; a new worker goes on."""
    yield
    if DEVICE.type == "cuda" and "PYTEST_XDIST_WORKER" in os.environ:
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)


ROOM = 1e-6 if interpreted() else 1e-5  # of the largest number, where plain PyTorch is exact; float32 is 3 x TF32


def assert_as_good(ours: list[Tensor], theirs: list[Tensor], exact: list[Tensor], times: float = 2) -> None:
    """Assert that our errors are at most twice those of plain PyTorch in the same dtype.

    If plain PyTorch is exact, the error is compared with the largest result: a result itself may be a sum in which much
    cancels, or zero, like a softmax's gradients if each row sees one key.
    """
    size = max((right.abs().max().item() for right in exact if right.numel()), default=0.0)
    for our, their, right in zip(ours, theirs, exact, strict=True):
        errors = [(x.double() - right).abs().max().item() if right.numel() else 0.0 for x in (our, their)]
        assert errors[0] <= times * errors[1] + ROOM * size, errors


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
