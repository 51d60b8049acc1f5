"""The promotion gate: an alias moves to a newer snapshot only if the model has not become worse; decisions are kept.

What is compared is HR@10 of the last window, each target tested before it was learned: with that of the present
snapshot, and with those of all that the alias has named within ten windows, or since it was last moved by hand, so that
no slow fall passes step by step. A fall that the counts alone (`stack`) share in proportion is one of the stream, and
no reason to keep an older model; any other is. Chance is two standard errors of a difference of independent shares, and
three with the earlier ones, of which the best was lucky: too wide for scorers of the same targets, so that a doubt
promotes. A snapshot that its trainer made while it recovered from a drift is held whatever its figures
(train.drift_hold_targets).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from model.storage.aliases import Decision, Window, find, move, moves, note, resolve
from model.storage.snapshot import Manifest, read_manifest

CHAMPION: Final = "champion"
LEAST_TARGETS: Final = 200  # of a window
_REMEMBERED: Final = 10  # windows over which a fall adds up
_SCORERS: Final = ("hstu", "stack")


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
    present = window_of(read_manifest(directory / before)) if before and there else None
    moved, reason = judge(present, _earlier(directory, alias, before), new)
    decision = Decision(now_s, alias, before, new.id, moved, reason, window_of(new))
    if before != new.id:
        if moved:
            move(directory, alias, new.id)
        note(directory, decision)
    return decision


def judge(present: Window | None, earlier: Sequence[Window], candidate: Manifest) -> tuple[bool, str]:
    """Return whether a candidate may take the place of the present snapshot, and why.

    Args:
        present: Of the snapshot that the alias names; None where there is none.
        earlier: Of those that it has named before.
        candidate: Of the snapshot that it is to name.
    """
    if candidate.hold:
        return False, candidate.hold
    new = window_of(candidate)
    if new is None:
        return False, f"its window has fewer than {LEAST_TARGETS} targets, so nothing is known of it yet"
    figures = f"HR@10 {new.model:.3f}, counts alone {new.counts:.3f}"
    if new.model < new.counts - 2 * _error((new.model, new.targets), (new.counts, new.targets)):
        return False, f"the model is below its own counts: {figures}"
    best = max(
        (each for each in earlier if new.end - each.end <= _REMEMBERED * new.targets),
        key=lambda each: _fall(each, new),
        default=None,
    )
    if best is not None and _fall(best, new) > 3 * _error((best.model, best.targets), (new.model, new.targets)):
        was = f"HR@10 {best.model:.3f}, counts alone {best.counts:.3f}"
        return False, f"the model has fallen step by step, and its counts have not: {figures}; once, {was}"
    if present is None:
        return True, f"there is nothing to compare with: {figures}"
    was = f"{figures}; before, HR@10 {present.model:.3f}, counts alone {present.counts:.3f}"
    chance = 2 * _error((present.model, present.targets), (new.model, new.targets))
    if present.model - new.model <= chance:
        return True, f"no fall beyond chance: {was}"
    if _fall(present, new) <= chance:
        return True, f"the counts have fallen as well, so the stream has changed: {was}"
    return False, f"the model has fallen, and its counts have not: {was}"


def window_of(manifest: Manifest) -> Window | None:
    """Return the last window of a snapshot; None where it is too short to say anything."""
    found = [manifest.metrics.get("retrieval", {}).get(scorer, {}).get("window", {}).get("all") for scorer in _SCORERS]
    if any(not each or each["targets"] < LEAST_TARGETS or each["hr@10"] is None for each in found):
        return None
    model, counts = found
    return Window(manifest.targets, model["targets"], model["hr@10"], counts["hr@10"])


def _earlier(directory: Path, alias: str, present: str | None) -> list[Window]:
    """Return the windows of what an alias has named, back to where it was moved by hand."""
    found = []
    for decision in moves(directory, alias):
        if decision.candidate != present or decision.window is None:
            break
        found.append(decision.window)
        present = decision.before
    return found


def _fall(old: Window, new: Window) -> float:
    """Return by how much the model has fallen beyond what its counts have fallen in proportion."""
    share = min(1.0, new.counts / old.counts) if old.counts else 1.0
    return old.model * share - new.model


def _error(*shares: tuple[float, int]) -> float:
    """Return the standard error of the difference of independent shares."""
    return math.sqrt(sum(share * (1 - share) / targets for share, targets in shares))
