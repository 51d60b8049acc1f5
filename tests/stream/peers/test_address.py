"""What workers leave for servers, and the token between them."""

from pathlib import Path

import pytest

from stream.errors import HstuError
from stream.peers.address import Address, parse_note, read_peer_token


def test_an_address_is_read_as_it_was_left() -> None:
    """Whatever else stands in a commit's metadata is none."""
    address = Address("http://[::1]:9100", "0123456789ab")
    assert parse_note(address.note()) == address
    for other in ("", "a word", "[]", "{}", '{"url": 7, "place": "x"}'):
        assert parse_note(other) is None


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    """Without the line's end; one that is missing, short or no header's text is refused with the file's name."""
    file = tmp_path / "token"
    assert read_peer_token("") == ""
    file.write_text("0123456789abcdef\n")
    assert read_peer_token(str(file)) == "0123456789abcdef"
    for content in ("short\n", "0123456789abcde\u00e9f", "0123456789\nabcdefgh"):
        file.write_text(content)
        with pytest.raises(HstuError, match=rf"stream.peer_token_file {file} is refused: give at least 16"):
            read_peer_token(str(file))
    with pytest.raises(HstuError, match=r"cannot be read: .*; write the token into it"):
        read_peer_token(str(tmp_path / "absent"))
