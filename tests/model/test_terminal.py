import sys

import pytest

from model.terminal import show_notes, show_table, span, when
from model.trainer.merge import BEGINNING_MS
from stream.example import END_OF_TIME_MS


def test_a_pipe_gets_lines_of_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a row, whatever the cells hold; None is an empty cell; notes go to stderr."""
    show_table(("item", "title", "score"), [("i1", "A\tB\nC", 0.5), ("i2", None, 3)], "not shown")
    show_notes("A note.", None, "")
    assert capsys.readouterr() == ("item\ttitle\tscore\ni1\tA B C\t0.5000\ni2\t\t3\n", "A note.\n")


def test_what_others_have_sent_commands_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Titles, ids, columns and notes: ESC and other controls are printed as escapes, also in a drawn table."""
    evil, shown = "x\x1b]0;pwned\x07\x9b1m\r\u202e\ud800", "x\\x1b]0;pwned\\x07\\x9b1m\\r\\u202e\\ud800"
    for drawn in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda drawn=drawn: drawn)
        show_table((evil,), [(evil,)], evil)
        show_notes(evil)
        for text in capsys.readouterr():
            assert shown in text
            assert not set(text) & {"\x07", "\x9b", "\r", "\u202e"}
            assert "\x1b]" not in text


def test_a_terminal_gets_a_drawn_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a title and borders; markup in the data is printed as it is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show_table(("item", "score"), [("[red]i1[/red]", 0.5)], "Top 1 for [you]")
    out = capsys.readouterr().out
    assert "Top 1 for [you]" in out
    assert "[red]i1[/red]" in out
    assert "│" in out


@pytest.mark.parametrize(
    ("ts_ms", "text"),
    [
        (0, "1970-01-01 00:00:00"),
        (1_700_000_000_000, "2023-11-14 22:13:20"),
        (END_OF_TIME_MS - 30_000, "the end of time"),
        (BEGINNING_MS, "the beginning of time"),
        (253_402_300_799_000, "9999-12-31 23:59:59"),
        (-62_135_596_800_000, "0001-01-01 00:00:00"),
    ],
)
def test_times_are_written_in_utc(ts_ms: int, text: str) -> None:
    """Watermarks before the first event and after the last are named in words."""
    assert when(ts_ms) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h"), (-3, "0 s")],
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    """The two largest."""
    assert span(seconds) == text
