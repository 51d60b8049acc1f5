import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from model.attention.cpu import encode
from model.attention.relative_bias import log_gaps, time_buckets
from tests.model.attention.attention_cases import offsets_of


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=40), st.integers(1, 2))
@settings(deadline=None)
def test_time_buckets_are_the_plain_ones_to_the_bit(gaps_ms: list[int], unit: int) -> None:
    """For any gap, and at the edges of buckets: no pair falls into a neighbouring bucket."""
    edges = [int(np.exp(0.301 * bucket) * 1000) + step for bucket in (1, 17, 40, 60) for step in (-1, 0, 1)]
    ts_ms = torch.tensor([*edges, *gaps_ms]).cumsum(0) * unit
    offsets, asked_ms = offsets_of([len(ts_ms)]), ts_ms.flip(0).contiguous()
    batch = encode.compiled_batch(offsets, max_len=60, tokens=len(ts_ms), activation="silu")
    buckets = encode.with_times(batch, ts_ms, asked_ms, "bucketed").shares[0].buckets
    wanted = time_buckets(asked_ms[:, None].double() / 1000, ts_ms.double() / 1000)
    assert buckets.tolist() == wanted[torch.ones_like(wanted).tril().bool()].tolist()
    logs = encode.with_times(batch, ts_ms, asked_ms, "functional").shares[0].log_gaps[0]
    wanted = log_gaps(asked_ms[:, None].double() / 1000, ts_ms.double() / 1000)
    assert np.allclose(logs, wanted[torch.ones_like(wanted).tril().bool()].numpy(), atol=1e-5)
