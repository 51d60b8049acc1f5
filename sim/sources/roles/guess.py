"""Which column is what, by names and contents, and how sure that is.

    sure      the name is one of its role's, no other column's is as good, and the contents fit
    likely    the contents fit, and the name or the place suggests it
    unsure    there are several, or none

A log is read by a guess only if user, item and time are sure. A column of times of the day, or of hours, is added to
one of dates. A request is a column of that name beside labels or
impressions, whose values each hold several rows of one user at nearly one time.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import polars as pl

from sim.errors import SimError
from sim.sources.roles import action_columns
from sim.sources.roles.contents import are_empty, distinct, emptiness, words_of
from sim.sources.roles.envelopes import inner_columns
from sim.sources.roles.names import NAMES, Doubt, Role, best_of, plain_name
from sim.sources.roles.time_columns import lone_time, time_columns
from sim.sources.tables import json_lines
from sim.sources.tables.cells import NO_VALUES, SHOWN_ACTIONS, are_labels, holds_lists, ids_of, texts_of
from sim.sources.tables.table import Table
from sim.sources.tables.timestamps import TimeReader, TimeSettings

SAMPLE_ROWS: Final = 20_000
_REQUEST_MS: Final = 3_600_000  # within which the rows of one request lie
_GAPS: Final = 0.01  # share of rows without an id that is worth another column
_PAGES: Final = ("url", "pageurl", "pageurlpath", "pagepath", "page", "path")
_WEAK: Final = {"user": ("clientid", "deviceid", "sessionid", "session", "anonymousid", "cookieid"), "item": _PAGES}
"""Names of columns that are a role only where there is no better one."""
_IDS: Final = (
    r"(id|code|number|no|nr|key|hash|token|mail|username|account|login|msisdn|phone|subscriber|member|customer)$"
)
_OTHERS: Final = (
    r"order|transaction|event|message|insert|request|impression|query|search|log|row|hit|trace|country|city|region|zip|"
    r"postal|lang|currency|site|store|shop|platform|os|browser|categor|brand|class|group|version|tenant|segment|index|"
    r"status|referr|utm|ip|"
)
"""Words in the names of ids that are those of neither users nor items."""
_NOT_OF: Final = {
    "user": rf"{_OTHERS}item|product|article|page|url|session|device|campaign|app|channel|type",
    "item": rf"{_OTHERS}user|customer|session|visitor|account|mail|device|client|member|anon|cookie|person|login|page",
}
_ONCE: Final = 0.95  # share of rows with a value of their own from which a column numbers rows
_OF_SITES: Final = ("appid",)  # names of items that are those of a whole site as well
_FEW_ROWS: Final = 20  # in fewer, one value is no sign
_ANY_TIMES: Final = TimeSettings()
_SHOWN: Final = 80  # characters of a row in a sentence
_MOSTLY: Final = 0.5  # share of empty cells from which a column is not surely that of users or items
SLATES: Final = ("inview", "shown", "clicked", "impressions", "slate", "exposed", "displayed", "candidates")
"""Words in the names of columns of lists that hold slates, or what was clicked of them."""


class Guess(NamedTuple):
    """The roles of a table's columns."""

    roles: dict[str, Role]
    doubts: Sequence[Doubt] = ()
    """What speaks against them."""
    unread: str = ""
    """A sentence about columns that may say that a row is no click."""

    @property
    def sure(self) -> bool:
        """Whether user, item and time are sure, and nothing speaks against it."""
        return not self.doubts and all(
            role in self.roles and self.roles[role].certainty == "sure" for role in ("user", "item", "time")
        )

    @property
    def flags(self) -> dict[str, Any]:
        """The flags that read the table so; roles that are unsure are left out."""
        return self._flags("rating")

    @property
    def rated_flags(self) -> dict[str, Any]:
        """The same with ratings where there are actions as well."""
        return self._flags("action")

    def _flags(self, less: str) -> dict[str, Any]:
        found = {role: each.column for role, each in self.roles.items() if each.certainty != "unsure"}
        if {"action", "rating"} <= set(found):
            del found[less]
        for doubt in self.doubts:
            found |= doubt.flags
        return found


