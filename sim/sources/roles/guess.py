"""Which column is what, by names and contents, and how sure that is.

    sure      the name is one of its role's, no other column's is as good, and the contents fit
    likely    the contents fit, and the name or the place suggests it
    unsure    there are several, or none

A log is read by a guess only if user, item and time are sure. A column of times of the day, or of hours, is added to
one of dates. A request is a column of that name beside labels or
impressions, whose values each hold several rows of one user at nearly one time.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import polars as pl

from sim.errors import SimError
from sim.sources.roles.names import NAMES, Doubt, Role, best_of, plain_name
from sim.sources.roles.time_columns import time_columns
from sim.sources.rows.actions import ActionReader
from sim.sources.tables.cells import (
    NEGATIVE_LABELS,
    NO_VALUES,
    SHOWN_ACTIONS,
    are_labels,
    holds_lists,
    ids_of,
    numbers_of,
    texts_of,
)
from sim.sources.tables.table import Table
from sim.sources.tables.timestamps import TimeReader, TimeSettings

SAMPLE_ROWS: Final = 20_000
_REQUEST_MS: Final = 3_600_000  # within which the rows of one request lie
_MOST_ACTIONS: Final = 100
_FEW_ACTIONS: Final = 12  # in any number of rows
_REPEATED: Final = 3  # values of items in several rows from which they are no chance
_GAPS: Final = 0.01  # share of rows without an id that is worth another column
_PAGES: Final = ("url", "pageurl", "pageurlpath", "pagepath", "page", "path")
_OF_SITES: Final = ("appid",)  # names of items that are those of a whole site as well
_FEW_ROWS: Final = 20  # in fewer, one value is no sign
_OF_VERBS: Final = ("name", "type", "kind", "verb", "activity", "operation")
_WORDS: Final = (
    "(view|click|cart|basket|order|purchase|buy|play|like|watch|search|checkout|wish|skip|share|read|visit|open|"
    "impression|download|listen|scroll|rate|save|dislike|follow|favou?rite|bookmark|comment|subscribe|install)"
    "(s|d|ed|ing)?"
)
_VERBS: Final = rf"(^|[^a-z]){_WORDS}($|[^a-z])"
_DONE: Final = rf"^(is|has|was|did|num|n|nb|total)?_?{_WORDS}_?(count|cnt|num|label|flag)?$"  # is_click, click_count
_SHOWN: Final = 80  # characters of a row in a sentence
_MOSTLY: Final = 0.5  # share of empty cells from which a column is not surely that of users or items
_KCAT: Final = {"topic", "partition", "offset", "tstype", "ts"}
"""Columns of kcat's envelope, around records whose own columns have the roles."""
SLATES: Final = ("inview", "shown", "clicked", "impressions", "slate", "exposed", "displayed", "candidates")
"""Words in the names of columns of lists that hold slates, or what was clicked of them."""


class Guess(NamedTuple):
    """The roles of a table's columns."""

    roles: dict[str, Role]
    doubts: Sequence[Doubt] = ()
    """What speaks against them."""

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
    """Return the first rows of a table; lists and structs are left as they are."""
    names = table.readable
    bad, first = 0, ""
    for file, batch in table.batches(names, SAMPLE_ROWS):
        if len(batch.frame):
            return batch.frame.select(names).head(SAMPLE_ROWS)
        for row in batch.bad:
            bad += row.rows
            first = first or f"row {row.row} of {file.name} is bad, {row.reason}: {str(row.content)[:_SHOWN]}"
    if bad:
        raise SimError(f"{table.name} has no row that can be read; {first}. All {bad:,} rows are bad.")
    raise SimError(f"{table.name} has no rows; there is nothing to replay.")


