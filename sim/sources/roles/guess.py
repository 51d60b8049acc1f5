"""Which column is what, by names and contents, and how sure that is.

    sure      the name is one of its role's, no other column's is as good, and the contents fit
    likely    the contents fit, and the name or the place suggests it
    unsure    there are several, or none

A log is read by a guess only if user, item and time are sure. A column of times of the day, or of hours, is added to
one of dates. A request is a column of that name beside labels or
impressions, whose values each hold several rows of one user at nearly one time.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import polars as pl

from sim.errors import SimError
from sim.sources.rows.times import DAY_MS, HOURS, belongs_to, clock_of
from sim.sources.tables.cells import NO_VALUES, SHOWN_ACTIONS, are_labels, holds_lists, ids_of, numbers_of, texts_of
from sim.sources.tables.table import Table
from sim.sources.tables.timestamps import AmbiguousTimesError, TimeReader, TimeSettings

Certainty = Literal["sure", "likely", "unsure"]
SAMPLE_ROWS: Final = 20_000
NAMES: Final[dict[str, tuple[str, ...]]] = {  # of the best first; small letters without what is no letter
    "user": ("userid", "user", "uid", "customerid", "visitorid", "memberid", "accountid", "reviewerid", "userpseudoid",
             "domainuserid", "clientid", "deviceid", "sessionid", "session", "anonymousid", "customer", "visitor",
             "steamid", "playerid", "authorid", "profileid", "cookieid", "person", "personid"),
    "item": ("itemid", "item", "iid", "productid", "movieid", "videoid", "articleid", "newsid", "trackid", "songid",
             "businessid", "asin", "aid", "sku", "contentid", "bookid", "adid", "product", "movie", "video", "article",
             "appid", "gameid", "isbn", "postid", "songname", "artistid", "poiid", "venueid", "locationid",
             "url", "pageurl", "pageurlpath", "pagepath", "page", "path"),
    "time": ("ts", "timestamp", "eventtime", "eventtimestamp", "time", "timems", "datetime", "createdat", "created",
             "eventts", "collectortstamp", "unixtime", "date", "dt", "day", "at", "when"),
    "action": ("action", "event", "eventtype", "eventname", "actiontype", "behavior", "behaviortype", "interaction",
               "label", "click", "clicked", "isclick"),
    "rating": ("rating", "stars", "score", "overall", "rate"),
    "request": ("requestid", "request", "reqid", "slateid", "slate", "impressionid", "searchid", "queryid", "listid",
                "recommendationid", "recid", "pageviewid"),
}  # fmt: skip
_REQUEST_MS: Final = 3_600_000  # within which the rows of one request lie
_MOST_ACTIONS: Final = 100
_TIME_MS: Final = 1e11  # March 1973
_OF_SITES: Final = ("appid",)  # names of items that are those of a whole site as well
_FEW_ROWS: Final = 20  # in fewer, one value is no sign
_OF_VERBS: Final = ("name", "type", "kind", "verb", "activity", "operation")
_VERBS: Final = (
    r"(^|[^a-z])(view|click|cart|basket|order|purchase|buy|play|like|watch|search|checkout|wish|skip|share|read|visit|"
    r"open|impression|download|listen|scroll|rate|save)(s|d|ed|ing)?($|[^a-z])"
)
_OF_DAYS: Final = ("day", "date", "dt")
_SHOWN: Final = 80  # characters of a row in a sentence
_MOSTLY: Final = 0.5  # share of empty cells from which a column is not surely that of users or items
_KCAT: Final = {"topic", "partition", "offset", "tstype", "ts"}
"""Columns of kcat's envelope, around records whose own columns have the roles."""
SLATES: Final = ("inview", "shown", "clicked", "impressions", "slate", "exposed", "displayed", "candidates")
"""Words in the names of columns of lists that hold slates, or what was clicked of them."""


class Role(NamedTuple):
    """What a column is."""

    column: str
    certainty: Certainty
    why: str


