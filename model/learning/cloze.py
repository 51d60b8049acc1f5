"""Hidden targets of replayed examples, after BERT4Rec's Cloze: which are hidden, and what is read around them.

P = retrieval targets, c = hidden ones, L tokens of a micro-batch, m = those that are read, B examples.

Of an example that is replayed, HIDDEN of the retrieval targets are hidden at random, one at least, the last one if
chance takes none; only targets whose item has a row. What is read around them is

    the tokens up to the example's first query     the history that was there before anything of it was asked
    the tokens of its retrieval targets            each has been tested, and then trained on

in their order. All else after the first query is left out: the reaction to a shown item would give it away, and a click
whose label is not final yet has not been tested, so no loss may use it from its right side.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.data.entity_index import RowBatch

HIDDEN: Final = 0.2  # of the targets, the paper's share for MovieLens


class Cloze(NamedTuple):
    """What is read of a micro-batch with hidden targets."""

    hidden: NDArray[np.intp]  # [c] among the P retrieval targets, ascending
    read: NDArray[np.intp]  # [m] the tokens that are read
    offsets: NDArray[np.int64]  # [B+1] where each example's are among these
    places_m: NDArray[np.int64]  # of each in its sequence
    hidden_m: NDArray[np.bool_]


def hide(batch: RowBatch, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which retrieval targets of a micro-batch are hidden, [P]."""
    drawn_P = rng.random(len(batch.targets.positive)) < HIDDEN
    known = np.flatnonzero(batch.positives() >= 0)
    owner_k = batch.tokens.owners[batch.targets.positive[known]]
    hidden_k, last_k = drawn_P[known], np.diff(owner_k, append=-1) != 0
    hidden_k |= last_k & ~np.isin(owner_k, owner_k[hidden_k])
    hidden_P = np.zeros(len(drawn_P), np.bool_)
    hidden_P[known] = hidden_k
    return hidden_P


def cloze_of(batch: RowBatch, hidden_P: NDArray[np.bool_]) -> Cloze:
    """Return what is read of a micro-batch in which these targets are hidden."""
    tokens, targets = batch.tokens, batch.targets.positive
    before_B = np.full(len(tokens.users), len(tokens.keys))
    np.minimum.at(before_B, tokens.owners[targets], tokens.queries[targets])
    read_L = np.arange(len(tokens.keys)) <= np.repeat(before_B, np.diff(tokens.offsets))
    hidden_L = np.zeros_like(read_L)
    read_L[tokens.positions[targets]] = True
    hidden_L[tokens.positions[targets[hidden_P]]] = True
    before: NDArray[np.int64] = np.concatenate((np.zeros(1, np.int64), np.cumsum(read_L)))
    read, offsets = np.flatnonzero(read_L), before[tokens.offsets]
    places_m = np.arange(len(read)) - np.repeat(offsets[:-1], np.diff(offsets))
    return Cloze(np.flatnonzero(hidden_P), read, offsets, places_m, hidden_L[read])