def guess(
    sample: pl.DataFrame, named: Mapping[str, Any] = MappingProxyType({}), time_format: str | None = None
) -> Guess:
    """Return what the columns of the first rows are.

    Args:
        sample: The first rows.
        named: Role → column, of those that are known; these columns have no other role.
        time_format: Format of times that are texts, where it is known.
    """
    settings = TimeSettings(format=time_format)
    scalar = [name for name in sample.columns if name not in named.values() and not holds_lists(sample[name])]
    if set(sample.columns) >= _KCAT and any(name.startswith("payload.") for name in scalar):
        scalar = [name for name in scalar if name.startswith("payload.")]
    roles, doubts = time_columns(sample, scalar, named, settings)
    left = [name for name in scalar if name not in {role.column for role in roles.values()}]
    for role in ("action", "rating"):
        fitting = [name for name in left if _fits(role, sample[name])]
        if (best := best_of(role, fitting)) is not None:
            roles[role] = best
            left.remove(best.column)
    if not {"action", "rating"} & set(roles) and (verbs := _of_verbs(sample, left)) is not None:
        roles["action"] = verbs
        left.remove(verbs.column)
    doubts += _of_actions(sample, roles, left, named)
    if "rating" not in roles and (odd := best_of("rating", left)) is not None:
        roles["rating"] = Role(odd.column, "unsure", "its name is one of a rating, but not all its values are numbers")
        left.remove(odd.column)
    left = [name for name in left if _distinct(sample[name])]
    for role in ("user", "item"):
        if (best := best_of(role, left)) is not None:
            roles[role] = _if_filled(best, sample[best.column])
            left.remove(best.column)
    for role in [role for role in ("user", "item") if role in roles]:
        roles[role] = _varied(role, roles[role], sample, left)
        doubts += _of_gaps(role, sample, roles[role].column, left)
    doubts += _of_rivals(sample, roles, left, {doubt.role for doubt in doubts})
    columns = {role: each.column for role, each in roles.items()} | dict(named)
    if (best := best_of("request", [name for name in left if _groups(sample, name, columns, settings)])) is not None:
        roles["request"] = best
        left.remove(best.column)
    if all(name.isdigit() for name in sample.columns):
        _by_place(sample, left, roles)
    return Guess(roles, doubts)


def _of_verbs(sample: pl.DataFrame, columns: Sequence[str], *, few: bool = True) -> Role | None:
    """Return a column of a name or a kind most of whose values, if these are few, are words for actions."""
    for name in columns:
        if re.sub(r"[^a-z]", "", name.lower().rpartition(".")[2]) in _OF_VERBS and (
            not few or _fits("action", sample[name])
        ):
            values = texts_of(sample[name]).drop_nulls().unique().str.replace_all(r"([a-z])([A-Z])", "${1}_$2")
            are_verbs = int(values.str.to_lowercase().str.contains(_VERBS).sum()) * 2 > len(values)
            if are_verbs and not _is_of_items(sample, name, columns):
                return Role(name, "sure", "its values are names of actions")
    return None


def _is_of_items(sample: pl.DataFrame, name: str, columns: Sequence[str]) -> bool:
    """Return whether each item has one value of a column, and some of several values have several rows: its title."""
    item = best_of("item", columns)
    if item is None:
        return False
    pairs = pl.DataFrame({"item": ids_of(sample[item.column]), "value": texts_of(sample[name])}).drop_nulls()
    each = pairs.group_by("item").agg(pl.col("value").first(), values=pl.col("value").n_unique(), rows=pl.len())
    repeated = each.filter(pl.col("rows") > 1)["value"].n_unique()
    return len(each) > 0 and bool((each["values"] == 1).all()) and repeated >= _REPEATED


def _of_actions(
    sample: pl.DataFrame, roles: dict[str, Role], left: list[str], named: Mapping[str, Any]
) -> Iterator[Doubt]:
    """Yield a doubt about a column with a name of actions that has too many values, or mostly none; it has no role."""
    if {"action", "rating"} & set(named):
        return
    found = roles.get("action")
    if found is not None and _are_gaps(sample[found.column]):
        del roles["action"]
        said = (
            f"Column {found.column!r} is empty in {_emptiness(sample[found.column]):.0%} of the rows: --action "
            f"{found.column} --skip-bad all reads the others alone; without it every row is a click."
        )
        yield Doubt("user", said, ("action", "rating"))
    if {"action", "rating"} & set(roles):
        return
    if (many := best_of("action", left) or _of_verbs(sample, left, few=False)) is not None:
        values = _distinct(sample[many.column])
        if values:
            said = (
                f"Column {many.column!r} has {values:,} values in {len(sample):,} rows, more than actions have, and is "
                f"not read: --action {many.column} if it does name them."
            )
            yield Doubt("user", said, ("action", "rating"))
        return
    yield from _of_counts(sample, left)


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