class Guess(NamedTuple):
    """The roles of a table's columns."""

    roles: dict[str, Role]

    @property
    def sure(self) -> bool:
        """Whether user, item and time are sure."""
        return all(role in self.roles and self.roles[role].certainty == "sure" for role in ("user", "item", "time"))

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
    roles = _times(sample, scalar, named, settings)
    left = [name for name in scalar if name not in {role.column for role in roles.values()}]
    for role in ("action", "rating"):
        fitting = [name for name in left if _fits(role, sample[name])]
        if (best := _best(role, fitting)) is not None:
            roles[role] = best
            left.remove(best.column)
    if not {"action", "rating"} & set(roles) and (verbs := _of_verbs(sample, left)) is not None:
        roles["action"] = verbs
        left.remove(verbs.column)
    if "rating" not in roles and (odd := _best("rating", left)) is not None:
        roles["rating"] = Role(odd.column, "unsure", "its name is one of a rating, but not all its values are numbers")
        left.remove(odd.column)
    left = [name for name in left if _distinct(sample[name])]
    for role in ("user", "item"):
        if (best := _best(role, left)) is not None:
            roles[role] = _if_filled(best, sample[best.column])
            left.remove(best.column)
    for role in [role for role in ("user", "item") if role in roles]:
        roles[role] = _varied(role, roles[role], sample, left)
    columns = {role: each.column for role, each in roles.items()} | dict(named)
    if (best := _best("request", [name for name in left if _groups(sample, name, columns, settings)])) is not None:
        roles["request"] = best
        left.remove(best.column)
    if all(name.isdigit() for name in sample.columns):
        _by_place(sample, left, roles)
    return Guess(roles)


def _plain(name: str) -> str:
    """Return a name in small letters, of a nested field its last part; the last two where one has no role: item.id."""
    parts = [re.sub(r"[^a-z]", "", part) for part in name.lower().partition(":")[0].split(".")]
    known = any(parts[-1] in those for those in NAMES.values())
    return parts[-1] if known else "".join(parts[-2:])


def named_like(role: str, name: str) -> bool:
    """Return whether the name of a column is one of a role."""
    return _plain(name) in NAMES[role]


def _best(role: str, columns: Sequence[str]) -> Role | None:
    """Return the column whose name is best, sure if no other has a name of the role."""
    ranks = {name: NAMES[role].index(_plain(name)) for name in columns if _plain(name) in NAMES[role]}
    if not ranks:
        return None
    best = min(ranks, key=ranks.__getitem__)
    rivals = [name for name in ranks if name != best and _plain(name) == _plain(best)]
    if rivals:
        return Role(best, "unsure", f"as {rivals[0]} its name is one of a {role}")
    return Role(best, "sure", f"its name is one of a {role}")


def _of_verbs(sample: pl.DataFrame, columns: Sequence[str]) -> Role | None:
    """Return a column of a name or a kind most of whose values are words for actions."""
    for name in columns:
        if re.sub(r"[^a-z]", "", name.lower().rpartition(".")[2]) in _OF_VERBS and _fits("action", sample[name]):
            values = texts_of(sample[name]).drop_nulls().unique().str.replace_all(r"([a-z])([A-Z])", "${1}_$2")
            if int(values.str.to_lowercase().str.contains(_VERBS).sum()) * 2 > len(values):
                return Role(name, "sure", "its values are names of actions")
    return None


def _varied(role: str, found: Role, sample: pl.DataFrame, left: list[str]) -> Role:
    """Return a role, or instead of a column that may name a site or an app another one that has more values."""
    values = _distinct(sample[found.column])
    if len(sample) < _FEW_ROWS or (values > 1 and _plain(found.column) not in _OF_SITES):
        return found
    better = _best(role, [name for name in left if _distinct(sample[name]) > values])
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
    empty = ids_of(column).str.to_lowercase().is_in(NO_VALUES).fill_null(True)
    if role.certainty != "sure" or int(empty.sum()) <= _MOSTLY * len(column):
        return role
    return Role(role.column, "likely", f"{role.why}, but most of its cells are empty")


