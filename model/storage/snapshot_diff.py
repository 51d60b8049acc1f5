"""The difference of two snapshots of one directory: items born, dead and withdrawn, rows moved, sizes, metrics."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from model.arrays.state import under
from model.data.vocabulary import Vocabulary
from model.storage.snapshot import Snapshot

_Pair = tuple[float | None, float | None]
_FARTHEST: Final = 20
_HEADLINES: Final = re.compile(
    r"retrieval\.[^.]+\.window\.all\.(hr@10|ndcg@10|targets)|ranking\.[^.]+\.window\..+\.all\.(ne|auc)"
)


class Churn(msgspec.Struct, frozen=True, kw_only=True):
    """How the top ten of a panel of users change from snapshot a to snapshot b."""

    users: int
    """Of the panel."""
    ts_ms: int
    """Event time of the questions and of the last events of the histories."""
    mean: float
    """Share of b's items that a does not recommend, mean over the users."""
    unchanged: int
    """Users whose items are the same, in whatever order."""
    replaced: int
    """Users whose items are all others."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rows of items that are in both have moved; those of their features are not counted."""

    rows: int
    """Rows of which any number is another."""
    median: float
    """Median over these of the distance, as a share of the row's length in a; 0 where none has moved."""
    farthest: list[str]
    """The 20 items that have moved farthest by this share, the farthest first."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """From snapshot a to snapshot b; items are ids, in order of their rows in b."""

    a: str
    b: str
    same_model: bool
    """Whether both have the same digest of the model."""
    born: list[str]
    """Items that are in b and not in a."""
    died: list[str]
    """Items that are in a and no more in b, in order of their rows in a."""
    withdrawn: list[str]
    """Items withdrawn in b and not in a."""
    restored: list[str]
    """Items withdrawn in a and not in b."""
    numbers: dict[str, _Pair]
    """Name → value in a, value in b: sizes, counts, and metrics."""
    moved: Moved | None = None
    """None where their rows have other dimensions."""
    churn: Churn | None = None
    """None where there is no panel."""


def difference(a: Snapshot, b: Snapshot) -> Difference:
    """Return what changed from a to b."""
    items_a, items_b = (Vocabulary.from_state(under("items.", snapshot.arrays)) for snapshot in (a, b))
    in_a, in_b = items_a.rows(items_b.keys), np.arange(len(items_b))
    both, gone_a = in_a >= 0, np.zeros(len(items_b), np.bool_)
    gone_a[both] = items_a.withdrawn[in_a[both]]
    shared = both & items_b.used_mask()
    digests = a.manifest.digests.get("model"), b.manifest.digests.get("model")
    return Difference(
        a=a.manifest.id,
        b=b.manifest.id,
        same_model=digests[0] == digests[1] is not None,
        born=_ids(items_b, in_b[~both & items_b.used_mask()]),
        died=_ids(items_a, np.flatnonzero(items_a.used_mask() & (items_b.rows(items_a.keys) < 0))),
        withdrawn=_ids(items_b, in_b[items_b.withdrawn & ~gone_a]),
        restored=_ids(items_b, in_b[gone_a & ~items_b.withdrawn]),
        numbers=_side_by_side(_numbers(a, items_a), _numbers(b, items_b)),
        moved=_moved(a, b, items_b, in_a[shared], in_b[shared]),
    )


def _moved(
    a: Snapshot, b: Snapshot, items_b: Vocabulary, in_a: NDArray[np.int64], in_b: NDArray[np.int64]
) -> Moved | None:
    """Return how far items that are in both have moved.

    Args:
        a: The one snapshot.
        b: The other.
        items_b: Vocabulary of b.
        in_a: Rows of the items in a, [I].
        in_b: Their rows in b, [I].
    """
    weights_a, weights_b = a.arrays["items.weight"], b.arrays["items.weight"]
    if weights_a.shape[1] != weights_b.shape[1]:
        return None
    rows_a_ID = weights_a[in_a].astype(np.float32)
    distance_I = np.linalg.norm(weights_b[in_b].astype(np.float32) - rows_a_ID, axis=1)
    length_I = np.linalg.norm(rows_a_ID, axis=1)
    share_I = np.divide(distance_I, length_I, out=np.zeros_like(distance_I), where=length_I > 0)
    moved = np.flatnonzero(distance_I)
    farthest = moved[np.argsort(-share_I[moved], kind="stable")][:_FARTHEST]
    median = float(np.median(share_I[moved])) if len(moved) else 0.0
    return Moved(rows=len(moved), median=median, farthest=_ids(items_b, in_b[farthest]))


def _ids(items: Vocabulary, rows: NDArray[np.int64]) -> list[str]:
    return [items.texts[row] or f"key {int(items.keys[row]):016x}" for row in rows.tolist()]


def _numbers(snapshot: Snapshot, items: Vocabulary) -> dict[str, float]:
    manifest = snapshot.manifest
    sizes = {"items": items.known, "items live": len(items.live()), "features": len(snapshot.arrays["features.keys"])}
    counts = {"step": manifest.step, "examples": manifest.examples, "targets": manifest.targets}
    return {**sizes, **counts, "watermark_ms": manifest.watermark_ms, **flat(manifest.metrics)}


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of a tree of metrics under dotted names; everything else is left out."""
    leaves: dict[str, float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            leaves[prefix + name] = value
    return leaves


def in_short(numbers: Mapping[str, _Pair]) -> dict[str, _Pair]:
    """Return the sizes and counts, and of the metrics those of the last window over items of all ages that head them.

    HR@10 and NDCG@10 of each retrieval scorer, normalised entropy and AUC of each ranking scorer and action.
    """
    return {name: pair for name, pair in numbers.items() if "." not in name or _HEADLINES.fullmatch(name)}


def _side_by_side(a: dict[str, float], b: dict[str, float]) -> dict[str, _Pair]:
    return {name: (a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b])}
