"""What /snapshot shows of a manifest: nothing that names a path, an address or a library of the trainer's machine.

/snapshots lists what there is, /snapshots/alias moves an alias, as `hstu snapshots alias` does, and /snapshots/diff
compares two of them, as `hstu snapshots diff` does.
"""

import time
from pathlib import Path
from typing import Annotated, Any, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI, HTTPException, Query, Response
from msgspec.structs import asdict
from pydantic import BaseModel, ConfigDict

from model.config import ModelSettings, TrainSettings
from model.dashboard.snapshot_list import SnapshotList
from model.errors import ModelError
from model.serving.hot_swap import Swapper
from model.serving.http.errors import UNKNOWN
from model.serving.http.questions import AliasQuestion
from model.serving.responses import QueryError, SnapshotInfo, UnknownError
from model.snapshots.churn import Users, churn
from model.storage.aliases import list_aliases, move_by_hand, resolve
from model.storage.snapshot import Manifest, load_snapshot
from model.storage.snapshot_diff import Difference, difference, in_short

_PANEL: Final = 100  # users, as of `hstu snapshots diff`
_LISTED: Final = 20  # items by name
_Named = Annotated[
    str, Query(description="Id of a snapshot, or an alias.", examples=["latest"], json_schema_extra={"minLength": 1})
]


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


class ChangedItems(_Fields):
    """Items that have something in common."""

    count: int
    """How many."""
    first: list[str]
    """Ids of the first 20."""


class TopTenChurn(_Fields):
    """How the top ten of a panel of users change, asked with the histories that the earlier snapshot had learned."""

    users: int
    """Of the panel, at most 100."""
    ts_ms: int
    """Event time of the questions and of the last events of the histories, ms."""
    mean: float
    """Share of b's items that a does not recommend, mean over the users."""
    unchanged: int
    """Users whose items are the same, in whatever order."""
    replaced: int
    """Users whose items are all others."""


class SnapshotsDiff(_Fields):
    """What changes from snapshot a to snapshot b."""

    a: str
    """Its id."""
    b: str
    """Its id."""
    same_model: bool
    """Whether both have the same digest of the model."""
    born: ChangedItems
    """Items that are in b and not in a."""
    died: ChangedItems
    """Items that are in a and no more in b."""
    withdrawn: ChangedItems
    """Items withdrawn in b and not in a."""
    restored: ChangedItems
    """Items withdrawn in a and not in b."""
    numbers: dict[str, tuple[int | float | None, int | float | None]]
    """Name → value in a, value in b: sizes, counts, and the metrics of the last window that head the others."""
    churn: TopTenChurn | None
    """Null where this host has no user with a history that both had learned."""


def add_snapshots(app: FastAPI, directory: Path, swapper: Swapper, sequences: Users, guard: list[Any]) -> None:
    """Add /snapshots, /snapshots/diff and /snapshots/alias."""
    comparing = CapacityLimiter(1)  # at once, since each holds two snapshots in memory

    @app.get("/snapshots", dependencies=guard)
    def snapshots() -> Snapshots:
        """Return the snapshots of the trainer that is served, with their aliases."""
        rows = [ListedSnapshot(**row) for row in SnapshotList(directory).look(most=1000)]
        return Snapshots(name=directory.name, follows=swapper.alias, snapshots=rows)

    @app.get("/snapshots/diff", response_model=SnapshotsDiff, dependencies=guard, responses=UNKNOWN)
    async def diff(a: _Named, b: _Named) -> Response:
        """Compare two snapshots: births, withdrawals, sizes, metrics, and the top ten of a panel of users."""
        if comparing.borrowed_tokens:
            raise HTTPException(503, "Another comparison of snapshots is made; ask again later.", {"Retry-After": "5"})
        answer = await run_sync(_compared, directory, (a, b), sequences, limiter=comparing)
        return Response(answer.model_dump_json(), media_type="application/json")

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


def _compared(directory: Path, names: tuple[str, str], sequences: Users) -> SnapshotsDiff:
    try:
        one, other = (load_snapshot(resolve(directory, name)) for name in names)
    except ModelError as error:
        raise UnknownError(_without_path(error, directory)) from error
    try:
        panel = TopTenChurn(**asdict(churn(one, other, sequences, _PANEL)))
    except ModelError:  # its sentence may name a path
        panel = None
    found = difference(one, other)
    return SnapshotsDiff(
        a=found.a, b=found.b, same_model=found.same_model, **_items(found), numbers=in_short(found.numbers), churn=panel
    )


def _items(found: Difference) -> dict[str, ChangedItems]:
    named = {"born": found.born, "died": found.died, "withdrawn": found.withdrawn, "restored": found.restored}
    return {name: ChangedItems(count=len(ids), first=ids[:_LISTED]) for name, ids in named.items()}


def _without_path(error: ModelError, directory: Path) -> str:
    said = str(error).replace(f"The directory {directory} ", "The folder of the snapshots ")
    return said.replace(f"{directory}/", "").replace(str(directory), "this folder")