def _times(
    sample: pl.DataFrame, columns: Sequence[str], named: Mapping[str, Any], settings: TimeSettings
) -> dict[str, Role]:
    """Return the column of times; where it holds dates, also one of times of the day, if there is one."""
    clocks = {name: clock for name in columns if (clock := clock_of(sample[name])) is not None}
    given = named.get("time")
    dates: str | None = given if given in sample.columns and not holds_lists(sample[given]) else None
    roles = dict[str, Role]()
    if given is None:
        found = _time(sample, [name for name in columns if name not in clocks], settings)
        if clocks and (found is None or found.certainty == "unsure"):
            found = _time(sample, columns, settings)
        if found is None:
            return {}
        days = sample[found.column]
        if (
            _plain(found.column) in _OF_DAYS
            and _times_in(days, settings) == "times"
            and not _is_epoch_or_date(days, settings)
        ):
            found = Role(found.column, "unsure", "its name is one of dates, but its values are small numbers")
        roles["time"], dates = found, found.column
        clocks.pop(found.column, None)
    if "time_offset" in named or dates is None or not clocks or not _are_dates(sample[dates], settings):
        return roles
    own = [name for name in clocks if belongs_to(name, dates)]
    fine = [name for name in own if clocks[name] != HOURS] or own
    best = (fine or list(clocks))[0]
    certainty: Certainty = "sure" if len(fine) == 1 else "unsure"
    return {**roles, "time_offset": Role(best, certainty, f"it holds {clocks[best]}, and {dates} dates")}


def _are_dates(column: pl.Series, settings: TimeSettings) -> bool:
    """Return whether times are whole days, later than 1973."""
    if _times_in(column, settings) != "times" or not _is_epoch_or_date(column, settings):
        return False
    given = column.drop_nulls()
    ts_ms, _ = TimeReader(settings, given, "the log").read(given)
    return bool((ts_ms.drop_nulls() % DAY_MS == 0).all())


def _time(sample: pl.DataFrame, columns: Sequence[str], settings: TimeSettings) -> Role | None:
    """Return the column of times; where none is plainly one, one whose times may be read in two ways."""
    holds = {name: _times_in(sample[name], settings) for name in columns}
    for wanted in ("times", "ambiguous times"):
        times = [name for name in columns if holds[name] == wanted]
        if (found := _best("time", times)) is not None:
            return found
        strong = [name for name in times if wanted != "times" or _is_epoch_or_date(sample[name], settings)]
        if strong:
            return Role(strong[0], "likely" if len(strong) == 1 else "unsure", f"its values are {wanted}")
    return None


def _times_in(column: pl.Series, settings: TimeSettings) -> Literal["times", "ambiguous times", "others"]:
    """Return what most values of a column are."""
    given = column.drop_nulls()
    if not len(given) or column.dtype in (pl.Boolean, pl.Binary):
        return "others"
    try:
        ts_ms, faults = TimeReader(settings, given, "the log").read(given)
    except AmbiguousTimesError:
        return "ambiguous times"
    except SimError:
        return "others"
    wrong = pl.Series([False]).new_from_index(0, len(given))
    for fault in faults:
        wrong = wrong | fault.wrong
    return "times" if len(ts_ms) and wrong.mean() < 0.5 else "others"  # type: ignore[operator]


def _is_epoch_or_date(column: pl.Series, settings: TimeSettings) -> bool:
    """Return whether values are times that numbers by chance are not: dates, or later than 1973."""
    given = column.drop_nulls()
    ts_ms, _ = TimeReader(settings, given, "the log").read(given)
    numbers = given.cast(pl.Float64, strict=False).drop_nulls() if given.dtype == pl.String else None
    plain = given.dtype.is_numeric() or (numbers is not None and len(numbers) * 2 > len(given))
    median = ts_ms.drop_nulls().median()
    early = not isinstance(median, float | int) or float(median) < _TIME_MS
    return not (plain and early)


def _fits(role: str, column: pl.Series) -> bool:
    if column.dtype in (pl.Binary, pl.Duration):
        return False
    if role == "rating":
        values, _ = numbers_of(column)
        return len(values) > 0 and values.is_finite().sum() >= 0.95 * len(values)
    texts = texts_of(column).drop_nulls()
    return 0 < texts.n_unique() <= min(_MOST_ACTIONS, max(2, len(texts)))


def _groups(sample: pl.DataFrame, name: str, columns: Mapping[str, str], settings: TimeSettings) -> bool:
    """Return whether a column has a name of requests and its values group what was shown to a user at once."""
    needed = [columns.get(role) for role in ("user", "action", "time")]
    if _plain(name) not in NAMES["request"] or any(column not in sample.columns for column in needed):
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