def sample_of(table: Table) -> pl.DataFrame:
    """Return the first rows of a table, of JSON with its usual fields; lists and structs are left as they are."""
    names = table.readable
    if table.files[0].kind == "json":
        names = json_lines.usual(names, table.files[0].lines)
    bad, first = 0, ""
    for file, batch in table.batches(names, SAMPLE_ROWS):
        if len(batch.frame):
            return batch.frame.select(names).head(SAMPLE_ROWS)
        for row in batch.bad:
            bad += row.rows
            first = first or f"row {row.row} of {file.name} is bad, {row.reason}: {str(row.content)[:_SHOWN]}"
    if bad:
        raise SimError(
            f"{table.name} has no row that can be read; {first}. All {bad:,} rows are bad.{_cut(table, first)}"
        )
    raise SimError(f"{table.name} has no rows; there is nothing to replay.")


def _cut(table: Table, first: str) -> str:
    """Return what to do about a table all of whose rows have more cells than its header."""
    file = table.files[0]
    if "more cells" not in first or file.kind != "delimited" or len(file.dialect.separator) > 1:
        return ""
    width = len(file.dialect.columns)
    cut = f"cut -d{shlex.quote(file.dialect.separator)} -f1-{width} LOG > log.csv"
    return f" {cut} keeps the first {width} cells of each; or write a header with a name for each cell."


def guess(
    sample: pl.DataFrame, named: Mapping[str, Any] = MappingProxyType({}), settings: TimeSettings = _ANY_TIMES
) -> Guess:
    """Return what the columns of the first rows are.

    Args:
        sample: The first rows.
        named: Role → column, of those that are known; these columns have no other role.
        settings: What is known of the times.
    """
    inner = [name for name in inner_columns(sample.columns) if name not in named.values()]
    scalar = [name for name in inner if not holds_lists(sample[name])]
    roles, doubts = time_columns(sample, scalar, named, settings)
    left = [name for name in scalar if name not in {role.column for role in roles.values()}]
    roles |= action_columns.by_name(sample, left)
    left = [name for name in left if name not in {role.column for role in roles.values()}]
    doubts += action_columns.too_many(sample, roles, left, named)
    if "rating" not in roles and (odd := best_of("rating", left)) is not None:
        roles["rating"] = Role(odd.column, "unsure", "its name is one of a rating, but not all its values are numbers")
        left.remove(odd.column)
    left = [name for name in left if distinct(sample[name])]
    for role in ("user", "item"):
        if (best := best_of(role, left)) is not None:
            roles[role] = _filled(role, best, sample, left)
            left.remove(roles[role].column)
    for role in [role for role in ("user", "item") if role in roles]:
        roles[role] = _varied(role, roles[role], sample, left)
        doubts += _of_gaps(role, sample, roles[role].column, left)
        doubts += _of_weak(role, sample, roles[role].column, left)
    doubts += _of_rivals(sample, roles, left, {doubt.role for doubt in doubts})
    roles |= _lone_time(sample, roles, named, settings)
    acts = {"action", "rating", "shown", "clicked"} & {*roles, *named} or _asked(doubts)
    if not acts and (found := _by_cells(sample, roles, doubts, left, named)) is not None:
        roles["action"] = found
        left.remove(found.column)
    columns = {role: each.column for role, each in roles.items()} | dict(named)
    if (best := best_of("request", [name for name in left if _groups(sample, name, columns, settings)])) is not None:
        roles["request"] = best
        left.remove(best.column)
    if all(name.isdigit() for name in sample.columns):
        _by_place(sample, left, roles, [role for role in ("user", "item") if role not in named])
    left = [name for name in left if name not in {role.column for role in roles.values()}]
    if acts or "action" in roles or _asked(doubts):
        own = roles.get("action") or roles.get("rating")
        if own is None or {"action", "rating", "shown", "clicked"} & set(named):
            return Guess(roles, doubts)
        return Guess(roles, doubts, action_columns.beside(sample, left, own.column))
    unread = action_columns.unread(sample, left, _item(sample, roles, named))
    return Guess(roles, [*doubts, *unread.doubts], unread.said)


