"""What a worker leaves with its committed offsets, so that servers find who has a partition: JSON in their metadata.

    {"url": "http://host:9100", "place": "0123456789ab"}

Kafka takes a commit from the partition's present owner alone, so a worker that has lost a partition without knowing
cannot be taken for it. A topic of addresses would need fencing of its own, and the group's member metadata has to stay
the same over a restart, which a free port does not.
"""

from pathlib import Path

import msgspec

from stream.errors import HstuError

_LEAST_BYTES = 16


class Address(msgspec.Struct, frozen=True):
    """Where a worker answers, and which data directory (instance_id.place_of its locks) is its own."""

    url: str
    place: str

    def note(self) -> str:
        """Return the text that is left."""
        return msgspec.json.encode(self).decode()


def parse_note(note: str) -> Address | None:
    """Return the address in a commit's metadata, None if it has none."""
    try:
        return msgspec.json.decode(note.encode(), type=Address)
    except msgspec.DecodeError:
        return None


def read_peer_token(file: str) -> str:
    """Return the token that servers show workers, empty where none is named.

    Raises:
        HstuError: The file cannot be read, or its token is no header's text or too short.
    """
    if not file:
        return ""
    try:
        token = Path(file).read_text().strip()
    except (OSError, UnicodeError) as error:
        raise HstuError(f"stream.peer_token_file {file} cannot be read: {error}; write the token into it.") from None
    if len(token) < _LEAST_BYTES or not token.isascii() or not token.isprintable():
        raise HstuError(
            f"The token in stream.peer_token_file {file} is refused: give at least {_LEAST_BYTES} printable ASCII "
            "characters, such as those of `openssl rand -hex 32`."
        )
    return token
