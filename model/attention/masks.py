"""Which row of a sequence sees which key: one rule, for index tensors of any shape.

A sequence is its history followed by candidates (num_targets of them, often none). Index i counts all of its tokens.
All candidates have the same place, the end of the history.
"""

import torch
from torch import Tensor


def place(index: Tensor, history: int | Tensor) -> Tensor:
    """Return the place of a token; candidates all stand at the end of the history."""
    return index.clamp(max=history)


def sees(rows: Tensor, keys: Tensor, history: int, window: int) -> Tensor:
    """Return which row sees which key, [broadcast of rows and keys], bool.

    A row sees itself and the history before it, never another candidate; with a window W > 0 it sees no key more than W
    places before it.
    """
    seen = (keys <= rows) & ((keys < history) | (keys == rows))
    if window:
        seen = seen & (place(rows, history) - place(keys, history) <= window)
    return seen


def row_places(offsets: Tensor, tokens: int, num_targets: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each token's place in its sequence and whether it is a candidate, both [L].

    Args:
        offsets: Where the sequences begin and end, i64[B+1].
        tokens: L, given so that it need not be read back from a GPU.
        num_targets: Number of candidates at the end of each sequence, i64[B], or None.
    """
    lengths = offsets.diff()
    index = torch.arange(tokens, device=offsets.device)
    starts = torch.repeat_interleave(offsets[:-1], lengths, output_size=tokens)
    index = index - starts
    if num_targets is None:
        return index, torch.zeros_like(index, dtype=torch.bool)
    history = torch.repeat_interleave(lengths - num_targets, lengths, output_size=tokens)
    return torch.minimum(index, history), index >= history
