"""Roles of columns by names and contents."""

import re
from datetime import date, time as clock, timedelta
from pathlib import Path

import polars as pl
import pytest

from sim.errors import SimError
from sim.sources.roles.guess import guess, sample_of
from sim.sources.tables.settings import TableSettings
from sim.sources.tables.table import open_table

T = 1_700_000_000


def frame(**columns: object) -> pl.DataFrame:
    return pl.DataFrame(
        {name: [value] * 3 if not isinstance(value, list) else value for name, value in columns.items()}
    )


@pytest.mark.parametrize(
    ("columns", "flags"),
    [
        ({"userId": "1", "itemId": "2", "timestamp": T}, {"user": "userId", "item": "itemId", "time": "timestamp"}),
        (
            {"user.id": "1", "event.item.id": "2", "ts": T, "event.type": "view", "item.name": "x"},
            {"time": "ts", "action": "event.type", "user": "user.id", "item": "event.item.id"},
        ),
        (
            {"created_at": "2024-01-01", "Customer-ID": "1", "sku": "2", "eventType": "buy"},
            {"time": "created_at", "action": "eventType", "user": "Customer-ID", "item": "sku"},
        ),
        (
            {"uid": "1", "movie_id": "2", "stars": [1.0, 2.5, 5.0], "date": "2024-01-01"},
            {"time": "date", "rating": "stars", "user": "uid", "item": "movie_id"},
        ),
        (
            {"session_id": "1", "user_id": "9", "video_id": "2", "ts": T, "is_click": [0, 1, 0]},
            {"time": "ts", "action": "is_click", "user": "user_id", "item": "video_id"},
        ),
    ],
)
def test_plain_names_are_sure(columns: dict[str, object], flags: dict[str, str]) -> None:
    """In any writing; of a user and a session the user."""
    guessed = guess(frame(**columns))
    assert guessed.sure
    assert guessed.flags == flags


@pytest.mark.parametrize(
    "columns",
    [
        {"a": "1", "b": "2", "c": T},
        {"user_id": "1", "item_id": "2", "time": "never"},
        {"user_id": "1", "user-id": "2", "item_id": "2", "ts": T},
        {"user_id": "1", "item_id": [["a"], ["b"], ["c"]], "ts": T},
    ],
)
def test_what_is_not_plain_is_not_sure(columns: dict[str, object]) -> None:
    """Strange names, times that are none, two users, lists of items."""
    assert not guess(frame(**columns)).sure


def test_a_file_without_a_header_is_guessed_by_its_contents() -> None:
    """Never surely."""
    guessed = guess(frame(**{"1": ["7", "8", "9"], "2": ["a", "b", "c"], "3": T}))
    assert not guessed.sure
    assert {role: (each.column, each.certainty) for role, each in guessed.roles.items()} == {
        "time": ("3", "likely"),
        "user": ("1", "likely"),
        "item": ("2", "likely"),
    }


MANY = {"ts": [T + n for n in range(40)], "user_id": [str(n % 9) for n in range(40)]}


def test_a_column_of_one_value_or_none_is_not_sure() -> None:
    """A user id that is always empty leaves its role to another column; one of one value is only likely."""
    columns = MANY | {"user_id": [None] * 40, "domain_userid": MANY["user_id"], "sku": "1"}
    guessed = guess(pl.DataFrame(columns | {"sku": ["1"] * 40}))
    assert guessed.roles["user"].column == "domain_userid"
    assert guessed.roles["user"].certainty == "sure"
    assert guessed.roles["item"].column == "sku"
    assert guessed.roles["item"].certainty == "likely"
    assert not guessed.sure


@pytest.mark.parametrize(("apps", "pages", "item"), [(1, 5, "page_url"), (3, 5, "page_url"), (30, 5, "app_id")])
def test_an_app_is_an_item_where_no_column_of_items_has_more_values(apps: int, pages: int, item: str) -> None:
    """On a platform of apps it is what users choose; in a tracker's log it names the site."""
    columns = MANY | {"app_id": [str(n % apps) for n in range(40)], "page_url": [str(n % pages) for n in range(40)]}
    found = guess(pl.DataFrame(columns))
    assert found.flags == {"time": "ts", "user": "user_id", "item": item}
    assert found.sure


