import importlib.util

import pytest
import torch
from hypothesis import given, strategies as st

from model.attention.activations import ACTIVATIONS
from model.attention.relative_bias import BIASES
from model.attention.triton import batch
from model.attention.triton.batch import clock_of, fused_batch, kernels_exist, tuned
from model.errors import ModelError
from tests.model.attention.attention_cases import offsets_of


@pytest.mark.parametrize(
    ("device", "dtype", "width"),
    [("cpu", torch.float32, 32), ("cuda", torch.float64, 32), ("cuda", torch.float32, 129)],
)
def test_there_are_no_kernels_for_a_cpu_for_float64_and_for_wide_heads(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: torch.dtype, width: int
) -> None:
    """A head's row has at most 512 bytes."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not kernels_exist(torch.device(device), dtype, width, activation="silu", bias="none")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_there_are_kernels_only_for_the_names_that_they_serve() -> None:
    """Every name served exists; an activation or a bias that was added without kernels takes the plain path."""
    cuda = torch.device("cuda")
    assert set(batch.ACTIVATIONS) <= set(ACTIVATIONS)
    assert set(batch.BIASES) <= {"none", *BIASES}
    assert kernels_exist(cuda, torch.bfloat16, 256, activation="softmax", bias="functional")
    assert not kernels_exist(cuda, torch.bfloat16, 256, activation="relu", bias="functional")
    assert not kernels_exist(cuda, torch.bfloat16, 256, activation="softmax", bias="by weekday")


@given(st.lists(st.integers(0, 2**46 - 1), min_size=1, max_size=9))
def test_a_clock_holds_milliseconds_exactly(times_ms: list[int]) -> None:
    """High and low parts of both times, recombined, are the times."""
    ts_ms = torch.tensor(times_ms)
    clock = clock_of(ts_ms, ts_ms.flip(0)).double()
    assert (clock[0] * 2**22 + clock[1]).tolist() == times_ms[::-1]
    assert (clock[2] * 2**22 + clock[3]).tolist() == times_ms


def test_a_batch_counts_candidates_and_is_tuned_only_inside_the_context() -> None:
    """`longest` is the longest sequence with its candidates; nested contexts end one by one."""
    offsets, targets = offsets_of([3, 0, 8]), torch.tensor([0, 0, 5])
    shape = {"max_len": 8, "tokens": 11, "num_targets": targets}
    with tuned():
        with tuned():
            pass
        inside = fused_batch(offsets, **shape)
    assert (inside.longest, inside.tuned) == (8, True)
    assert not fused_batch(offsets, **shape).tuned


def test_a_sequence_that_is_too_long_is_refused_as_everywhere() -> None:
    """The sentence is that of the plain path."""
    with pytest.raises(ModelError, match=r"Sequence 0 has 9 tokens .*more than max_len 8"):
        fused_batch(offsets_of([9]), max_len=8, tokens=9)
