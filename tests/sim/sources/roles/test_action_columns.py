"""What was done, in columns of any name, and what may say so and is not read."""

import re
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.roles.guess import guess
from tests.sim.sources.logs import START_S as T, log_of

ROWS = 40
COLUMNS = {
    "user_id": [f"u{n % 9}" for n in range(ROWS)],
    "item_id": [f"i{n % 7}" for n in range(ROWS)],
    "ts": [T + n for n in range(ROWS)],
}


def cycle(values: list[Any]) -> list[Any]:
    """Return a cell for each row."""
    return [values[n % len(values)] for n in range(ROWS)]


def log(tmp_path: Path, *, header: bool = True, flags: dict[str, Any] | None = None, **columns: list[Any]) -> Any:
    """Read a log with these columns besides."""
    frame = pl.DataFrame(COLUMNS | {name: cycle(values) for name, values in columns.items()})
    return log_of(tmp_path / "log.csv", frame.write_csv(include_header=header), **(flags or {}))


@pytest.mark.parametrize(
    ("name", "values", "actions", "shown"),
    [
        ("step", ["impression", "click", "purchase"], {"click": 13, "purchase": 13}, 14),
        ("state", ["shown", "clicked"], {"clicked": 20}, 20),
        ("evt", ["expose", "click", "buy"], {"click": 13, "buy": 13}, 14),
        ("channel", ["impressions", "clicks"], {"clicks": 20}, 20),
        ("source_event", ["imp", "clk"], {"clk": 20}, 20),
        ("eventAction", ["ProductViewed", "AddToCart", "x"], {"ProductViewed": 14, "AddToCart": 13, "x": 13}, 0),
    ],
)
@pytest.mark.parametrize("flags", [{}, {"user": "user_id"}])
def test_cells_that_are_words_for_actions_are_read(
    tmp_path: Path, name: str, values: list[str], actions: dict[str, int], shown: int, flags: dict[str, str]
) -> None:
    """Whatever the column's name, and said."""
    read = log(tmp_path, flags=flags, **{name: values})
    assert (read.summary.actions, read.summary.shown) == (actions, shown)
    assert f"--action {name}" in read.remarks[0]


def test_actions_of_a_file_without_a_header_are_read(tmp_path: Path) -> None:
    """Beside columns that flags name; labels are said."""
    flags = {"user": "1", "item": "2"}
    assert log(tmp_path, header=False, flags=flags, what=["click", "impression"]).summary.shown == 20
    read = log(tmp_path, header=False, flags=flags, what=[0, 1])
    assert read.remarks == [
        "Other columns by their names: --time 3. Not read, though they may say otherwise: 4 (0, 1)."
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("page_type", ["search", "product", "cart", "checkout"]),  # places
        ("traffic_source", ["search", "direct", "email"]),
        ("method", ["GET", "POST"]),
        ("title", ["View to a Kill", "The Watch", "Like Mike", "Play Misty", "Order", "Save the Last Dance", "Follow"]),
    ],
)
def test_other_words_are_no_actions(tmp_path: Path, name: str, values: list[str]) -> None:
    """Where something was done, and titles, which each item has one of."""
    assert log(tmp_path, **{name: values}).summary.actions == {"click": ROWS}


def test_two_columns_of_actions_are_asked_for(tmp_path: Path) -> None:
    """Both are named."""
    with pytest.raises(SimError, match="Columns 'a' and 'b' hold names of actions: name the right one by --action"):
        log(tmp_path, a=["view", "buy"], b=["click", "order"])


@pytest.mark.parametrize(("first", "name"), [("event_type", "event_name"), ("event", "what"), ("type", "eventAction")])
def test_a_column_with_one_action_does_not_hide_the_one_with_several(tmp_path: Path, first: str, name: str) -> None:
    """As in Segment's tables, where each row is a track; alone it is read."""
    columns = {first: ["track"], name: ["view", "buy"]}
    assert log(tmp_path, **columns).summary.actions == {"view": 20, "buy": 20}
    alone = {"click": ROWS} if first == "type" else {"track": ROWS}
    assert log(tmp_path, **{first: ["track"]}).summary.actions == alone


@pytest.mark.parametrize(
    ("read", "columns", "said"),
    [
        ("is_click", {"is_click": [0, 1], "is_buy": [0, 0, 0, 1]}, "Not read beside is_click, .*: is_buy (0, 1)."),
        ("event", {"event": ["view", "buy"], "event_type": ["web", "app"]}, "beside event, .*: event_type (app, web)."),
        ("rating", {"rating": [1, 5, 3], "recommended": ["yes", "no"]}, "beside rating, .*: recommended (no, yes)."),
        ("event", {"event": ["view", "buy"], "premium": [0, 1]}, ""),
    ],
)
def test_what_is_not_read_beside_actions_is_said(
    tmp_path: Path, read: str, columns: dict[str, list[Any]], said: str
) -> None:
    """Where a name says that it tells what was done; a flag decides."""
    remark = log(tmp_path, **columns).remarks[0]
    assert re.search(re.escape(said).replace(re.escape(".*"), ".*") + "$", remark) if said else "beside" not in remark
    flag = "rating" if read == "rating" else "action"
    assert not any("beside" in each for each in log(tmp_path, flags={flag: read}, **columns).remarks)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("status", ["delivered", "cancelled", "returned"]),
        ("order_status", ["purchased", "refunded"]),
        ("end", ["return"]),
    ],
)
def test_states_of_what_was_ordered_are_asked_for(tmp_path: Path, name: str, values: list[str]) -> None:
    """They would all be positives; among actions such words are actions."""
    with pytest.raises(SimError, match=f"{name!r} .* may say what became of a row.*--action {name} or hstu replay"):
        log(tmp_path, **{name: values})
    assert log(tmp_path, what=["view", "buy", "return"]).summary.actions.total() == ROWS


