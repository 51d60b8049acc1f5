"""What /snapshot shows of a manifest: nothing that names a path, an address or a library of the trainer's machine."""

from typing import Any

from model.config import ModelSettings, TrainSettings
from model.serving.responses import SnapshotInfo
from model.storage.snapshot import Manifest


class SnapshotPage(SnapshotInfo):
    """The snapshot that answers."""

    parent: str
    """Id of the snapshot before it in the same run; empty for the first."""
    created: float
    """Wall time in seconds since 1970."""
    examples: int
    targets: int
    rank_targets: int
    """Targets that the ranking towers were trained on; 0: their probabilities mean nothing yet."""
    settings: dict[str, dict[str, Any]]
    """Tables "model" and "train", of the latter those that decide what is learned."""
    metrics: dict[str, Any]
    """Prequential metrics at this moment."""
    digests: dict[str, str]
    """Hex digests of "sequences", "examples", "model"."""


def snapshot_page(manifest: Manifest, info: SnapshotInfo) -> SnapshotPage:
    """Return the page of a snapshot."""
    deciding = TrainSettings.model_fields.keys() - TrainSettings.may_change()
    shown = {"model": ModelSettings.model_fields.keys(), "train": deciding}
    settings = {
        table: {key: value for key, value in manifest.settings.get(table, {}).items() if key in keys}
        for table, keys in shown.items()
    }
    own = SnapshotPage.model_fields.keys() - SnapshotInfo.model_fields.keys() - {"settings"}
    return SnapshotPage(**info.model_dump(), settings=settings, **{name: getattr(manifest, name) for name in own})
