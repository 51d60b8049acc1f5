"""Functions that the kernels share, run in a kernel for the test."""

import torch

from model.attention.bias_terms import lowest_gaps_ms
from model.attention.relative_bias import time_buckets
from tests.model.attention.triton.triton_cases import DEVICE, ROOM, _living_device, assert_as_good, pytestmark, rng  # noqa: F401


def test_time_buckets_are_those_of_the_bias_at_every_edge() -> None:
    """At each edge, one millisecond below it, and for any gap: exact if float32 holds the gap, else up to rounding."""
    from tests.model.attention.triton.bucket_kernel import bucket_kernel

    edges = lowest_gaps_ms(torch.device("cpu"))[1:110].long()
    gaps = torch.cat((edges, edges - 1, torch.exp(torch.rand(1024 - 218, generator=rng(0)) * 40).long()))
    out = torch.empty(1024, dtype=torch.int32, device=DEVICE)
    bucket_kernel[1,](out, gaps.float().to(DEVICE), lowest_gaps_ms(DEVICE), COUNT=1024)
    wanted = time_buckets(gaps.double() / 1000, torch.zeros(1, dtype=torch.float64))
    exact = gaps < 2**24
    assert torch.equal(out.cpu()[exact], wanted[exact])
    assert ((out.cpu() - wanted).abs() <= (gaps + 1 >= edges[wanted.clamp(max=108).long()] * (1 - 1e-6))).all()
