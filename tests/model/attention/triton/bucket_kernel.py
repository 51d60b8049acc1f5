"""A kernel that computes time buckets only. Importing this file imports Triton."""

import triton
import triton.language as tl

from model.attention.triton.tile_ops import buckets


@triton.jit
def bucket_kernel(Out, Gaps, Edges, COUNT: tl.constexpr):
    """Write the bucket of each gap."""
    at = tl.arange(0, COUNT)
    tl.store(Out + at, buckets(tl.load(Gaps + at), Edges))
