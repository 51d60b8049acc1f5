import logging

import pytest

from model.serving.http.errors import Seldom


def test_a_flood_of_warnings_is_a_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """The next line says how many were left out."""
    now_s = 100.0
    seldom = Seldom(lambda: now_s)
    with caplog.at_level(logging.WARNING, "hstu.serve"):
        for _ in range(1001):
            seldom.warn("It burns.")
        now_s += 10
        seldom.warn("It burns still.")
    assert [record.getMessage() for record in caplog.records] == [
        "It burns.",
        "It burns still. (1,000 more such lines were left out.)",
    ]
