import torch

from model.attention.bias_terms import lowest_gaps_ms
from model.attention.relative_bias import BUCKETS, time_buckets

CPU = torch.device("cpu")


def test_the_lowest_gap_of_a_bucket_is_where_it_begins() -> None:
    """Below float32's exact integers, one millisecond less is the bucket before."""
    edges = lowest_gaps_ms(CPU)
    zero = torch.zeros(1, dtype=torch.float64)
    exact = edges[(edges > 0) & (edges < 2**24)].double()
    assert time_buckets(exact / 1000, zero).tolist() == list(range(1, len(exact) + 1))
    assert time_buckets((exact - 1) / 1000, zero).tolist() == list(range(len(exact)))
    assert len(edges) == BUCKETS + 1
    assert (edges.diff()[edges[1:].isfinite()] > 0).all()
