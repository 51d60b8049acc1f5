"""From the flags that were given to those that a log is read by: of a known log, of a guess, or as they are."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl

from sim.errors import SimError
from sim.log_flags import flag_of
from sim.sources.roles.flag_values import with_known
from sim.sources.roles.guess import SAMPLE_ROWS, SLATES, Guess, guess, sample_of
from sim.sources.roles.known import known_log, recognised
from sim.sources.roles.names import Doubt, named_like
from sim.sources.tables.cells import holds_lists, numbers_of
from sim.sources.tables.table import Table
from sim.sources.tables.timestamps import TimeSettings

DEFAULTS: Final = {"user": "user_id", "item": "item_id", "time": "ts"}
"""Columns of the roles that have one without a flag or a guess."""
ROLES: Final = ("user", "item", "time", "time_offset", "action", "rating", "request", "shown", "clicked", "explode")
OF_RATINGS: Final = ("rating_as", "positive_from")
"""Flags that speak of a column of ratings, so that it is one where a column of actions is there as well."""


class Resolved(NamedTuple):
    """The flags that a log is read by."""

    flags: dict[str, Any]
    said: str
    """A sentence about where they come from; empty if they were given."""
    doubts: Sequence[Doubt] = ()
    """What speaks against those that were guessed; no flag decides it."""


def resolve(table: Table, flags: Mapping[str, Any]) -> Resolved:
    """Return the flags of a log.

    Args:
        table: The log, opened by the given flags.
        flags: Those that were given, without None; `read_as` names a known log.

    Raises:
        SimError: There is no such known log, or no catalogue of which a flag speaks.
    """
    given = {name: value for name, value in flags.items() if name != "read_as"}
    rated = any(name in given for name in OF_RATINGS)
    if (name := flags.get("read_as")) is not None:
        known = known_log(name)
        own = with_known(known.flags_for(table), given)
        return Resolved(own | given, f"Read as {known.name}: {known.about}.")
    with_known({}, given)
    named: dict[str, Any] = {role: given[role] for role in ROLES if role in given}
    if named:
        sample = sample_of(table)
        found = _guess(table, sample, taken(table, named), given)
        own = _besides(found, named, rated=rated)
        said = f"Other columns by their names: {written(own)}." if own else ""
        left, decided = _doubts(found, given)
        decided += _passed_over(found, own | given)
        if left:
            own |= {role: found.roles[role].column for role in DEFAULTS if role in found.roles and role not in named}
        own |= {flag: value for doubt in left for flag, value in doubt.flags.items()}
        return Resolved(own | given, (said + decided).strip(), left)
    if (seen := recognised(table)) is not None:
        own = with_known(seen.flags_for(table), given)
        return Resolved(own | given, f"Recognised as {seen.name}: {seen.about}. It is read by {written(own)}.")
    sample = sample_of(table)
    guessed = _guess(table, sample, {}, given)
    left, decided = _doubts(guessed, given)
    guessed = Guess(guessed.roles, left, guessed.unread)
    own = guessed.rated_flags if rated else guessed.flags
    more = decided + _passed_over(guessed, own | given)
    plain = set(DEFAULTS.values()) <= set(table.columns)
    if left and (plain or set(DEFAULTS) <= set(own)):
        return Resolved(own | given, "", left)
    if not guessed.sure:
        if not plain and set(DEFAULTS) <= set(own):
            return Resolved(own | given, "", _unsure(guessed))
        own = _besides(guessed, DEFAULTS, rated=rated) if plain else {}
        said = f"Other columns by their names: {written(own)}." if own else ""
        return Resolved(own | given, (said + more).strip())
    return Resolved(own | given, f"Columns by their names: {written(own)}.{more}")


def _passed_over(found: Guess, flags: Mapping[str, Any]) -> str:
    """Return a sentence about what is not read by these flags, and may say otherwise of the rows; or nothing."""
    said = f" {found.unread}" if found.unread else ""
    acts = next((role for role in ("action", "rating", "shown") if role in flags), "")
    other = {"action": "rating", "rating": "action"}.get(acts, "")
    if other not in found.roles or found.roles[other].certainty == "unsure":
        return said
    column = found.roles[other].column
    return f"{said} Column {column!r} is not read beside --{acts} {flags[acts]}: --{other} {column} reads it instead."


def _guess(table: Table, sample: pl.DataFrame, named: Mapping[str, Any], given: Mapping[str, Any]) -> Guess:
    """Return a guess, in doubt where columns that are not read may have a role."""
    found = guess(sample, named, times_of(given))
    sure = {role for role, each in found.roles.items() if each.certainty != "unsure"}
    acts = {"action", "rating", "shown", "clicked"} & {*sure, *named}
    late = _late(table, sample, named, [*(() if acts else ("action", "rating")), "request"])
    unread = _unread(found, sample, named, acts, rated=not set(OF_RATINGS).isdisjoint(given))
    return Guess(found.roles, [*found.doubts, *late, *unread], found.unread)


def _unsure(found: Guess) -> list[Doubt]:
    """Return a doubt for each role that a log needs and that is not sure."""
    needed = {role: found.roles[role] for role in DEFAULTS if found.roles[role].certainty != "sure"}
    return [
        Doubt(role, f"Column {each.column!r} is {each.certainty} the {role}: {each.why}.")
        for role, each in needed.items()
    ]


def _late(table: Table, sample: pl.DataFrame, named: Mapping[str, Any], roles: Sequence[str]) -> Iterator[Doubt]:
    """Yield doubts about columns with names of roles that the first rows or the first file lack."""
    late = {name: f"is in {owner} and not in {table.files[0].name}" for name, owner in table.later_columns.items()}
    if len(sample) == SAMPLE_ROWS:
        empty = [name for name in sample.columns if sample[name].null_count() == len(sample)]
        late |= {name: f"has no value in the first {len(sample):,} rows" for name in empty}
    for name, why in late.items():
        role = next((role for role in roles if named_like(role, name)), None)
        if role is not None and role not in named and name not in named.values():
            said = f"Column {name!r} {why}, so that it is not read: name it by --{role}, or leave it out by --user."
            yield Doubt("user", said, (role,))


def _doubts(found: Guess, given: Mapping[str, Any]) -> tuple[list[Doubt], str]:
    """Return the doubts that no flag decides, and sentences about those that the name of a column decided."""
    open_ = [doubt for doubt in found.doubts if not set(doubt.unless) & set(given)]
    left = [doubt for doubt in open_ if doubt.role not in given]
    return left, "".join(f" {doubt.said}" for doubt in open_ if doubt.role in given)


def proposals(resolved: Resolved) -> list[dict[str, Any]]:
    """Return the flags of the lines that may be meant, the likeliest first; none where a role has no column."""
    needed = [role for role in DEFAULTS if role != "item" or "shown" not in resolved.flags]
    if not set(needed) <= set(resolved.flags):
        return []
    lines = [dict(resolved.flags)]
    for other in (doubt.other for doubt in resolved.doubts if doubt.other):
        line = {flag: value for flag, value in {**resolved.flags, **other}.items() if value is not None}
        if line not in lines:
            lines.append(line)
    return lines


def refusal(table: Table, resolved: Resolved, lines: Sequence[Mapping[str, Any]]) -> SimError:
    """Return why a log is not read by flags that are in doubt.

    Args:
        table: The log.
        resolved: What is in doubt.
        lines: The flags of lines that read it; the last is printed at the end.
    """
    log = "LOG" if table.name.endswith(" more") else shlex.quote(table.name)
    if table.files[0].file.is_stdin:
        log = "-"
    replays = " or ".join(f"hstu replay {log} {written(flags)}" for flags in lines)
    file = table.files[0]
    first = f"In {file.name}, {file.dialect.numbered}. " if file.kind == "delimited" and not file.dialect.header else ""
    doubts = first + " ".join(doubt.said for doubt in resolved.doubts)
    which = (
        "The line that reads it as guessed, without what is not read" if len(lines) == 1 else "One of these reads it"
    )
    more = f"{which}: {replays}" if replays else f"hstu inspect {log} says more."
    return SimError(f"{table.name} can be read in several ways. {doubts} {more}")


def taken(table: Table, flags: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that flags name, and exploded objects; an exploded list of plain values may have a role."""
    named = dict[str, str]()
    for role in ROLES:
        if role in flags and role != "explode":
            first, *others = alternatives(str(flags[role]), table.columns)
            named |= {role: first} | {f"{role} or {name}": name for name in others}
    objects = [name for name in table.settings.exploded if any(each.startswith(f"{name}.") for each in table.columns)]
    return named | {f"explode {name}": name for name in objects}


