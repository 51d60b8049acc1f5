"""The promotion gate: an alias moves to a newer snapshot only if the model has not become worse; decisions are kept.

    snapshots/<name>/promotions.jsonl    a JSON line for each decision: at, alias, before, candidate, moved, reason

What is compared is HR@10 of the last window, each target tested before it was learned. A fall that the counts alone
(`stack`) share in proportion is one of the stream, and no reason to keep an older model; any other is. Chance is two
standard errors of a difference of independent shares: too wide for scorers of the same targets, so that a doubt
promotes. A snapshot that its trainer made while it recovered from a drift is held whatever its figures
(train.drift_hold_targets).
"""

import json
import math
from pathlib import Path
from typing import Any, Final, NamedTuple

from model.storage.aliases import find, move, resolve
from model.storage.snapshot import Manifest, read_manifest

CHAMPION: Final = "champion"
LEAST_TARGETS: Final = 200  # of a window
FILE: Final = "promotions.jsonl"
_SCORERS: Final = ("hstu", "stack")


class Decision(NamedTuple):
    """What became of a candidate."""

    moved: bool
    reason: str


class _Window(NamedTuple):
    targets: int
    model: float
    counts: float


def promote(directory: Path, alias: str, candidate: str, now_s: float) -> Decision:
    """Move an alias to a snapshot if the gate lets it pass, and write down what was decided.

    Args:
        directory: Folder of the snapshots of one trainer.
        alias: The alias, new or old.
        candidate: Id of the snapshot, or an alias whose present snapshot is meant.
        now_s: Wall time in seconds since 1970.

    Raises:
        ModelError: The candidate is missing or damaged, or the folder cannot be written.
    """
    new, before = read_manifest(resolve(directory, candidate)), find(directory, alias)
    there = before is not None and (directory / before).is_dir()
    decision = judge(read_manifest(directory / before) if before and there else None, new)
    if decision.moved and before != new.id:
        move(directory, alias, new.id)
    if before != new.id:
        _note(directory, at=now_s, alias=alias, before=before, candidate=new.id, **decision._asdict())
    return decision


def judge(present: Manifest | None, candidate: Manifest) -> Decision:
    """Return whether a candidate may take the place of the present snapshot, and why."""
    if candidate.hold:
        return Decision(False, candidate.hold)
    new = _window(candidate)
    if new is None:
        return Decision(False, f"its window has fewer than {LEAST_TARGETS} targets, so nothing is known of it yet")
    figures = f"HR@10 {new.model:.3f}, counts alone {new.counts:.3f}"
    if new.model < new.counts - _chance((new.model, new.targets), (new.counts, new.targets)):
        return Decision(False, f"the model is below its own counts: {figures}")
    old = _window(present) if present else None
    if old is None:
        return Decision(True, f"there is nothing to compare with: {figures}")
    fall = old.model - new.model
    was = f"{figures}; before, HR@10 {old.model:.3f}, counts alone {old.counts:.3f}"
    chance = _chance((old.model, old.targets), (new.model, new.targets))
    if fall <= chance:
        return Decision(True, f"no fall beyond chance: {was}")
    if old.counts and old.model * new.counts / old.counts - new.model <= chance:
        return Decision(True, f"the counts have fallen as well, so the stream has changed: {was}")
    return Decision(False, f"the model has fallen, and its counts have not: {was}")


def _window(manifest: Manifest) -> _Window | None:
    found = [manifest.metrics.get("retrieval", {}).get(scorer, {}).get("window", {}).get("all") for scorer in _SCORERS]
    if any(not each or each["targets"] < LEAST_TARGETS or each["hr@10"] is None for each in found):
        return None
    model, counts = found
    return _Window(model["targets"], model["hr@10"], counts["hr@10"])


def _chance(*shares: tuple[float, int]) -> float:
    return 2 * math.sqrt(sum(share * (1 - share) / targets for share, targets in shares))


def _note(directory: Path, **fields: Any) -> None:
    with (directory / FILE).open("a") as file:
        file.write(json.dumps(fields) + "\n")
