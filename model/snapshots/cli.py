"""`hstu snapshots`: list, show, diff, verify, alias, promote, rollback, pin, unpin, gc.

Only typer is imported here; a command imports what it needs when it runs.
"""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from model.options import DataDir, Json, ModelCliSettings, Name, snapshots_directory

if TYPE_CHECKING:
    from model.query.context import ModelCliContext
    from model.storage.snapshot import Manifest, Snapshot
    from model.storage.snapshot_diff import Churn

STALE_S: Final = 600.0  # age of the newest snapshot from which it is named

snapshots_app = typer.Typer(no_args_is_help=True, help="List, compare, name, pin and delete snapshots.")


@snapshots_app.command("list")
def list_(ctx: typer.Context, as_json: Json = False, name: Name = None, data_dir: DataDir = None) -> None:
    """List the snapshots, oldest first."""
    import time

    from model.storage.aliases import LATEST, pins, survey_aliases
    from model.storage.delta_log import deltas_to
    from model.storage.snapshot import survey
    from model.terminal import show_notes, show_table, when

    directory = _directory(ctx, name, data_dir)
    manifests, sentences = survey(directory)
    named, more = survey_aliases(directory)
    aliases, pinned, deltas = _by_id(named), pins(directory), {m.id: deltas_to(directory, m.id) for m in manifests}
    if as_json:
        fields = ("id", "name", "parent", "created", "watermark_ms", "step", "examples", "targets", "arrays_bytes")
        _print_json(
            [
                {**{f: getattr(m, f) for f in fields}, "aliases": aliases.get(m.id, []), "deltas": len(deltas[m.id])}
                | {"pinned": m.id in pinned}
                for m in manifests
            ]
        )
    else:
        rows = [
            (
                *(m.id, ", ".join(aliases.get(m.id, []))),
                *(when(1000 * m.created), when(m.watermark_ms), m.step, m.targets, f"{m.arrays_bytes / 2**20:.1f}"),
                len(deltas[m.id]),
                "pinned" if m.id in pinned else None,
            )
            for m in manifests
        ]
        show_table(
            ("id", "aliases", "made", "learned up to", "step", "targets", "MiB", "deltas", "kept"), rows, str(directory)
        )
    show_notes(*sentences, *more, _stale(directory, manifests[-1], time.time()) if manifests else None)
    show_notes(_newest_delta(deltas.get(named.get(LATEST, ""), [])))


def _stale(directory: Path, newest: "Manifest", now_s: float) -> str | None:
    """Return a sentence where no newer snapshot has come for long, although its trainer's log has not ended.

    A replay in one process is no trainer: it makes its last snapshot and ends.
    """
    from model.storage.checkpoint import farewell
    from model.terminal import span

    trainer = directory.parent.parent / "train" / directory.name
    age_s, said = now_s - newest.created, farewell(trainer)
    every_s = newest.settings.get("train", {}).get("snapshot_s", 0.0)
    if age_s <= max(STALE_S, 10 * every_s) or said == "ended" or not trainer.is_dir():
        return None
    why = "its trainer was stopped; `hstu train` goes on" if said else "its trainer has crashed, waits or cannot write"
    return f"The newest snapshot is stale, {span(age_s)} old: {why} (docs/monitoring.md#hstusnapshotstale)."


def _newest_delta(paths: list[Path]) -> str | None:
    """Return a sentence about the last delta of latest's chain, with which a server that follows it answers.

    A chain that has ended leads to another snapshot than latest names, and is not followed.
    """
    from model.errors import ModelError
    from model.storage.delta_log import becomes, read_delta
    from model.terminal import when

    if not paths:
        return None
    try:
        delta, _ = read_delta(paths[-1])
    except ModelError as error:
        return str(error)
    if becomes(delta):
        return None
    learned = f"step {delta.manifest.step} (learned up to {when(delta.manifest.watermark_ms)})"
    return f"Delta {delta.number} to {delta.root} brings latest to {learned}; servers and queries follow it."


def _directory(ctx: typer.Context, name: str | None, data_dir: Path | None) -> Path:
    settings: ModelCliSettings = ctx.obj.load({"serve.name": name, "data_dir": data_dir})
    return snapshots_directory(settings)


def _by_id(aliases: dict[str, str]) -> dict[str, list[str]]:
    return {found: [alias for alias, to in aliases.items() if to == found] for found in aliases.values()}


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


