"""The operators' verbs of `hstu`: doctor, dead-letters, sequences, forget.

Only typer is imported here; a command imports what it needs when it runs.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

if TYPE_CHECKING:
    from stream.config import KafkaSettings, StreamSettings
    from stream.kafka.connection import Kafka
    from stream.operations.dead_letters import Letter, Wanted
    from stream.operations.sequence import SequenceSource

letters_app = typer.Typer(no_args_is_help=True, help="Refused records: list, show, replay.")
sequences_app = typer.Typer(no_args_is_help=True, help="Users' stored sequences: show.")

_Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka, as HOST:PORT[,HOST:PORT].")]
_DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Holds the stores.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only this reason; may be given more than once.")]
_Topics = Annotated[
    list[str] | None, typer.Option("--topic", help="Only records of this topic, with its prefix; may be given again.")
]


class OperationsCliSettings(Protocol):
    """The part of all settings that these verbs read."""

    @property
    def bootstrap(self) -> str:
        """Kafka, as HOST:PORT[,HOST:PORT…]; empty if none is named."""

    @property
    def kafka(self) -> "KafkaSettings":
        """Table [kafka]."""

    @property
    def data_dir(self) -> Path:
        """Where stores, checkpoints and snapshots live."""

    @property
    def stream(self) -> "StreamSettings":
        """Table [stream]."""


class OperationsCliContext(Protocol):
    """What these verbs get as ctx.obj from the main command."""

    def load(self, flags: dict[str, object]) -> OperationsCliSettings:
        """Return the settings: file, environment, then flags by dotted names; None means not given."""

    def sequences(self, settings: Any) -> "SequenceSource":
        """Return a reader of users' sequences: under the data directory, and by the workers of other hosts."""

    def titles(self, settings: Any) -> Callable[[str], str | None]:
        """Return what finds an item's title in the newest snapshot of these settings, which load() has returned."""


def add_commands(app: typer.Typer) -> None:
    """Add the operators' verbs."""
    app.command()(doctor)
    app.command()(forget)
    app.add_typer(letters_app, name="dead-letters")
    app.add_typer(sequences_app, name="sequences")


def doctor(ctx: typer.Context, bootstrap: _Bootstrap = None, data_dir: _DataDir = None, as_json: _Json = False) -> None:
    """Examine Kafka, its topics, the stores and this machine; say what to fix. Exit code 1 if something fails."""
    from stream.operations.doctor import examine
    from stream.operations.findings import Level

    context: OperationsCliContext = ctx.obj
    settings = context.load({"bootstrap": bootstrap, "data_dir": data_dir})
    findings = []
    logging.basicConfig(format="     %(message)s")
    logging.getLogger("hstu.doctor").setLevel(logging.INFO)
    for finding in examine(settings.bootstrap, settings.kafka, settings.stream, settings.data_dir):
        findings.append(finding)
        if not as_json:
            typer.secho(f"{finding.level.upper():4} ", nl=False, fg=_COLOURS[finding.level])
            print(f"{finding.what}: {finding.says}" + (f"\n       → {finding.mend}" if finding.mend else ""))
    if as_json:
        _print_json(findings)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def forget(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="Id of the user.")],
    until: Annotated[
        datetime | None,
        typer.Option("--until", help="Event time (UTC) up to which the user is erased.", show_default="now"),
    ] = None,
    bootstrap: _Bootstrap = None,
) -> None:
    """Erase a user durably: a record in the log, so that stores built anew forget as well (docs/operations.md)."""
    from stream.operations.forget import forget_user
    from stream.operations.tables import printable, when

    kafka, settings = _kafka(ctx, bootstrap)
    at = datetime.now(UTC) if until is None else until.replace(tzinfo=UTC)
    ts_ms = int(at.timestamp() * 1000)
    partitions = forget_user(kafka, settings, user, ts_ms)
    print(
        f"Written to {partitions} partitions of {settings.topic_prefix}attributes: user {printable(user)} is erased "
        f"up to {when(ts_ms)} once event time in each partition is {settings.lateness_s:g} s past it, for which events "
        "or heartbeats have to come (docs/operations.md)."
    )


@letters_app.command("list")
def list_letters(
    ctx: typer.Context,
    reason: _Reasons = None,
    topic: _Topics = None,
    last: Annotated[int, typer.Option("--last", min=0, help="How many of the newest to show.")] = 10,
    as_json: _Json = False,
    bootstrap: _Bootstrap = None,
) -> None:
    """Count the refused records by reason and topic, and show the newest."""
    from stream.operations.dead_letters import survey_letters
    from stream.operations.tables import show_table, when

    kafka, settings = _kafka(ctx, bootstrap)
    found = survey_letters(kafka, settings, _wanted(reason, topic), last)
    if as_json:
        counts = [{"reason": r, "topic": t, "count": count} for (r, t), count in sorted(found.counts.items())]
        last_letters = [_as_json(letter) for letter in found.last]
        _print_json({"counts": counts, "replayed": found.replayed, "foreign": found.foreign, "last": last_letters})
        return
    show_table(("reason", "topic", "records"), [(r, t, count) for (r, t), count in sorted(found.counts.items())])
    if found.last:
        rows = [(when(letter.ts_ms), letter.reason, letter.id, letter.detail) for letter in found.last]
        show_table(("refused", "reason", "id", "why"), rows)
    typer.echo(f"{sum(found.counts.values()):,} refused, {found.replayed:,} of them replayed.", err=True)
    if found.foreign:
        typer.echo(f"{len(found.foreign):,} more that no worker has written ({_first(found.foreign)}).", err=True)


