"""The model's click probabilities: the towers' logits and counts, fused by weights that are learnt online.

N = ranking targets of a micro-batch, A = rank actions. The towers are trained on a loss of their own, and nothing
of the fusion reaches them. For each request the fused logits are asked first, then the weights take a step, then its
impressions are counted (model/fusion/clicks.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.entity_index import EntityIndex, RowBatch
from model.evaluation.prequential import ENCODER, LOGISTIC, MODEL
from model.fusion.click_tables import Impressions, ItemValues, whats
from model.fusion.clicks import Clicks
from stream.example import id_key


class ClickFusion:
    """The fused click probabilities of one run, and the regression over counts alone beside them.

    Args:
        actions: The rank actions.
        fused: Whether the model's logits are fused; if not, they are the towers' alone.
        logistic: Whether the regression without towers answers and learns too.
    """

    def __init__(self, actions: Sequence[str], *, fused: bool, logistic: bool) -> None:
        self._keys = np.array([id_key(action) for action in actions], np.uint64)
        self._names = [MODEL] * fused + [LOGISTIC] * logistic
        self._fused = fused
        self._clicks = Clicks(len(actions), [name == MODEL for name in self._names]) if self._names else None

    def step(
        self, tower_NA: NDArray[np.float64], batch: RowBatch, index: EntityIndex, *, learn: bool
    ) -> dict[str, NDArray[np.float64]]:
        """Answer the impressions of a micro-batch, then learn them; return the logits by scorer, [N, A] each.

        Args:
            tower_NA: The towers' logits; [N, 0] where there are no towers.
            batch: The micro-batch, by rows.
            index: The index that has taken it in.
            learn: Whether weights and counts move.
        """
        found = {ENCODER: tower_NA} if self._fused else {MODEL: tower_NA, ENCODER: tower_NA}
        if self._clicks is not None:
            self._clicks.grow(len(index.items), len(index.features))
            asked, values = self._impressions(batch, tower_NA), ItemValues(**index.item_features.state())
            request_ms_N = batch.tokens.request_ms[batch.targets.shown]
            logits_HNA = self._clicks.step(asked, request_ms_N, values, learn=learn)
            found |= dict(zip(self._names, logits_HNA, strict=True))
        return found

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Drop the counts of items that have died."""
        if self._clicks is not None:
            self._clicks.forget(rows)

    def _impressions(self, batch: RowBatch, tower_NA: NDArray[np.float64]) -> Impressions:
        tokens, shown = batch.tokens, batch.targets.shown
        position_N, start_N = tokens.positions[shown], tokens.offsets[tokens.owners[shown]]
        query_N = np.maximum(tokens.queries[shown], start_N - 1)  # one before the first token if there is no history
        return Impressions(
            targets=batch.rows.items[position_N],
            groups=tokens.requests[shown],
            starts=start_N,
            queries=query_N,
            places=position_N - query_N - 1,
            labels=batch.targets.labels,
            towers=tower_NA,
            rows=batch.rows.items,
            whats=whats(tokens.kinds, tokens.actions, self._keys),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views."""
        return {} if self._clicks is None else self._clicks.state()

    def deciding(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that decide the fused logits: all but the weights of the regression beside them."""
        if not self._fused:
            return {}
        state = self.state()
        return {name: state[name][:1] if name in ("weights", "covariances") else state[name] for name in state}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        if self._clicks is not None:
            self._clicks.load_state(state)

    def snapshot_arrays(self, index: EntityIndex) -> dict[str, NDArray[Any]]:
        """Return what queries need; if nothing is fused, these are weights that leave the towers' logits alone."""
        if self._fused and self._clicks is not None:
            self._clicks.grow(len(index.items), len(index.features))
            return self._clicks.snapshot_arrays()
        return Clicks.towers_alone(len(self._keys), len(index.items), len(index.features))