def _unread(
    found: Guess, sample: pl.DataFrame, named: Mapping[str, Any], acts: Collection[str], *, rated: bool
) -> Iterator[Doubt]:
    """Yield doubts about columns that are not read, and would make other events.

    Args:
        found: The guess.
        sample: The first rows.
        named: Role → column, of those that flags name.
        acts: Roles that say what was done.
        rated: Whether flags speak of ratings.
    """
    rating = found.roles.get("rating")
    if rating is not None and rating.certainty != "sure" and not acts:
        said = f"Column {rating.column!r} is not read, so that every row is a click: {rating.why} (--rating)."
        values, _ = numbers_of(sample[rating.column])
        mostly = int(values.is_finite().sum()) * 2 > len(values)
        reads = {"rating": rating.column} if rated or mostly else {}
        yield Doubt("user", said, ("action", "rating", "shown"), reads, dict.fromkeys(reads))
    lists = [name for name in sample.columns if holds_lists(sample[name]) and any(word in name for word in SLATES)]
    lists += [name for name in sample.columns if name not in named.values() and are_slates(sample[name])]
    if lists:
        said = (
            f"The lists {', '.join(lists)} are not read: --shown names those of slates, --clicked what was clicked of "
            "them, --explode makes each element of a list in JSON or Parquet a row."
        )
        yield Doubt("user", said, ("shown", "explode"))


