"""Which column says what was done, by its name or by its cells; and which may say so, and are not read.

Without one each row is a click, so a column of labels, ratings or codes of actions that is not read makes a guess
doubtful where its name says what it is, and is named otherwise.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import polars as pl

from sim.sources.roles.contents import (
    are_empty,
    are_few,
    are_numbers,
    distinct,
    emptiness,
    follows,
    values_of,
    words_of,
)
from sim.sources.roles.names import Doubt, Role, best_of
from sim.sources.rows.actions import ActionReader
from sim.sources.tables.cells import NEGATIVE_LABELS, are_labels, numbers_of, texts_of

_MOSTLY: Final = 0.5  # share of empty cells from which a column holds no actions
_NAMED: Final = 5
_LISTED: Final = 3
_OF_VERBS: Final = ("name", "type", "kind", "verb", "activity", "operation")
_WORDS: Final = (
    "(view|click|cart|basket|order|purchase|buy|play|like|watch|search|checkout|wish|skip|share|read|visit|open|"
    "impression|download|listen|scroll|rate|save|dislike|follow|favou?rite|bookmark|comment|subscribe|install|"
    "show|display|expose|exposure|engage|add|remove|convert|conversion|transaction|sale|return|refund|cancel|delete|"
    "complete|dismiss|hide|tap)(s|d|n|ed|ing|led)?"
)
_CODES: Final = "imp|imps|clk|pv|fav|bought|sold|seen|addtocart"
_VERBS: Final = rf"(^|[^a-z])({_WORDS}|{_CODES})($|[^a-z])"
_DONE: Final = rf"^(is|has|was|did|num|n|nb|total)?_?{_WORDS}_?(count|cnt|num|label|flag)?$"  # is_click, click_count
_PLACES: Final = r"page|source|medium|channel|placement|referr|surface|section|module|device|categor|genre|title|query"
"""Words in the names of columns whose cells, such as search and cart, are where something was done."""
_LABELS: Final = (
    r"(^|_)(click|clk|lik(e|ed)|label|target|recommend|votes?($|_)|voted|thumb|convert|conversion|purchas|bought|buy|"
    r"ordered$|^order$|book(ed|ing)|response|feedback|reward|relevan|engag|interest|install|subscri|follow|sav(e|ed)$|"
    r"positive|y$)"
)
_UNDONE: Final = (
    r"^_*(non|not_|no_|un(lik|click|subs))|(^|_)(return|cancel|refund|skip|hide|hidden|delet|dismiss|dislik|remov|not|"
    r"abandon|unsubscri|show|impress|expos|display)"
)
_RATINGS: Final = (
    r"(^|_)(rat(e|ed|ing|ings)|stars?|scores?|grade|preference|votes?|response|feedback|reward|relevan\w*|label|target|"
    r"interest(ed)?)($|_)"
)
_OF_ACTIONS: Final = (
    r"(^|_)((re|inter)?action|event|behaviou?r|bhv|activity|verb|evt|act|engagement|operation|oper)"
    r"(_(type|kind|code|cd|name|id))?$"
)
_AMOUNTS: Final = (
    r"(^|_)(quantity|qty|units?|tax|taxes|price|amount|total|count|num|number|month|day|dow|weekday|hour|page)($|_)"
)
"""Words in the names of small numbers that say nothing of what was done."""
_OF_CHANGES: Final = {"c", "u", "d", "r"}
"""What Debezium writes of a row: created, updated, deleted, read."""
_CHANGES: Final = r"(^|_)(op|operation|change|change_type)$"
_UNDOING: Final = r"return|refund|cancel|complet|abandon|reject|expir"
"""Words of actions that are as well states of what was ordered."""
_PAIRS: Final = (
    {"0", "1"}, {"0.0", "1.0"}, {"true", "false"}, {"t", "f"}, {"yes", "no"}, {"y", "n"}, {"-1", "1"}, {"up", "down"},
    {"positive", "negative"}, {"like", "dislike"},
)  # fmt: skip
_MARKS: Final = {"1", "1.0", "true", "t", "yes", "y", "x"}
"""Cells beside empty ones."""
_MOST_CODES: Final = 12
_MOST_GRADES: Final = 21  # 0 to 10 by halves

Kind = Literal["label", "numbers", "changes", ""]


class Unread(NamedTuple):
    """Columns that may say what was done, and are not read."""

    doubts: list[Doubt]
    said: str
    """A sentence about those whose names say nothing of it; empty if there are none."""


def by_name(sample: pl.DataFrame, columns: Sequence[str]) -> dict[str, Role]:
    """Return the columns whose name is one of an action or a rating, or of a kind whose cells are words for actions."""
    fits = {"action": are_few, "rating": are_numbers}
    found = dict[str, Role]()
    for role, fit in fits.items():
        left = [name for name in columns if name not in {each.column for each in found.values()}]
        if (best := best_of(role, [name for name in left if fit(sample[name])])) is not None:
            found[role] = _varied(sample, best, left) if role == "action" else best
    if not found and (verbs := _of_verbs(sample, columns)) is not None:
        found["action"] = verbs
    return found


def _varied(sample: pl.DataFrame, found: Role, columns: Sequence[str]) -> Role:
    """Return a column of actions, or instead of one with one value another that has several."""
    if distinct(sample[found.column]) > 1:
        return found
    others = [name for name in columns if are_few(sample[name]) and distinct(sample[name]) > 1]
    item = best_of("item", columns)
    verbs = [name for name in others if _holds_verbs(sample, name, item.column if item else None)]
    better = best_of("action", others)
    if better is None and len(verbs) != 1:
        return found
    return better or Role(verbs[0], "sure", f"its values are names of actions, and {found.column} has one value")


def by_cells(sample: pl.DataFrame, columns: Sequence[str], item: str | None) -> tuple[Role | None, list[Doubt]]:
    """Return the column most of whose values are words for actions, whatever its name; a doubt where there are several.

    Args:
        sample: The first rows.
        columns: Those without a role.
        item: The column of items, whose titles are no actions.
    """
    found = [name for name in columns if _holds_verbs(sample, name, item)]
    if len(found) == 1 and _are_states(sample[found[0]]):
        said = (
            f"Column {found[0]!r} ({_listed(sample[found[0]])}) may say what became of a row, not what was done, and "
            f"is not read, so that each row is a click: --action {found[0]}, with those that undo it in "
            "train.negative_actions, or leave their rows out."
        )
        return None, [_doubt(said, {"action": found[0]})]
    if len(found) == 1:
        return Role(found[0], "likely", "its values are names of actions"), []
    if not found:
        return None, []
    named = " and ".join(repr(name) for name in found[:_NAMED])
    said = f"Columns {named} hold names of actions: name the right one by --action."
    return None, [_doubt(said, {"action": found[0]})]


def _of_verbs(sample: pl.DataFrame, columns: Sequence[str], *, few: bool = True) -> Role | None:
    """Return a column of a name or a kind most of whose values, if these are few, are words for actions."""
    item = best_of("item", columns)
    for name in columns:
        if re.sub(r"[^a-z]", "", name.lower().rpartition(".")[2]) not in _OF_VERBS or (
            few and not are_few(sample[name])
        ):
            continue
        if _verbs(sample[name]) * 2 > 1 and not (item and follows(sample, name, item.column)):
            return Role(name, "sure", "its values are names of actions")
    return None


def _verbs(column: pl.Series, pattern: str = _VERBS) -> float:
    """Return the share of values that have a word for an action."""
    values = texts_of(column).drop_nulls().unique().str.replace_all(r"([a-z])([A-Z])", "${1}_$2")
    return int(values.str.to_lowercase().str.contains(pattern).sum()) / max(1, len(values))


def _holds_verbs(sample: pl.DataFrame, name: str, item: str | None) -> bool:
    column = sample[name]
    if not are_few(column) or emptiness(column) > _MOSTLY:
        return False
    share = _verbs(column) if distinct(column) > 1 else _verbs(column, rf"^({_WORDS}|{_CODES})$")
    places = re.search(_PLACES, words_of(name)) is not None
    return (share == 1 if places else share > _MOSTLY) and not (item and follows(sample, name, item))


def _are_states(column: pl.Series) -> bool:
    """Return whether values are states of what was ordered, such as delivered and returned."""
    values = values_of(column).str.to_lowercase()
    undone = values.str.contains(_UNDOING)
    named = re.search(r"(^|_)(status|state)$", words_of(column.name)) is not None
    return bool(undone.any()) and (named or not (values.str.contains(_VERBS) & ~undone).any())


def _listed(column: pl.Series) -> str:
    """Return the values of a column; of many numbers the least and the most."""
    values = sorted(values_of(column).to_list(), key=_in_order)
    return f"{values[0]} to {values[-1]}" if len(values) > _LISTED else ", ".join(values)


def beside(sample: pl.DataFrame, columns: Sequence[str], read: str) -> str:
    """Return a sentence about columns without a role that say what was done as well as the one that is read; or none.

    Args:
        sample: The first rows.
        columns: Those without a role.
        read: That of the actions or the ratings.
    """
    found = [name for name in columns if distinct(sample[name]) > 1 and _says_more(sample[name])]
    named = ", ".join(f"{name} ({_listed(sample[name])})" for name in found[:_NAMED])
    return f"Not read beside {read}, though they say what was done as well: {named}." if found else ""


def _says_more(column: pl.Series) -> bool:
    if best_of("action", [column.name]) is not None:
        return are_few(column)
    return kind_of(column) == "label" and re.search(f"{_LABELS}|{_DONE}", words_of(column.name)) is not None


def too_many(
    sample: pl.DataFrame, roles: dict[str, Role], left: Sequence[str], named: Mapping[str, Any]
) -> Iterator[Doubt]:
    """Yield a doubt about a column with a name of actions that has too many values, or mostly none; it has no role."""
    if {"action", "rating"} & set(named):
        return
    found = roles.get("action")
    if found is not None and _are_gaps(sample[found.column]):
        del roles["action"]
        said = (
            f"Column {found.column!r} is empty in {emptiness(sample[found.column]):.0%} of the rows: --action "
            f"{found.column} --skip-bad all reads the others alone; without it every row is a click."
        )
        yield Doubt("user", said, ("action", "rating"))
    if {"action", "rating"} & set(roles):
        return
    many = best_of("action", left) or _of_verbs(sample, left, few=False)
    if many is not None and (values := distinct(sample[many.column])):
        said = (
            f"Column {many.column!r} has {values:,} values in {len(sample):,} rows, more than actions have, and is "
            f"not read: --action {many.column} if it does name them."
        )
        yield Doubt("user", said, ("action", "rating"))


def _are_gaps(actions: pl.Series) -> bool:
    """Return whether most cells of a column of actions are empty, and that is no label."""
    by_label = ActionReader(actions.name, None, None, None, [actions]).by_label
    return emptiness(actions) > _MOSTLY and not by_label


def unread(sample: pl.DataFrame, columns: Sequence[str], item: str | None) -> Unread:
    """Return what the columns without a role may say of rows that would each be a click.

    Args:
        sample: The first rows.
        columns: Those columns.
        item: The column of items, whose kinds are no actions.
    """
    doubts, silent = list[Doubt](), list[str]()
    for name in columns:
        kind = kind_of(sample[name])
        codes = kind == "numbers" and words_of(name) in _OF_VERBS and not (item and follows(sample, name, item))
        doubt = _doubtful(sample[name], kind, first=not any(each.flags for each in doubts), codes=codes)
        if doubt is not None:
            doubts.append(doubt)
        elif kind and (not re.search(_AMOUNTS, words_of(name)) or _is_signed(sample[name])):
            silent.append(f"{name} ({_listed(sample[name])})")
    more = f", and {len(silent) - _NAMED:,} more" if len(silent) > _NAMED else ""
    said = f"Not read, though they may say otherwise: {', '.join(silent[:_NAMED])}{more}." if silent else ""
    return Unread(doubts, said)


def _is_signed(column: pl.Series) -> bool:
    return bool((numbers_of(column)[0] < 0).any())


def _in_order(value: str) -> tuple[float, str]:
    try:
        return float(value.replace(",", ".")), value
    except ValueError:
        return 0.0, value


def kind_of(column: pl.Series) -> Kind:
    """Return what the cells of a column may be: labels, a few ordered numbers, kinds of changes, or none of these."""
    if column.dtype in (pl.Binary, pl.Duration):
        return ""
    values = set(values_of(column).str.to_lowercase().to_list())
    if not 0 < len(values) <= _MOST_GRADES:
        return ""
    if any(values == pair for pair in _PAIRS) or (values <= _MARKS and len(values) == 1 and are_empty(column).any()):
        return "label"
    if "d" in values and len(values) > 1 and values <= _OF_CHANGES and re.search(_CHANGES, words_of(column.name)):
        return "changes"
    return "numbers" if len(values) > 1 and _are_grades(column, len(values)) else ""


def _are_grades(column: pl.Series, values: int) -> bool:
    """Return whether a column holds few ordered numbers: 1 to 5, 0 to 10, halves."""
    numbers = numbers_of(column)[0].drop_nulls().drop_nans()
    whole = bool((numbers * 2 == (numbers * 2).round()).all())
    return are_numbers(column) and whole and bool(numbers.is_between(-1, 10).all()) and values * 3 <= len(column)


def _doubtful(column: pl.Series, kind: Kind, *, first: bool, codes: bool) -> Doubt | None:
    """Return a doubt about a column whose name says that its cells speak of actions.

    Args:
        column: It.
        kind: What its cells may be.
        first: Whether the proposed line may read it.
        codes: Whether its name is one of a kind, and its cells are small numbers.
    """
    name, words = column.name, words_of(column.name)
    nothing = f"Column {name!r} says of some rows that nothing was done, and is not read, so that each is a click: "
    flags: dict[str, str] = {}
    if kind == "changes" or (kind == "label" and re.search(_UNDONE, words)):
        said = (
            f"Column {name!r} ({', '.join(values_of(column).to_list())}) may say of some rows that they are no clicks, "
            "and is not read, so that each is one: leave those out of the log, or read them as they are."
        )
    elif (kind == "label" and re.search(f"{_LABELS}|{_DONE}|{_RATINGS}", words)) or (
        re.search(_DONE, words) and not re.search(_UNDONE, words) and _say_no(column)
    ):
        said, flags = f"{nothing}--action {name}.", {"action": name}
    elif re.search(_DONE, words) and _have_zeros(column):
        said = f"{nothing}leave out those of 0, or write a row for each."
    elif re.search(_RATINGS, words) and are_numbers(column) and distinct(column) > 1:
        said = f"Column {name!r} holds numbers, and is not read, so that every row is a click: --rating {name}."
        flags = {"rating": name}
    elif codes or (
        re.search(_OF_ACTIONS, words) and 1 < distinct(column) <= _MOST_CODES and (kind or column.dtype == pl.String)
    ):
        said = (
            f"Column {name!r} may hold codes of actions, and is not read, so that each row is a click: --action {name}."
        )
        flags = {"action": name}
    else:
        return None
    return _doubt(said, flags if first else {})


def _say_no(column: pl.Series) -> bool:
    """Return whether cells are labels, some of which say that nothing was done."""
    values = texts_of(column).drop_nulls().str.to_lowercase()
    return are_labels(values) and bool(values.is_in(NEGATIVE_LABELS).any())


def _have_zeros(column: pl.Series) -> bool:
    """Return whether cells are numbers, some of them 0."""
    numbers = numbers_of(column.drop_nulls())[0]
    return len(numbers) > 0 and bool(numbers.is_finite().all()) and bool((numbers == 0).any())


def _doubt(said: str, flags: Mapping[str, str]) -> Doubt:
    return Doubt("user", said, ("action", "rating", "shown"), flags, dict.fromkeys(flags))