@pytest.mark.parametrize(
    ("values", "action"),
    [
        (["product_view", "basket", "order"], "name"),
        (["ProductViewed", "AddToCart", "x"], "name"),
        (["Borders", "Reader", "Overview"], None),
        (["Milk", "Bread", "Order"], None),
    ],
)
def test_a_name_is_an_action_where_most_values_are_words_for_one(values: list[str], action: str | None) -> None:
    """As trackers name their events, nested too; a product's name is none."""
    for name in ("name", "event.type"):
        columns = {"user_id": "1", "item_id": "2", "ts": T, "x.name" if name == "name" else "kind": values}
        flags = guess(frame(**columns)).flags
        assert flags.get("action") == (None if action is None else next(k for k, v in columns.items() if v == values))


@pytest.mark.parametrize(
    ("columns", "time", "offset"),
    [
        ({"date": "2024-01-31", "time": "10:00:00"}, "date", ("time", "sure")),
        ({"date": "31.01.2024", "time": "10:00 PM"}, "date", ("time", "sure")),
        ({"date": "2024-01-31", "hour": ["13", "0", "23"]}, "date", ("hour", "sure")),
        ({"date": 20240131, "time": [103000, 0, 235959]}, "date", ("time", "sure")),
        ({"date": date(2024, 1, 31), "time": clock(10)}, "date", ("time", "sure")),
        ({"order_date": "2024-01-31", "order_time": "10:00"}, "order_date", ("order_time", "sure")),
        ({"order_date": "2024-01-31", "order_time": [103000, 0, 235959]}, "order_date", ("order_time", "sure")),
        ({"TransDate": "01/31/24", "TransTime": [2214, 5, 1030]}, "TransDate", ("TransTime", "sure")),
        ({"date": "2024-01-31", "time": [9, 23, 0]}, "date", None),
        ({"order_date": "2024-01-31", "watch_time": [103000, 0, 235959]}, "order_date", None),
        ({"date": "2024-01-31", "time": "10:00:00", "hour": 10}, "date", ("time", "sure")),
        ({"date": "2024-01-31", "opens": "10:00:00"}, "date", ("opens", "unsure")),
        ({"date": "2024-01-31", "hour": 13, "event_hour": 14}, "date", ("hour", "unsure")),
        ({"ts": T, "date": "2023-11-14", "hour": 22}, "ts", None),
        ({"date": "2024-01-31 10:00:00", "hour": 10}, "date", None),
        ({"date": "2024-01-31", "hour": 77}, "date", None),
    ],
)
def test_a_date_and_a_time_of_the_day_are_one_time(
    columns: dict[str, object], time: str, offset: tuple[str, str] | None
) -> None:
    """Where the one is whole days and the other is by its contents and its name what they lack."""
    roles = guess(frame(user_id="1", item_id="2", **columns)).roles
    assert roles["time"].column == time
    found = roles.get("time_offset")
    assert (found and (found.column, found.certainty)) == offset


FILMS = ["Order of the Phoenix", "View to a Kill", "The Watch", "Like Mike", "Play Misty", "Save the Last Dance"]


def test_titles_are_no_actions() -> None:
    """Though they have such words: each item has one."""
    columns = MANY | {"item_id": [str(n % 6) for n in range(40)]}
    assert "action" not in guess(pl.DataFrame(columns | {"name": [FILMS[n % 6] for n in range(40)]})).roles
    verbs = ["view", "cart", "buy", "search", "play"]
    assert guess(pl.DataFrame(columns | {"name": [verbs[n % 5] for n in range(40)]})).flags["action"] == "name"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("event", [f"concert {n % 20}" for n in range(40)], "'event' has 20 values in 40 rows, more than actions have"),
        ("type", [f"view {n % 20}" for n in range(40)], "'type' has 20 values in 40 rows"),
        (
            "is_purchase",
            [0, 0, 0, 1] * 10,
            "'is_purchase' says of some rows that nothing was done, .* --action is_purchase",
        ),
        ("clicks", [0, 1, 2, 3] * 10, "'clicks' says of some rows that nothing was done, .* leave out those of 0"),
        ("event", ["buy", *[""] * 9] * 4, "'event' is empty in 90% of the rows: --action event --skip-bad all"),
    ],
)
def test_actions_are_few_and_in_most_rows(name: str, values: list[str], said: str) -> None:
    """Otherwise it is asked whether they are; a column of ratings beside them is enough."""
    columns = pl.DataFrame(MANY | {"item_id": [str(n % 6) for n in range(40)], name: values})
    guessed = guess(columns)
    assert not guessed.sure
    assert re.search(said, guessed.doubts[0].said)
    assert ("action" in guessed.flags) == (name == "is_purchase")
    if said[-4:] != " all":
        assert guess(columns.with_columns(rating=pl.lit(4.5))).sure