def _asked(doubts: Sequence[Doubt]) -> bool:
    """Return whether it is asked already which column holds the actions."""
    return any("action" in doubt.unless for doubt in doubts)


def _by_cells(
    sample: pl.DataFrame, roles: Mapping[str, Role], doubts: list[Doubt], left: Sequence[str], named: Mapping[str, Any]
) -> Role | None:
    """Return the column whose cells are names of actions; add a doubt where there are several."""
    found, more = action_columns.by_cells(sample, left, _item(sample, roles, named))
    doubts += more
    return found


def _item(sample: pl.DataFrame, roles: Mapping[str, Role], named: Mapping[str, Any]) -> str | None:
    item = named.get("item") or (roles["item"].column if "item" in roles else None)
    return item if item in sample.columns else None


def _lone_time(
    sample: pl.DataFrame, roles: Mapping[str, Role], named: Mapping[str, Any], settings: TimeSettings
) -> dict[str, Role]:
    """Return the one column of times as a sure one, whatever its name, where user and item are."""
    time = roles.get("time")
    sure = {role: each.column for role, each in roles.items() if each.certainty == "sure"} | dict(named)
    if time is None or time.certainty != "likely" or not {"user", "item"} <= set(sure):
        return {}
    ids = [sure[role] for role in ("user", "item") if sure[role] in sample.columns]
    return {"time": time._replace(certainty="sure")} if lone_time(sample, time.column, ids, settings) else {}


def _filled(role: str, best: Role, sample: pl.DataFrame, left: Sequence[str]) -> Role:
    """Return a role, or instead of a column that is mostly empty another one without gaps; else it is only likely."""
    column = sample[best.column]
    if best.certainty == "sure" and plain_name(best.column) == "uuid" and _are_rows(column):
        return Role(best.column, "likely", f"{best.why}, but each row has another value")
    if best.certainty != "sure" or emptiness(column) <= _MOSTLY:
        return best
    full = [name for name in left if not are_empty(sample[name]).any() and plain_name(name) not in _WEAK[role]]
    if (other := best_of(role, full)) is not None:
        return Role(other.column, "sure", f"{other.why}, and {best.column} is empty in most rows")
    return Role(best.column, "likely", f"{best.why}, but most of its cells are empty")


def _are_rows(column: pl.Series) -> bool:
    return len(column) >= _FEW_ROWS and distinct(column) >= _ONCE * len(column)


