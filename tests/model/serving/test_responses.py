from typing import Any

import pytest

from model.serving.responses import MAX_ITEMS, MAX_K, QueryError, check_items, check_k, check_user, split_ids
from tests.served import answerer


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda a: a.topk("", 1), "user is empty"),
        (lambda a: a.rank("", ["i1"]), "user is empty"),
        (lambda a: a.topk("ada", 0), "k is 0; give a number of items from 1 to 1,000"),
        (lambda a: a.topk("ada", MAX_K + 1), "k is 1001; give"),
        (lambda a: a.topk_sequence(["i1"], -1), "k is -1; give"),
        (lambda a: a.rank("ada", []), "items has 0 item ids; give 1 to 2,000"),
        (lambda a: a.rank("ada", ["i1"] * (MAX_ITEMS + 1)), "items has 2,001 item ids"),
        (lambda a: a.rank("ada", ["i1", ""]), "items holds an empty item id, in place 1"),
        (lambda a: a.topk_sequence([]), "sequence has 0 item ids"),
    ],
)
def test_queries_that_make_no_sense_are_refused_in_a_sentence(ask: Any, sentence: str) -> None:
    """Each sentence says what was given and what is allowed."""
    with pytest.raises(QueryError, match=sentence):
        ask(answerer())


def test_the_limits_are_allowed() -> None:
    """The smallest and the largest of each."""
    for k in (1, MAX_K):
        check_k(k)
    for count in (1, MAX_ITEMS):
        check_items(["i1"] * count)
    check_user("ü")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('"a,b",c,5" screen', ["a,b", "c", '5" screen']),
        ('"say ""hi""",x', ['say "hi"', "x"]),
        ('"open,x', ['"open', "x"]),
        (",a,,b\n,", ["", "a", "", "b\n", ""]),
        ("", []),
    ],
)
def test_an_id_with_a_comma_stands_in_quotes(text: str, ids: list[str]) -> None:
    """As in CSV; other quotes are letters."""
    assert split_ids(text) == ids


@pytest.mark.parametrize("check", [check_user, lambda text: check_items(["i1", text])])
def test_half_of_a_surrogate_pair_is_refused(check: Any) -> None:
    """JSON can escape it, but UTF-8 cannot hold it."""
    with pytest.raises(QueryError, match="half of a surrogate pair stands alone; give ids that UTF-8"):
        check("a\ud800")
