"""Tables of the worker's verbs on a terminal."""

import sys

import pytest

from stream.operations.tables import show_table


def test_ids_are_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folded where they do not fit."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    show_table(("user", "reason"), [("u" * 60, "bad-json")])
    assert capsys.readouterr().out.count("u") == 61