def _of_weak(role: str, sample: pl.DataFrame, name: str, left: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt about a session, a device or a page as user or item, where another column may hold their ids."""
    if plain_name(name) not in _WEAK[role] or len(sample) < _FEW_ROWS:
        return
    least = distinct(sample[name]) / (10 if role == "user" else 1)  # a user has several sessions
    named = [each for each in left if re.search(_IDS, plain_name(each)) and not _is_other(role, each)]
    ids = [each for each in named if distinct(sample[each]) > least and not _are_rows(sample[each])]
    if ids:
        best = max(ids, key=lambda each: distinct(sample[each]))
        said = f"Column {name!r} may be the {role}, and {best!r} as well: name the right one by --{role}."
        yield Doubt(role, said, (), {role: name}, {role: best})


def _is_other(role: str, name: str) -> bool:
    stems = _NOT_OF[role].split("|")
    alike = any(
        word == stem or (len(stem) > 4 and word.startswith(stem))
        for word in words_of(name).split("_")
        for stem in stems
    )
    return alike or plain_name(name) in NAMES["request"]


def _of_rivals(
    sample: pl.DataFrame, roles: dict[str, Role], left: Sequence[str], decided: Collection[str]
) -> Iterator[Doubt]:
    """Yield doubts about roles for which several columns have a name, and that hold different values."""
    for role in ("user", "item", "time"):
        found = roles.get(role)
        if found is None or found.certainty != "unsure" or plain_name(found.column) not in NAMES[role]:
            continue
        ids = ids_of(sample[found.column])
        alike = [name for name in left if plain_name(name) == plain_name(found.column)]
        rivals = [name for name in alike if not ids_of(sample[name]).eq_missing(ids).all()]
        if alike and not rivals:
            roles[role] = Role(found.column, "sure", f"{found.why}, and both hold the same")
        elif rivals and role not in decided:
            said = f"Column {found.column!r} may be the {role}, and {rivals[0]!r} as well, which holds other values."
            yield Doubt(role, said, (), {role: found.column})


def _of_gaps(role: str, sample: pl.DataFrame, name: str, left: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt where another column of a role has ids in many of the rows in which the best one has none."""
    gaps = are_empty(sample[name])
    if int(gaps.sum()) < max(1, _GAPS * len(sample)):
        return
    others = [each for each in left if plain_name(each) in NAMES[role] and plain_name(each) not in _PAGES]
    filled = {each: int((~are_empty(sample[each]) & gaps).sum()) for each in others}
    best = max(filled, key=filled.__getitem__, default=None)
    if best is not None and filled[best] * 2 > int(gaps.sum()):
        said = f"Column {name!r} is empty in {int(gaps.sum()) / len(sample):.0%} of the rows, where {best!r} is not: "
        yield Doubt(
            role, f"{said}--{role} {name},{best} takes the first of both.", ("skip_bad",), {role: f"{name},{best}"}
        )


def _varied(role: str, found: Role, sample: pl.DataFrame, left: list[str]) -> Role:
    """Return a role, or instead of a column that may name a site or an app another one that has more values."""
    values = distinct(sample[found.column])
    if len(sample) < _FEW_ROWS or (values > 1 and plain_name(found.column) not in _OF_SITES):
        return found
    better = best_of(role, [name for name in left if distinct(sample[name]) > values])
    if better is not None:
        left[left.index(better.column)] = found.column
        return better
    return found if values > 1 else Role(found.column, "likely", f"{found.why}, but it holds one value")


def _groups(sample: pl.DataFrame, name: str, columns: Mapping[str, str], settings: TimeSettings) -> bool:
    """Return whether a column has a name of requests and its values group what was shown to a user at once."""
    needed = [columns.get(role) for role in ("user", "action", "time")]
    if plain_name(name) not in NAMES["request"] or any(column not in sample.columns for column in needed):
        return False
    user, action, time = (sample[column] for column in needed if column is not None)
    actions = texts_of(action).str.to_lowercase().str.strip_chars()
    if not are_labels(actions) and not actions.is_in(SHOWN_ACTIONS).any():
        return False
    try:
        ts, _ = TimeReader(settings, time, "the log").read(time)
    except SimError:
        return False
    rows = pl.DataFrame({"request": ids_of(sample[name]), "user": ids_of(user), "ts": ts}).drop_nulls()
    if rows.is_empty():
        return False
    groups = rows.group_by("user", "request").agg(
        n=pl.len(), near=pl.col("ts").max() - pl.col("ts").min() < _REQUEST_MS
    )
    return len(rows) > 1.2 * len(groups) and int(groups["near"].sum()) >= 0.95 * len(groups)


def _by_place(sample: pl.DataFrame, left: list[str], roles: dict[str, Role], wanted: Sequence[str]) -> None:
    """Guess user and item of a file without a header: the first columns that hold ids, and no labels or ratings."""
    texts = {name: ids_of(sample[name]).drop_nulls() for name in left}
    missing = {name: column.str.to_lowercase().is_in(NO_VALUES).mean() or 0.0 for name, column in texts.items()}
    ids = [name for name in left if len(texts[name]) and texts[name].n_unique() > 1 and float(missing[name]) < _GAPS]  # type: ignore[arg-type]
    ids.sort(key=lambda name: action_columns.kind_of(sample[name]) != "")
    for role, name in zip(wanted, ids, strict=False):
        likely = "time" in roles and len(ids) >= len(wanted)
        why = "it is the first that may hold ids, and there is no header"
        roles[role] = Role(name, "likely" if likely else "unsure", why)