def are_slates(column: pl.Series) -> bool:
    """Return whether a column of texts is by its name one of slates, and most of its cells hold several ids."""
    if column.dtype != pl.String or not any(word in column.name.lower() for word in SLATES):
        return False
    given = column.drop_nulls().str.strip_chars()
    return len(given) > 0 and int(given.str.contains(r"[^\s,;|][\s,;|]+[^\s,;|]").sum()) * 2 > len(given)


def _besides(found: Guess, named: Mapping[str, Any], *, rated: bool) -> dict[str, Any]:
    """Return the columns of roles that were not named, and that are sure; of actions also what cells say."""
    own = {
        role: each.column
        for role, each in found.roles.items()
        if role not in named and (each.certainty == "sure" or (role == "action" and each.certainty == "likely"))
    }
    slates = {"shown", "clicked"} & set(named)
    if slates or {"action", "rating"} & set(named):
        own = {role: column for role, column in own.items() if role not in ("action", "rating")}
    elif {"action", "rating"} <= set(own):
        own.pop("action" if rated else "rating")
    if slates:
        own.pop("request", None)
        own.pop("item", None)
    return {role: column for role, column in own.items() if column != DEFAULTS.get(role)}


def times_of(flags: Mapping[str, Any]) -> TimeSettings:
    """Return what flags say of texts of times."""
    return TimeSettings(format=flags.get("time_format"), zone=flags.get("time_zone"))


def alternatives(flag: str, there: Collection[str]) -> list[str]:
    """Return the columns that a flag names: one, or several with commas between."""
    return [flag] if flag in there else [name.strip() for name in flag.split(",")]


def written(flags: Mapping[str, Any]) -> str:
    """Return flags as they are typed in a shell."""
    return " ".join(_written(name, value) for name, value in flags.items() if value is not None and value is not False)


def _written(name: str, value: Any) -> str:
    if name == "header":
        return "--header" if value else "--no-header"
    if value is True:
        return flag_of(name)
    return f"{flag_of(name)} {shlex.quote(str(value))}"