def _of_counts(sample: pl.DataFrame, columns: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt about labels or counts of what was done, which say of some rows that it was not."""
    for name in columns:
        if re.search(_DONE, name.lower().rpartition(".")[2]) is None:
            continue
        values = texts_of(sample[name]).drop_nulls().str.to_lowercase()
        numbers = numbers_of(sample[name].drop_nulls())[0]
        labels = are_labels(values) and values.is_in(NEGATIVE_LABELS).any()
        if labels or (len(numbers) and numbers.is_finite().all() and (numbers == 0).any()):
            mend = f"--action {name}" if labels else "leave out those of 0, or write a row for each"
            said = (
                f"Column {name!r} says of some rows that nothing was done, and is not read, so that each is a click: "
            )
            yield Doubt("user", f"{said}{mend}.", ("action", "rating", "shown"))
            return


def _are_gaps(actions: pl.Series) -> bool:
    """Return whether most cells of a column of actions are empty, and that is no label."""
    by_label = ActionReader(actions.name, None, None, None, [actions]).by_label
    return _emptiness(actions) > _MOSTLY and not by_label


def _of_gaps(role: str, sample: pl.DataFrame, name: str, left: Sequence[str]) -> Iterator[Doubt]:
    """Yield a doubt where another column of a role has ids in many of the rows in which the best one has none."""
    gaps = _are_empty(sample[name])
    if int(gaps.sum()) < max(1, _GAPS * len(sample)):
        return
    others = [each for each in left if plain_name(each) in NAMES[role] and plain_name(each) not in _PAGES]
    filled = {each: int((~_are_empty(sample[each]) & gaps).sum()) for each in others}
    best = max(filled, key=filled.__getitem__, default=None)
    if best is not None and filled[best] * 2 > int(gaps.sum()):
        said = f"Column {name!r} is empty in {int(gaps.sum()) / len(sample):.0%} of the rows, where {best!r} is not: "
        yield Doubt(
            role, f"{said}--{role} {name},{best} takes the first of both.", ("skip_bad",), {role: f"{name},{best}"}
        )


def _are_empty(column: pl.Series) -> pl.Series:
    return ids_of(column).str.to_lowercase().is_in(NO_VALUES).fill_null(True)


def _emptiness(column: pl.Series) -> float:
    """Return the share of empty cells."""
    return int(_are_empty(column).sum()) / max(1, len(column))


def _varied(role: str, found: Role, sample: pl.DataFrame, left: list[str]) -> Role:
    """Return a role, or instead of a column that may name a site or an app another one that has more values."""
    values = _distinct(sample[found.column])
    if len(sample) < _FEW_ROWS or (values > 1 and plain_name(found.column) not in _OF_SITES):
        return found
    better = best_of(role, [name for name in left if _distinct(sample[name]) > values])
    if better is not None:
        left[left.index(better.column)] = found.column
        return better
    return found if values > 1 else Role(found.column, "likely", f"{found.why}, but it holds one value")


def _distinct(column: pl.Series) -> int:
    """Return how many values a column has, those left out by which exports write that there is none."""
    texts = ids_of(column).unique().drop_nulls()
    return int((~texts.str.to_lowercase().is_in(NO_VALUES)).sum())


def _if_filled(role: Role, column: pl.Series) -> Role:
    """Return a role that is only likely where most cells of its column are empty."""
    if role.certainty != "sure" or _emptiness(column) <= _MOSTLY:
        return role
    return Role(role.column, "likely", f"{role.why}, but most of its cells are empty")


def _fits(role: str, column: pl.Series) -> bool:
    if column.dtype in (pl.Binary, pl.Duration):
        return False
    if role == "rating":
        values, _ = numbers_of(column)
        return len(values) > 0 and values.is_finite().sum() >= 0.95 * len(values)
    texts = texts_of(column).drop_nulls()
    return 0 < texts.n_unique() <= min(_MOST_ACTIONS, max(_FEW_ACTIONS, len(texts) // 3))


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


def _by_place(sample: pl.DataFrame, left: list[str], roles: dict[str, Role]) -> None:
    """Guess user and item of a file without a header: the first two columns that hold ids."""
    texts = {name: ids_of(sample[name]).drop_nulls() for name in left}
    missing = {name: column.str.to_lowercase().is_in(NO_VALUES).mean() or 0.0 for name, column in texts.items()}
    ids = [name for name in left if len(texts[name]) and texts[name].n_unique() > 1 and float(missing[name]) < 0.01]  # type: ignore[arg-type]
    for role, name in zip(("user", "item"), ids, strict=False):
        roles[role] = Role(name, "unsure", "it is the first that may hold ids, and there is no header")
