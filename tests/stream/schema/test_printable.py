import unicodedata

from hypothesis import given, strategies as st

from stream.schema.printable import printable


@given(st.text(st.characters()))
def test_what_is_printed_can_be_encoded_and_holds_no_control(text: str) -> None:
    """Tab and newline stay; whatever is printable already stays as it is."""
    shown = printable(text)
    shown.encode()
    assert not [char for char in shown if unicodedata.category(char) == "Cc" and char not in "\t\n"]
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text
