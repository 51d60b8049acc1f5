"""Bounds on JSON: how long, and how deep."""

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from stream.schema.bounds import (
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    TooDeepError,
    TooManyBytesError,
    check_json,
    json_depth,
)

texts = st.text(st.sampled_from('[]{}"\\a\n\u2028'), max_size=9)
values = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
)


def depth_by_recursion(value: Any) -> int:
    """Return the number of lists and dictionaries inside each other."""
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth_by_recursion, inner), default=0)


@given(values)
def test_the_depth_of_json_is_that_of_its_value(value: Any) -> None:
    """Brackets in strings do not count, whatever is escaped there."""
    assert json_depth(json.dumps(value).encode()) == depth_by_recursion(value)


@given(st.binary() | st.text('[]{}"\\').map(str.encode))
def test_any_bytes_have_a_depth(value: bytes) -> None:
    """Also where a string or a bracket never ends; it is never more than the number of brackets."""
    assert 0 <= json_depth(value) <= value.count(b"[") + value.count(b"{")


def test_the_bounds_are_exact() -> None:
    """The last allowed depth and length pass; many shallow brackets do, too."""
    check_json(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH)
    check_json(b"[]" * 1000)
    check_json(b'["' + b"[" * 1000 + b'"]')
    check_json(b" " * MAX_JSON_BYTES)
    with pytest.raises(TooDeepError, match="33 levels deep where 32 are allowed"):
        check_json(b'{"a":' * 17 + b"[" * 16)
    with pytest.raises(TooManyBytesError, match="1048577 bytes where 1048576 are allowed"):
        check_json(b" " * (MAX_JSON_BYTES + 1))
