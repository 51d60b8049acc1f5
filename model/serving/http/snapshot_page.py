"""What /snapshot shows of a manifest: nothing that names a path, an address or a library of the trainer's machine.

/snapshots lists what there is, and /snapshots/alias moves an alias, as `hstu snapshots alias` does.
"""

import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from model.config import ModelSettings, TrainSettings
from model.dashboard.snapshot_list import SnapshotList
from model.errors import ModelError
from model.serving.hot_swap import Swapper
from model.serving.http.errors import UNKNOWN
from model.serving.http.questions import AliasQuestion
from model.serving.responses import QueryError, SnapshotInfo, UnknownError
from model.storage.aliases import list_aliases, move_by_hand, resolve
from model.storage.snapshot import Manifest


class SnapshotPage(SnapshotInfo):
    """The snapshot that answers."""

    parent: str
    """Id of the snapshot before it in the same run; empty for the first."""
    created: float
    """Wall time in seconds since 1970."""
    examples: int
    """Examples learned."""
    targets: int
    """Targets tested, each before it was learned."""
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


class _Fields(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ListedSnapshot(_Fields):
    """One snapshot of the trainer that is served."""

    id: str
    """Its step and a digest of its content."""
    parent: str
    """Id of the snapshot before it in the same run; empty for the first."""
    step: int
    """Micro-batches that its trainer had learned."""
    created: float
    """Wall time in seconds since 1970."""
    watermark_ms: int
    """Event time, ms, up to which it was trained."""
    targets: int
    """Targets tested, each before it was learned."""
    arrays_bytes: int
    """Size of its arrays on the disk."""
    window: dict[str, float | None]
    """Of the targets tested last before it was made: how many, and their HR@10."""
    aliases: list[str]
    """Aliases that name it."""


class Snapshots(_Fields):
    """The newest 1,000 snapshots and those with an alias, newest first."""

    name: str
    """Name of the trainer."""
    follows: str
    """Alias or id that this server follows."""
    snapshots: list[ListedSnapshot]
    """Newest first."""


class MovedAlias(_Fields):
    """Where an alias points now."""

    alias: str
    """As asked."""
    snapshot: str
    """Id of the snapshot that it names now."""
    before: str | None
    """What it named before; null where it is new."""


def add_snapshots(app: FastAPI, directory: Path, swapper: Swapper, guard: list[Any]) -> None:
    """Add /snapshots and /snapshots/alias."""

    @app.get("/snapshots", dependencies=guard)
    def snapshots() -> Snapshots:
        """Return the snapshots of the trainer that is served, with their aliases."""
        rows = [ListedSnapshot(**row) for row in SnapshotList(directory).look(most=1000)]
        return Snapshots(name=directory.name, follows=swapper.alias, snapshots=rows)

    @app.post("/snapshots/alias", dependencies=guard, responses=UNKNOWN)
    def alias(question: AliasQuestion) -> MovedAlias:
        """Point an alias to a snapshot; a server that follows it answers from there within `serve.poll_s`."""
        before = list_aliases(directory).get(question.alias)
        try:
            snapshot_id = resolve(directory, question.snapshot).name
        except ModelError as error:
            raise UnknownError(_without_path(error, directory)) from error
        try:
            move_by_hand(directory, question.alias, snapshot_id, time.time())
        except ModelError as error:
            raise QueryError(_without_path(error, directory)) from error
        return MovedAlias(alias=question.alias, snapshot=snapshot_id, before=before)


def _without_path(error: ModelError, directory: Path) -> str:
    said = str(error).replace(f"The directory {directory} ", "The folder of the snapshots ")
    return said.replace(f"{directory}/", "").replace(str(directory), "this folder")
