"""Roles of columns by names and contents."""

import polars as pl
import pytest

from sim.sources.roles.guess import guess

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
        {"user_id": "1", "user-id": "1", "item_id": "2", "ts": T},
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
        "user": ("1", "unsure"),
        "item": ("2", "unsure"),
    }