def test_codes_of_a_kind_are_asked_for(tmp_path: Path) -> None:
    """JData's type is 1 to 6; that of an item is its own."""
    with pytest.raises(SimError, match=r"'type' may hold codes of actions, .*--action type or hstu replay"):
        log(tmp_path, type=[1, 2, 3, 4, 5])
    kinds = [n % 7 % 4 for n in range(ROWS)]
    assert (
        "type (0 to 3)" in log_of(tmp_path / "log.csv", pl.DataFrame(COLUMNS | {"type": kinds}).write_csv()).remarks[0]
    )


@pytest.mark.parametrize(
    ("name", "values", "flag"),
    [
        ("bhv_type", [1, 2, 3, 4], "--action bhv_type"),
        ("action_cd", [1, 2, 3], "--action action_cd"),
        ("is_recommended", ["true", "false"], "--action is_recommended"),
        ("click_bool", [0, 1], "--action click_bool"),
        ("is_like", [0, 1], "--action is_like"),
        ("purchased", ["yes", "no"], "--action purchased"),
        ("click_flag", ["Y", "N"], "--action click_flag"),
        ("converted", ["", "1"], "--action converted"),
        ("star_rating", [1, 3, 5], "--rating star_rating"),
        ("reviewRating", [0.5, 3.5, 5], "--rating reviewRating"),
        ("interaction_type", [0, 1, 2, 3, 4], "--action interaction_type"),
        ("reaction", ["+", "-"], "--action reaction"),
    ],
)
def test_what_a_name_says_is_a_label_is_asked_for(tmp_path: Path, name: str, values: list[Any], flag: str) -> None:
    """The line that reads it comes first, then the one that makes each row a click; neither is refused."""
    with pytest.raises(
        SimError, match=f"'{name}' .* is not read, so that (each|each row|every row) is a click"
    ) as refused:
        log(tmp_path, **{name: values})
    first, second = (
        shlex.split(line) for line in re.split(" or hstu ", str(refused.value).partition("reads it: hstu ")[2])
    )
    assert shlex.split(flag) == first[-2:]
    assert first[:-2] == second
    for line in (first, second):
        flags = {flag[2:]: value for flag, value in zip(line[2::2], line[3::2], strict=True)}
        assert log(tmp_path, flags=flags, **{name: values}).summary.rows == ROWS
    assert f"'{name}'" in log(tmp_path, flags={"user": "user_id"}, **{name: values}).remarks[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [("__deleted", ["true", "false"]), ("cancelled", [0, 1]), ("is_shown", ["Y", "N"]), ("op", ["c", "d"])],
)
def test_no_line_takes_what_was_undone_or_only_shown_for_a_click(tmp_path: Path, name: str, values: list[Any]) -> None:
    """The column is named all the same."""
    with pytest.raises(SimError, match=f"'{name}' .* may say of some rows that they are no clicks") as refused:
        log(tmp_path, **{name: values})
    assert "--action" not in str(refused.value)


def test_of_two_labels_that_of_what_was_done_is_proposed(tmp_path: Path) -> None:
    """Both are named."""
    with pytest.raises(SimError, match=r"'nonclk' .*'clk' .*--action clk or hstu replay") as refused:
        log(tmp_path, nonclk=[1, 0], clk=[0, 1])
    assert "--action nonclk" not in str(refused.value)


@pytest.mark.parametrize("flags", [{}, {"user": "user_id", "item": "item_id", "time": "ts"}])
def test_other_columns_of_two_values_or_few_numbers_are_said(tmp_path: Path, flags: dict[str, str]) -> None:
    """Once, whether flags name columns or not; amounts are not, and where actions are read nothing is."""
    others: dict[str, list[Any]] = {"premium": ["yes", "no"], "level": [3, 1, 2, 4], "qty": [1, 2], "name": ["a", "b"]}
    said = "Not read, though they may say otherwise: premium (no, yes), level (1 to 4)."
    assert log(tmp_path, flags=flags, **others).remarks[0].endswith(said)
    assert "Not read" not in log(tmp_path, flags=flags, action=["view"], **others).remarks[0]


@pytest.mark.parametrize(("flags", "other"), [({}, "rating"), ({"positive_from": 4.0}, "event_type")])
def test_of_actions_and_ratings_that_which_is_not_read_is_said(
    tmp_path: Path, flags: dict[str, Any], other: str
) -> None:
    """With the flag that reads it."""
    read = log(tmp_path, flags=flags, event_type=["view", "rate"], rating=[1, 5])
    assert f"Column '{other}' is not read beside" in read.remarks[0]


def test_a_column_that_is_the_same_in_all_rows_says_nothing() -> None:
    """Unless it is a label of nothing done."""
    frame = pl.DataFrame(COLUMNS | {"deleted": ["false"] * ROWS, "level": [1] * ROWS})
    assert (guess(frame).sure, guess(frame).unread) == (True, "")
    assert not guess(frame.with_columns(click_flag=pl.lit(0))).sure
