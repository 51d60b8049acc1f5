"""The attention of one sequence among others in the buffers, against PyTorch in float64."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn.functional import layer_norm, silu

from model.attention.cpu.bias import NONE, GapPairs
from model.attention.cpu.row_ops import ROWS, SILU, SILU_SEEN, SOFTMAX
from model.attention.cpu.sequence import (
    AttentionSpec,
    attend_sequence,
    attend_sequence_back,
    make_backward_buffers,
    make_buffers,
)

EPS, ALPHA, LONGEST = 1e-6, 0.5, 3 * ROWS + 5
BEFORE, AFTER, OWN = 5, 3, 2  # rows of other sequences in the buffers, and the first row in the batch
UNTOUCHED = 7.0
NO_PAIRS = GapPairs(np.empty(0, np.uint8), np.empty((1, 0), np.float32), *np.zeros((2, 1, 1), np.float32), 0)


@dataclass(frozen=True)
class Sequence:
    """A random sequence with the columns of silu(z): u, v, q, k of all heads."""

    n: int
    phi: int
    heads: int = 2
    d_qk: int = 5
    d_v: int = 6

    @property
    def spec(self) -> AttentionSpec:
        numbers = np.float32(ALPHA), np.float32(EPS)
        return AttentionSpec(NONE, self.phi, LONGEST, self.heads, self.d_qk, self.d_v, *numbers)

    @property
    def width(self) -> int:
        return self.heads * self.d_v

    def normal(self, columns: int, seed: int) -> Tensor:
        return torch.randn(self.n, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    @property
    def a(self) -> Tensor:
        return self.normal(2 * (self.width + self.heads * self.d_qk), 0)

    def attended(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and o by their formulas."""
        u, v, q, k = a.split([self.width, self.width, *[self.heads * self.d_qk] * 2], 1)
        v, q, k = (part.unflatten(1, (self.heads, -1)).transpose(0, 1) for part in (v, q, k))
        scores = ALPHA * q @ k.mT
        seen = torch.ones(self.n, self.n, dtype=torch.bool).tril()
        if self.phi == SOFTMAX:
            weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        else:
            divisor = torch.arange(1.0, self.n + 1)[:, None] if self.phi == SILU_SEEN else LONGEST
            weights = silu(scores).masked_fill(~seen, 0.0) / divisor
        o = (weights @ v).transpose(0, 1).flatten(1)
        return u * layer_norm(o, o.shape[1:], eps=EPS), o


sequences = st.builds(Sequence, st.integers(1, LONGEST), st.sampled_from([SILU, SILU_SEEN, SOFTMAX]))


def in_place(buffer: np.ndarray, sequence: Sequence, values: Tensor) -> None:
    """Write the sequence's rows, and something else in the rows of others."""
    buffer[:] = UNTOUCHED
    buffer[BEFORE : BEFORE + sequence.n, : values.shape[1]] = values


@given(sequences, st.booleans())
@settings(deadline=None, max_examples=30)  # the first one compiles
def test_y_is_gated_attention_and_other_sequences_stay_as_they_are(sequence: Sequence, keep: bool) -> None:
    """Of any number of blocks of rows; o is written to the tokens' rows only where a backward will need it."""
    buffers = make_buffers(BEFORE + sequence.n + AFTER, 4, sequence.spec)
    in_place(buffers.a, sequence, sequence.a)
    buffers.y[:] = UNTOUCHED
    o = np.full((OWN + sequence.n + AFTER, sequence.width), UNTOUCHED, np.float32)
    attend_sequence(o, int(keep), BEFORE, OWN, sequence.n, 0, NO_PAIRS, sequence.spec, buffers)
    y, attention = sequence.attended(sequence.a)
    mine = slice(BEFORE, BEFORE + sequence.n)
    assert np.allclose(buffers.y[mine, : sequence.width], y, rtol=1e-3, atol=1e-3)
    assert (buffers.y[:BEFORE] == UNTOUCHED).all()
    assert (buffers.y[mine.stop :] == UNTOUCHED).all()
    if keep:
        assert np.allclose(o[OWN : OWN + sequence.n], attention, atol=1e-5)
        o[OWN : OWN + sequence.n] = UNTOUCHED
    assert (o == UNTOUCHED).all()


@given(sequences)
@settings(deadline=None, max_examples=30)
def test_the_gradients_of_all_columns_are_those_of_the_formula(sequence: Sequence) -> None:
    """They are multiplied into what is there, the slopes of silu; y comes out again as in the forward."""
    a = sequence.a.requires_grad_()
    y, attention = sequence.attended(a)
    g_y, slopes = sequence.normal(sequence.width, 1), sequence.normal(a.shape[1], 2)
    (g_a,) = torch.autograd.grad((y * g_y).sum(), [a])
    buffers = make_backward_buffers(BEFORE + sequence.n + AFTER, 4, sequence.spec)
    for buffer, values in ((buffers.a, a.detach()), (buffers.g_y, g_y), (buffers.g_z, slopes)):
        in_place(buffer, sequence, values)
    o = np.full((OWN + sequence.n + AFTER, sequence.width), UNTOUCHED, np.float32)
    o[OWN : OWN + sequence.n] = attention.detach()
    places, tables = (BEFORE, OWN, sequence.n, 0), (np.zeros((1, 1), np.float32), np.zeros((1, 1, 1), np.float32))
    attend_sequence_back(o, *places, NO_PAIRS, *tables, sequence.spec, buffers)
    mine, wanted = slice(BEFORE, BEFORE + sequence.n), (g_a * slopes).numpy()
    assert np.allclose(buffers.y[mine, : sequence.width], y.detach(), rtol=1e-3, atol=1e-3)
    found = buffers.g_z[mine, : a.shape[1]]
    assert np.abs(found - wanted).max() <= 2e-3 * max(1.0, np.abs(wanted).max())
    assert (buffers.g_z[:BEFORE] == UNTOUCHED).all()
    assert (buffers.g_z[mine.stop :] == UNTOUCHED).all()


@pytest.mark.parametrize("phi", [SILU, SILU_SEEN, SOFTMAX])
def test_a_later_token_changes_nothing_before_it(phi: int) -> None:
    """To the bit, also within its own block of rows."""
    whole, bits = Sequence(ROWS + 9, phi), []
    for changed in (0.0, 3.0):
        buffers = make_buffers(whole.n, 4, whole.spec)
        buffers.a[: whole.n, : whole.a.shape[1]] = whole.a
        buffers.a[ROWS + 4] += changed
        attend_sequence(np.empty((0, 0), np.float32), 0, 0, 0, whole.n, 0, NO_PAIRS, whole.spec, buffers)
        bits.append(buffers.y[: whole.n, : whole.width].copy())
    assert np.array_equal(bits[0][: ROWS + 4], bits[1][: ROWS + 4])
    assert not np.array_equal(bits[0][ROWS + 4 :], bits[1][ROWS + 4 :])