@snapshots_app.command("show")
def show(
    ctx: typer.Context,
    snapshot: Annotated[str, typer.Argument(help="Id or alias.")] = "latest",
    as_json: Json = False,
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Print what a snapshot is: digests, metrics when it was made, settings."""
    from msgspec.structs import asdict

    from model.storage.aliases import list_aliases, resolve
    from model.storage.snapshot import verified_manifest
    from model.storage.snapshot_diff import flat
    from model.terminal import show_table

    directory = _directory(ctx, name, data_dir)
    manifest = verified_manifest(resolve(directory, snapshot))
    fields = {**asdict(manifest), "aliases": _by_id(list_aliases(directory)).get(manifest.id, [])}
    if as_json:
        _print_json(fields)
        return
    tables = {key: fields.pop(key) for key in ("digests", "metrics", "settings", "offsets", "versions")}
    rows = [("digest " + key, value) for key, value in tables["digests"].items()]
    rows += [(key, _shown(key, value)) for key, value in fields.items()]
    rows += [("offsets " + key, value) for key, value in tables["offsets"].items()]
    rows += [("version " + key, value) for key, value in tables["versions"].items()]
    rows += [(f"{table}.{key}", value) for table, entry in tables["settings"].items() for key, value in entry.items()]
    rows += list(flat(tables["metrics"]).items())
    show_table(("", manifest.id), rows)


def _shown(key: str, value: Any) -> Any:
    from model.terminal import when

    if key in ("created", "watermark_ms"):
        return when(1000 * value if key == "created" else value)
    return ", ".join(value) if isinstance(value, list) else value


@snapshots_app.command("diff")
def diff(
    ctx: typer.Context,
    a: Annotated[str, typer.Argument(help="Id or alias.")],
    b: Annotated[str, typer.Argument(help="Id or alias.")],
    all_: Annotated[bool, typer.Option("--all", help="Every metric of every scorer, and every item.")] = False,
    panel: Annotated[int, typer.Option("--panel", min=0, help="Users whose top ten are compared; 0: none.")] = 100,
    as_json: Json = False,
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Compare two snapshots: births, withdrawals, rows moved, sizes, metrics, and the top ten of a panel of users."""
    from msgspec.structs import replace

    from model.storage.aliases import resolve
    from model.storage.snapshot import load_snapshot
    from model.storage.snapshot_diff import difference, in_short
    from model.terminal import show_notes, show_table

    directory = _directory(ctx, name, data_dir)
    pair = [load_snapshot(resolve(directory, snapshot)) for snapshot in (a, b)]
    changed, why_none = _churn(ctx, pair, panel, name, data_dir) if panel else (None, None)
    found = replace(difference(*pair), churn=changed)
    if as_json:
        _print_json(found)
        return
    shown = found.numbers if all_ else in_short(found.numbers)
    numbers = [(key, old, new, None if old is None or new is None else new - old) for key, (old, new) in shown.items()]
    show_table(("", found.a, found.b, "change"), numbers)
    for verb, items in (
        ("born", found.born),
        ("died", found.died),
        ("withdrawn", found.withdrawn),
        ("restored", found.restored),
    ):
        most = len(items) if all_ else 20
        more = f" and {len(items) - most} more" if len(items) > most else ""
        show_notes(f"{len(items)} items {verb}" + (f": {', '.join(items[:most])}{more}." if items else "."))
    if found.moved:
        far = f", the farthest: {', '.join(found.moved.farthest)}" if found.moved.rows else ""
        show_notes(
            f"{found.moved.rows:,} items' rows moved, by {found.moved.median:.1%} of their length (median){far}."
        )
    show_notes(_churn_text(found.churn) if found.churn else why_none)
    if len(shown) < len(found.numbers):
        show_notes(f"{len(found.numbers) - len(shown)} more figures: --all.")


def _churn(
    ctx: typer.Context, pair: list["Snapshot"], panel: int, name: str | None, data_dir: Path | None
) -> tuple["Churn | None", str | None]:
    """Return the churn of a panel, or a sentence why there is none."""
    from model.errors import ModelError
    from model.snapshots.churn import churn

    context: ModelCliContext = ctx.obj
    with closing(context.sequences(context.load({"serve.name": name, "data_dir": data_dir}))) as sequences:
        try:
            return churn(pair[0], pair[1], sequences, panel), None
        except ModelError as error:
            return None, f"No panel of users: {str(error).rstrip('.')}."


def _churn_text(churn: "Churn") -> str:
    from model.terminal import when

    return (
        f"Top 10 of {churn.users:,} users with their events up to {when(churn.ts_ms)}: {churn.mean:.0%} of the items "
        f"are others; {churn.unchanged:,} users keep all, {churn.replaced:,} none."
    )


@snapshots_app.command("alias")
def alias_(
    ctx: typer.Context,
    alias: Annotated[str, typer.Argument(help="The alias, new or old.")],
    snapshot: Annotated[str, typer.Argument(help="Id, or an alias whose present snapshot is meant.")],
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Point an alias to a snapshot."""
    import time

    from model.storage.aliases import move_by_hand, resolve

    directory = _directory(ctx, name, data_dir)
    snapshot_id = resolve(directory, snapshot).name
    move_by_hand(directory, alias, snapshot_id, time.time())
    print(f"{alias} is now {snapshot_id}.")


@snapshots_app.command("rollback")
def rollback_(
    ctx: typer.Context,
    alias: Annotated[str, typer.Argument(help="The alias.")],
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Move an alias to what it named before; to its snapshot's parent where nothing is written of that."""
    import time

    from model.storage.aliases import LATEST, rollback
    from model.terminal import show_notes

    print(f"{alias} is now {rollback(_directory(ctx, name, data_dir), alias, time.time())}.")
    if alias == LATEST:
        show_notes("A running trainer moves latest on at its next snapshot; serve an alias of your own to stay there.")


@snapshots_app.command("pin")
def pin_(
    ctx: typer.Context,
    snapshot: Annotated[str, typer.Argument(help="Id, or an alias whose present snapshot is meant.")],
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Keep a snapshot from being deleted, whatever the aliases name."""
    from model.storage.aliases import pin

    print(f"{pin(_directory(ctx, name, data_dir), snapshot)} is pinned: neither trainers nor gc delete it.")


@snapshots_app.command("unpin")
def unpin_(
    ctx: typer.Context,
    snapshot: Annotated[str, typer.Argument(help="Id, or an alias whose present snapshot is meant.")],
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Let a snapshot be deleted once it is old."""
    from model.storage.aliases import unpin

    print(f"{unpin(_directory(ctx, name, data_dir), snapshot)} is no longer pinned.")


@snapshots_app.command("promote")
def promote_(
    ctx: typer.Context,
    snapshot: Annotated[str, typer.Argument(help="Id or alias of the candidate.")] = "latest",
    alias: Annotated[str, typer.Option("--alias", help="The alias that is to move.")] = "champion",
    as_json: Json = False,
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Point an alias to a snapshot unless the model has become worse; status 1 if it has."""
    import time

    from model.storage.promotion import promote

    decision = promote(_directory(ctx, name, data_dir), alias, snapshot, time.time())
    if as_json:
        _print_json({"moved": decision.moved, "reason": decision.reason})
    else:
        print(f"{snapshot} is {'' if decision.moved else 'not '}the {alias}: {decision.reason}.")
    if not decision.moved:
        raise typer.Exit(1)


@snapshots_app.command("verify")
def verify(ctx: typer.Context, as_json: Json = False, name: Name = None, data_dir: DataDir = None) -> None:
    """Check every byte of every snapshot and its deltas; status 1 if one is damaged, or there is no snapshot."""
    from model.errors import ModelError
    from model.storage.delta_log import has_chain, verified_deltas
    from model.storage.snapshot import survey, verified_manifest
    from model.terminal import show_notes, show_table

    directory = _directory(ctx, name, data_dir)
    manifests, unreadable = survey(directory)
    if not manifests and not unreadable:
        raise ModelError(f"There is no snapshot in {directory} to verify; --name and --data-dir say which are meant.")
    damaged, deltas, damaged_deltas = dict[str, str](), dict[str, int](), dict[str, str]()
    for each in (manifest.id for manifest in manifests):
        try:
            verified_manifest(directory / each)
        except ModelError as error:
            damaged[each] = str(error)
            continue
        try:
            deltas[each] = verified_deltas(directory, each)
        except ModelError as error:
            if has_chain(directory, each):  # a trainer removes older chains
                damaged_deltas[each] = str(error)
    if as_json:
        whole = [m.id for m in manifests if m.id not in damaged]
        found = {"whole": whole, "damaged": damaged, "unreadable": unreadable}
        _print_json(found | {"deltas": deltas, "damaged_deltas": damaged_deltas})
    else:
        states = [
            (
                *(m.id, "damaged" if m.id in damaged else "whole"),
                "damaged" if m.id in damaged_deltas else deltas.get(m.id),
            )
            for m in manifests
        ]
        show_table(("id", "state", "deltas"), states)
        show_notes(*damaged.values(), *damaged_deltas.values(), *unreadable)
    if damaged or damaged_deltas or unreadable:
        raise typer.Exit(1)


@snapshots_app.command("gc")
def gc_(
    ctx: typer.Context,
    keep: Annotated[
        int, typer.Option("--keep", help="Newest snapshots to keep, beside those pinned or named by an alias.")
    ],
    as_json: Json = False,
    name: Name = None,
    data_dir: DataDir = None,
) -> None:
    """Delete old snapshots that no alias names and that are not pinned."""
    from model.storage.aliases import gc
    from model.terminal import show_notes

    deleted = gc(_directory(ctx, name, data_dir), keep, show_notes)
    if as_json:
        _print_json({"deleted": deleted})
    else:
        print(f"Deleted {len(deleted)} snapshots" + (f": {', '.join(deleted)}." if deleted else "."))