@pytest.mark.parametrize(("role", "other"), [("user", "anonymous_id"), ("item", "sku")])
def test_gaps_of_ids_that_another_column_fills_are_said(role: str, other: str) -> None:
    """With the flag that takes both; the pages that a product is seen on fill none."""
    ids = [str(n % 9) for n in range(40)]
    columns = MANY | {"user_id": ids, "item_id": ids, "page": ids} | {other: ids}
    columns[f"{role}_id"] = [None if n % 2 else str(n % 4) for n in range(40)]
    guessed = guess(pl.DataFrame(columns))
    assert f"Column '{role}_id' is empty in 50% of the rows, where '{other}' is not" in guessed.doubts[0].said
    assert guessed.flags[role] == f"{role}_id,{other}"
    assert not guess(pl.DataFrame({name: cells for name, cells in columns.items() if name != other})).doubts


def test_a_column_that_is_mostly_empty_is_not_surely_a_role() -> None:
    """Such as the page on which a slate was shown."""
    assert not guess(frame(user_id="1", article_id=["9", None, ""], ts=T)).sure
    assert guess(frame(user_id="1", article_id=["9", "8", ""], ts=T)).sure


def test_numbers_of_days_are_not_surely_times() -> None:
    """The day of a month beside its year, or one since a log's start, are no seconds."""
    guessed = guess(frame(user_id="1", item_id="2", year=2024, month=1, day=[1, 2, 31]))
    assert (guessed.roles["time"].column, guessed.sure) == ("day", False)


def test_an_envelope_of_kcat_has_no_roles() -> None:
    """Its ts is the broker's clock; the record's own columns count."""
    envelope = {"topic": "t", "partition": 0, "offset": 0, "tstype": "create", "ts": T * 1000, "key": "k"}
    guessed = guess(frame(**envelope, **{"payload.user_id": "1", "payload.item_id": "2", "payload.ts": T}))
    assert guessed.sure
    assert guessed.flags == {"time": "payload.ts", "user": "payload.user_id", "item": "payload.item_id"}


def test_a_duration_is_no_role() -> None:
    """And no traceback."""
    assert guess(frame(user_id="1", item_id="2", ts=T, dwell=timedelta(1))).sure


def test_a_file_without_a_row_that_can_be_read_says_what_is_wrong(tmp_path: Path) -> None:
    """With its first row."""
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,ts\n" + f"u,a,{T},x\n" * 3)
    with pytest.raises(SimError, match=r"no row that can be read; row 1 of .* is bad, more cells.* All 3 rows are bad"):
        sample_of(open_table([str(path)], TableSettings()))


