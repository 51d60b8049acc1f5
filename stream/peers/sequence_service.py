"""What a worker answers to servers: POST /sequence, with a `Question` as JSON and Authorization: Bearer TOKEN.

    200    tokens (tokens.py), as bytes of TOKENS; or with "texts" entries (entries.py), as JSON of ENTRIES
    204    the user is unknown
    400    no such question
    401    the token is missing or wrong
    421    the partition is not, or no longer, this worker's, or it is another worker that is meant: ask who has it now
    503    the store cannot be read; a sentence

It reads a secondary of its own store, as a server on the same host does: what has been committed up to now, events
that wait included. So the event loop and its caches are not touched.
"""

import hmac
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from stream.config import StreamSettings
from stream.errors import StoreError
from stream.schema.bounds import check_json
from stream.schema.ids import partition_of
from stream.store.reader import SequenceReader

PATH: Final = "/sequence"
TOKENS: Final = "application/x-hstu-tokens; version=2"
ENTRIES: Final = "application/x-hstu-entries+json; version=1"
MOST_ENTRIES: Final = 10_000
_TEXT: Final = "text/plain; charset=utf-8"
_MAX_BODY: Final = 4096
_STATUS: Final = {
    200: "200 OK",
    204: "204 No Content",
    400: "400 Bad Request",
    401: "401 Unauthorized",
    421: "421 Misdirected Request",
    503: "503 Service Unavailable",
}


class Question(msgspec.Struct, frozen=True):
    """Whose last tokens are asked for, how many, and of which worker.

    Its address may lead to another one by now: a port that was free again, a name or a note of another system.
    """

    user: str
    last: int
    prefix: str
    """stream.topic_prefix."""
    place: str
    """The worker's (address.py)."""
    texts: bool = False
    """Whether ids are wanted as texts."""


class SequenceService:
    """A WSGI application.

    Args:
        reader: Reads the stores of this worker's data directory.
        settings: Shared by all workers.
        place: This worker's, as in its address.
        is_ours: Returns whether this worker has a partition.
        token: What servers must show.
    """

    def __init__(
        self, reader: SequenceReader, settings: StreamSettings, place: str, is_ours: Callable[[int], bool], token: str
    ) -> None:
        self._reader, self._partitions, self._is_ours = reader, settings.partitions, is_ours
        self._meant = settings.topic_prefix, place
        self._wanted = f"Bearer {token}".encode()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        status, body, kind = self._answer(environ)
        start_response(_STATUS[status], [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, bytes, str]:
        shown = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
        if not hmac.compare_digest(shown, self._wanted):
            return 401, b"Send the header Authorization: Bearer TOKEN, with that of stream.peer_token_file.\n", _TEXT
        question = _question(environ)
        if question is None:
            return 400, b'Send {"user": id, "last": n, "prefix": stream.topic_prefix, "place": place} by POST.\n', _TEXT
        if (question.prefix, question.place) != self._meant:
            return 421, b"This is another worker than the one that is meant.\n", _TEXT
        if not self._is_ours(partition_of(question.user.encode(), self._partitions)):
            return 421, b"Another worker has this user's partition.\n", _TEXT
        try:
            return self._read(question)
        except StoreError as error:
            return 503, f"{error}\n".encode(), _TEXT

    def _read(self, question: Question) -> tuple[int, bytes, str]:
        if question.texts:
            entries = self._reader.entries(question.user, question.last)
            return (204, b"", _TEXT) if entries is None else (200, msgspec.json.encode(entries), ENTRIES)
        tokens = self._reader.tokens(question.user, question.last)
        return (204, b"", _TEXT) if tokens is None else (200, tokens.tobytes(), TOKENS)


def _question(environ: dict[str, Any]) -> Question | None:
    try:
        size = int(environ.get("CONTENT_LENGTH") or 0)
        if environ["REQUEST_METHOD"] != "POST" or not 0 < size <= _MAX_BODY:
            return None
        body = environ["wsgi.input"].read(size)
        check_json(body)
        question = msgspec.json.decode(body, type=Question)
    except (ValueError, OSError):  # those of msgspec and of check_json are ValueErrors
        return None
    most = MOST_ENTRIES if question.texts else question.last
    return question if 0 < question.last <= most else None
