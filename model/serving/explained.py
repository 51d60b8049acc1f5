"""Explanations of single items: the parts of a score, and what each event moves."""

import numpy as np
from numpy.typing import NDArray

from model.fusion.log_linear import FEATURES
from model.serving.names import Names
from model.serving.responses import ExplainedItem
from model.serving.scorer import Ablation


def by_parts(found: Ablation, rows_b: NDArray[np.int64], names: Names) -> list[ExplainedItem]:
    """Return the explanations of items that the model scores."""
    return [
        ExplainedItem(
            item_id=names.text(row),
            title=names.title_at(row),
            score=float(found.parts[at].sum()),
            encoder=float(found.parts[at, 0]),
            counts=dict(zip(FEATURES[1:], found.parts[at, 1:].tolist(), strict=True)),
            changes=found.changes[:, at].tolist(),
        )
        for at, row in enumerate(rows_b.tolist())
    ]


def by_count(counts_R: NDArray[np.float64], rows_b: NDArray[np.int64], names: Names) -> list[ExplainedItem]:
    """Return the explanations of items that popularity alone has put in order."""
    return [
        ExplainedItem(
            item_id=names.text(row),
            title=names.title_at(row),
            score=float(counts_R[row]),
            encoder=0.0,
            counts={"popularity": float(counts_R[row])},
            changes=[],
        )
        for row in rows_b.tolist()
    ]
