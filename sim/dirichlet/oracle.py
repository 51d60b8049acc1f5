"""The oracle of the Dirichlet stream: an upper bound that knows the generator, but not a record's hidden draws.

R = records, L = events of each. The oracle knows all of sim/dirichlet/stream.py: categories and weights of the items,
which of them are available, and the laws of slots, priors and alpha. Of a record it knows the events so far. It
computes every item's exact posterior probability of being the next (oracle_posterior.py) and ranks by it
(oracle_ranking.py), so that no recommender does better in expectation, however long it learns. There are two kinds of
figures: expected under the oracle's own probabilities (of less variance), and realised on the actual next item. If the
oracle is right, their means agree. Derivation, precision, figures: docs/oracle.md.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.dirichlet.oracle_posterior import NODES, Floats, urn
from sim.dirichlet.oracle_ranking import RecordItems, gains, rank_record, record_items
from sim.dirichlet.stream import BLOCK, DirichletStream, Records
from sim.errors import SimError

NEVER: Final = 2**63 - 1  # the first record that shows an id which none has shown


class Mean(NamedTuple):
    """A mean over all events, and its standard error over records, which are independent of one another."""

    value: float
    stderr: float


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """Figures of a ranking at each event, [R, L]; where items are tied, the mean over their orders."""

    hr10: Floats
    hr50: Floats
    ndcg10: Floats
    mrr: Floats


@dataclass(frozen=True, slots=True, eq=False)
class OracleFigures:
    """Figures of each event of some records, [R, L], the first event of a record included."""

    records: NDArray[np.int64]  # [R]
    expected: Hits
    realised: Hits
    ranks: Floats  # of the actual next item; the mean rank where items are tied, inf: not ranked
    log_loss: Floats  # nats: -log of the probability of the actual next item
    entropy: Floats  # nats: the expected log-loss

    def means(self) -> dict[str, Mean]:
        """Return all means: hr10, hr50, ndcg10, mrr, the same with prefix realised_, log_loss, entropy."""
        names = [field.name for field in fields(Hits)]
        arrays = {name: getattr(self.expected, name) for name in names}
        arrays |= {f"realised_{name}": getattr(self.realised, name) for name in names}
        arrays |= {"log_loss": self.log_loss, "entropy": self.entropy}
        return {name: mean_of(array) for name, array in arrays.items()}


def mean_of(figure_RL: Floats) -> Mean:
    """Return the mean of a figure and its standard error over records, NaN for a single record."""
    mean_R = figure_RL.mean(axis=1)
    stderr = mean_R.std(ddof=1) / math.sqrt(len(mean_R)) if len(mean_R) > 1 else math.nan
    return Mean(float(mean_R.mean()), float(stderr))


def oracle(
    stream: DirichletStream,
    records: NDArray[np.int64] | range,
    *,
    nodes: int = NODES,
    seen_before: NDArray[np.int64] | None = None,
) -> OracleFigures:
    """Return the figures of some records of a stream.

    Args:
        stream: The stream; its limit does not matter.
        records: The numbers of the records, in any order.
        nodes: The number of nodes of the quadrature over alpha.
        seen_before: The first record that shows each id (first_seen), [I]. If given, only ids that an earlier record
            has shown are ranked, as by recommenders, and any other target is a miss. Log-loss and entropy do not
            change.

    Raises:
        SimError: There are no records, the stream does not have them, or they are too long.
    """
    record_R = np.asarray(records, np.int64)
    if not record_R.size or record_R.min() < 0 or record_R.max() >= stream.settings.records:
        raise SimError(f"The oracle needs records, of numbers in [0, {stream.settings.records}).")
    law, gain = urn(stream.settings, nodes), gains(stream.settings.items)
    shape = (len(record_R), stream.settings.length)
    expected, realised = np.empty((*shape, 4)), np.empty((*shape, 4))
    ranks, log_loss, entropy = np.empty(shape), np.empty(shape), np.empty(shape)
    for place, items_L, category_L in _rows(stream, record_R):
        known_I = None if seen_before is None else seen_before < record_R[place]
        on = record_items(stream, int(record_R[place]), known_I)
        predicted_LC = law.predict(category_L)
        expected[place], realised[place], ranks[place] = rank_record(predicted_LC, items_L, category_L, on, gain)
        of_actual_L = predicted_LC[np.arange(shape[1]), category_L] * on.shares[items_L]
        log_loss[place], entropy[place] = -np.log(of_actual_L), _entropy(predicted_LC, stream, on)
    hits = [Hits(*np.moveaxis(earned, 2, 0)) for earned in (expected, realised)]
    return OracleFigures(record_R, hits[0], hits[1], ranks, log_loss, entropy)


def first_seen(stream: DirichletStream, stop: int | None = None) -> NDArray[np.int64]:
    """Return the first record before `stop` that shows each id, [I]; NEVER where none does."""
    first_I = np.full(stream.settings.items, NEVER)
    for start in range(0, stream.settings.records if stop is None else stop, BLOCK):
        items_RL = stream.records(start, start + BLOCK if stop is None else min(start + BLOCK, stop)).items
        new = first_I[items_RL] == NEVER
        np.minimum.at(first_I, items_RL[new], start + np.nonzero(new)[0])
    return first_I


def _rows(
    stream: DirichletStream, record_R: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.int32]]]:
    """Yield the index in record_R, the items and the categories of each record, block by block."""
    block_R = record_R // BLOCK
    for block in np.unique(block_R):
        made: Records = stream.records(int(block) * BLOCK, (int(block) + 1) * BLOCK)
        for place in np.flatnonzero(block_R == block):
            row = record_R[place] - block * BLOCK
            yield int(place), made.items[row], made.categories[row]


def _entropy(predicted_LC: Floats, stream: DirichletStream, on: RecordItems) -> Floats:
    """Return the entropy of the next item, [L]: that of its category plus that of the item within it."""
    within_C = np.bincount(stream.category_I, _surprise(on.shares), stream.settings.categories)
    entropy_L: Floats = _surprise(predicted_LC).sum(axis=1) + predicted_LC @ within_C
    return entropy_L


def _surprise(p: Floats) -> Floats:
    """Return -p log(p), 0 where p is 0."""
    return -p * np.log(np.where(p > 0, p, 1))