SESSIONS = MANY | {"user_id": [str(n // 2) for n in range(40)], "product_id": [str(n % 7) for n in range(40)]}


def with_names(columns: dict[str, list[object]], **names: str) -> pl.DataFrame:
    """Return a frame with some columns under other names."""
    return pl.DataFrame({names.get(name, name): cells for name, cells in columns.items()})


@pytest.mark.parametrize(
    "name",
    ["viewer_id", "buyer_id", "shopper_id", "username", "user_name", "email", "distinct_id", "customer_number",
     "subscriber_id", "cust_id", "household_key", "Customer User ID", "user_id.$oid", "Item.user_id.S"],
)  # fmt: skip
def test_a_session_is_no_user_beside_a_usual_name_of_one(name: str) -> None:
    """Though it was one of the first names that were thought of; types that databases write are seen through."""
    users = {name: [f"u{n % 9}" for n in range(40)]}
    guessed = guess(with_names(SESSIONS | users, user_id="session_id"))
    assert (guessed.sure, guessed.flags["user"]) == (True, name)


@pytest.mark.parametrize(
    "name",
    ["hotel_id", "listing_id", "job_id", "recipe_id", "document_id", "course_id", "show_id", "episode_id", "offer_id",
     "goods_id", "sku_id", "property_id", "photo_id", "product_code", "stock_code", "ean", "gtin", "upc", "gmap_id"],
)  # fmt: skip
def test_a_page_is_no_item_beside_a_usual_name_of_one(name: str) -> None:
    """Where something was done is not with what."""
    guessed = guess(with_names(SESSIONS | {"page": ["home", "detail"] * 20}, product_id=name))
    assert (guessed.sure, guessed.flags["item"]) == (True, name)


@pytest.mark.parametrize("name", ["login", "guest_id", "userToken", "msisdn", "account", "contact_code"])
def test_a_session_beside_other_ids_is_asked_for(name: str) -> None:
    """Both may be the user; a country, a category, and what numbers the rows may not."""
    users = {name: [f"u{n % 9}" for n in range(40)]}
    guessed = guess(with_names(SESSIONS | users, user_id="session_id"))
    assert f"Column 'session_id' may be the user, and '{name}' as well" in guessed.doubts[0].said
    for other, cells in (
        ("country_code", users[name]),
        ("category_id", users[name]),
        ("hit_number", users[name]),
        ("some_id", list(map(str, range(40)))),
    ):
        assert guess(with_names(SESSIONS | {other: cells}, user_id="session_id")).sure


def test_a_page_beside_ids_that_vary_more_is_asked_for() -> None:
    """Unless they are those of sessions or orders."""
    pages = {"page": ["home", "search", "detail", "cart"] * 10}
    columns = with_names(SESSIONS | pages, product_id="creative_id")
    assert "'page' may be the item, and 'creative_id' as well" in guess(columns).doubts[0].said
    for other in ("session_id", "order_id", "customer_key"):
        assert guess(columns.rename({"creative_id": other})).sure


def test_a_column_without_gaps_is_better_than_one_that_is_mostly_empty() -> None:
    """A device is no better: it is said, as before."""
    users = [f"u{n % 9}" for n in range(40)]
    frame = pl.DataFrame(SESSIONS | {"user_id": ["7", None, None, "8", None] * 8, "username": users})
    assert (guess(frame).sure, guess(frame).flags["user"]) == (True, "username")
    assert guess(frame.rename({"username": "device_id"})).flags["user"] == "user_id,device_id"


def test_a_uuid_in_each_row_is_no_user() -> None:
    """It may be that of the event."""
    assert not guess(with_names(SESSIONS | {"user_id": list(map(str, range(40)))}, user_id="uuid")).sure
    assert guess(with_names(SESSIONS, user_id="uuid")).sure


@pytest.mark.parametrize(
    "name", ["order_date", "purchased_at", "server_time", "timestamp_ms", "exposure_time", "InvoiceDate", "datum", "t"]
)
def test_the_only_recent_times_are_the_time(name: str) -> None:
    """Whatever their name, where user and item are sure; not those that each item or user has one of."""
    seconds = {name: SESSIONS["ts"]}
    columns = {key: cells for key, cells in SESSIONS.items() if key != "ts"}
    assert (guess(pl.DataFrame(columns | seconds)).sure, guess(pl.DataFrame(columns | seconds)).flags["time"]) == (
        True,
        name,
    )
    assert not guess(with_names(columns | seconds, user_id="who")).sure
    for of in (7, 20):
        assert not guess(pl.DataFrame(columns | {name: [T + (n % 7 if of == 7 else n // 2) for n in range(40)]})).sure
    assert not guess(pl.DataFrame(columns | {name: [f"1980-01-{n % 28 + 1:02}" for n in range(40)]})).sure


def test_of_several_times_that_of_the_row_s_making_is_proposed() -> None:
    """All are named."""
    columns = {key: cells for key, cells in SESSIONS.items() if key != "ts"}
    times = {name: [T + n for n in range(40)] for name in ("date_updated", "date_added", "read_at")}
    guessed = guess(pl.DataFrame(columns | times))
    assert not guessed.sure
    assert guessed.flags["time"] == "date_added"
    assert "Columns 'date_added' and 'date_updated' and 'read_at' hold times" in guessed.doubts[0].said


def test_dates_and_the_times_beside_them_are_one_time_without_a_header() -> None:
    """As a content network logs them."""
    days = {
        "1": ["2024-01-31"] * 3,
        "2": ["10:00:00", "11:00:01", "12:00:02"],
        "3": ["7", "8", "9"],
        "4": ["a", "b", "c"],
    }
    found = guess(pl.DataFrame(days))
    assert found.flags == {"time": "1", "time_offset": "2", "user": "3", "item": "4"}
    assert not found.doubts


def test_without_a_header_ratings_are_no_items() -> None:
    """Though they come before them."""
    cells = {
        "1": [f"u{n % 9}" for n in range(40)],
        "2": [n % 5 + 1 for n in range(40)],
        "3": [f"i{n}" for n in range(40)],
    }
    assert guess(pl.DataFrame(cells | {"4": MANY["ts"]})).flags == {"time": "4", "user": "1", "item": "3"}