@letters_app.command("show")
def show_letter(
    ctx: typer.Context,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="TOPIC/PARTITION/OFFSET, as list prints it.")],
    as_json: _Json = False,
    bootstrap: _Bootstrap = None,
) -> None:
    """Print a refused record: its place, why it was refused, and its bytes; each of that place if a topic came anew."""
    from stream.operations.dead_letters import find_letters

    for letter in find_letters(*_kafka(ctx, bootstrap), letter_id):
        if as_json:
            _print_json(_as_json(letter))
        else:
            _show_letter(letter)


def _show_letter(letter: "Letter") -> None:
    from stream.operations.tables import printable, when

    rows = {
        "id": letter.id,
        "reason": f"{letter.reason}: {letter.detail}",
        "refused": when(letter.ts_ms),
        "replayed": "yes" if letter.replayed else "no",
        "key": (letter.key or b"").decode(errors="backslashreplace"),
        "value": letter.value.decode(errors="backslashreplace") + (" … (cut)" if letter.cut else ""),
    }
    for name, text in rows.items():
        print(f"{name + ':':9} {printable(text)}")


@letters_app.command("replay")
def replay_letters(
    ctx: typer.Context,
    letter_id: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As list prints them.")] = None,
    reason: _Reasons = None,
    topic: _Topics = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    bootstrap: _Bootstrap = None,
) -> None:
    """Send refused records back to their partitions, byte for byte and each once, after the cause is mended."""
    from stream.errors import HstuError
    from stream.operations.dead_letters import replay_letters
    from stream.operations.tables import show_table

    if not (letter_id or reason or topic):
        raise HstuError("Name what to replay: ids, --reason or --topic; --dry-run says what would be sent.")
    wanted = _wanted(reason, topic, letter_id)
    kafka, settings = _kafka(ctx, bootstrap)
    done = replay_letters(kafka, settings, wanted, dry_run=dry_run)
    if done.sent:
        show_table(("reason", "topic", "records"), [(r, t, count) for (r, t), count in sorted(done.sent.items())])
    would = "would be sent" if dry_run else "sent"
    typer.echo(f"{sum(done.sent.values()):,} {would}, {done.before:,} had been sent before.", err=True)
    if done.late:
        typer.echo(
            f"{done.late:,} of these are of more than stream.lateness_s ({settings.lateness_s:g} s) before the end of "
            "their log: late, if not refused for what they say (docs/operations.md, Refused records).",
            err=True,
        )
    if done.lost:
        typer.echo(
            f"{len(done.lost):,} cannot be sent: the letter was cut, and Kafka has no more of the record "
            f"({_first(done.lost)}).",
            err=True,
        )
    if done.passed_over:
        typer.echo(f"{len(done.passed_over):,} passed over ({_first(done.passed_over)}).", err=True)
    if done.unknown:
        raise HstuError(
            f"There is no dead-letter {_first(done.unknown)}, {len(done.unknown):,} of the ids given; "
            "hstu dead-letters list shows ids, TOPIC/PARTITION/OFFSET."
        )


@sequences_app.command("show")
def show_sequence(
    ctx: typer.Context,
    user: Annotated[str, typer.Argument(help="Id of the user.")],
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="How many of the newest tokens.")] = 50,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Only tokens up to this event time, ms or ISO 8601.")
    ] = None,
    as_json: _Json = False,
    data_dir: _DataDir = None,
    bootstrap: _Bootstrap = None,
) -> None:
    """Print a user's stored sequence, oldest first, with titles where a snapshot knows them."""
    from stream.event_times import event_time
    from stream.operations.sequence import read_sequence
    from stream.operations.tables import show_table, when

    context: OperationsCliContext = ctx.obj
    settings = context.load({"data_dir": data_dir, "bootstrap": bootstrap})
    as_of_ms = None if as_of is None else event_time(as_of)
    with closing(context.sequences(settings)) as reader:
        entries = read_sequence(reader, settings.stream.partitions, user, last, context.titles(settings), as_of_ms)
    if as_json:
        _print_json(entries)
        return
    rows = [(when(e.ts_ms), e.action or e.kind, e.item_id or e.attribute, e.title) for e in entries]
    show_table(("time (UTC)", "what", "item or attribute", "title"), rows)


def _kafka(ctx: typer.Context, bootstrap: str | None) -> tuple["Kafka", "StreamSettings"]:
    from stream.kafka.bootstrap import require_kafka

    context: OperationsCliContext = ctx.obj
    settings = context.load({"bootstrap": bootstrap})
    return require_kafka(settings.bootstrap, settings.kafka), settings.stream


def _wanted(reasons: Sequence[str] | None, topics: Sequence[str] | None, ids: Sequence[str] | None = None) -> "Wanted":
    from stream.operations.dead_letters import Wanted, check_reasons

    check_reasons(reasons or ())
    return Wanted(reasons or (), topics or (), ids or ())


def _first(texts: Sequence[str]) -> str:
    from stream.operations.tables import printable

    return printable("; ".join(texts[:3])) + ("; …" if len(texts) > 3 else "")


def _as_json(letter: "Letter") -> dict[str, Any]:
    """Return a letter's fields; bytes as text where they are text, and always as base64."""
    from dataclasses import asdict

    fields = {"id": letter.id, **asdict(letter)}
    for name in ("key", "value"):
        data = fields.pop(name) or b""
        fields |= {name: _text(data), f"{name}_base64": data}
    return fields


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _print_json(value: Any) -> None:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
