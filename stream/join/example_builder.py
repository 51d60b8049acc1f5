"""Build examples out of gathered targets of one user and the tokens that they need.

An example ends with its last target and holds at most N = example_tokens tokens. Targets further apart than N/2 leave
in several examples, so that each keeps at least N/2 tokens of history where there are as many.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final, NamedTuple

import numpy as np

from stream.example import Head, encode_example, farewell, message_digest, pack_example
from stream.schema.tokens import TOKEN, TOKEN_DTYPE, Kind
from stream.store.caches import CachedUser, TextIndex
from stream.store.layout import Meta, Target

_POSITION: Final = attrgetter("position")


class Built(NamedTuple):
    """The message of an example, its user, and how many tokens it has."""

    user: int
    tokens: int
    message: bytes


class ExampleBuilder:
    """Builds the examples of one partition, as messages, each of which names the one before it.

    Args:
        partition: The partition's number.
        example_tokens: How many tokens an example has at most.
        texts: Knows the text of every id in a token.
        meta: Serial and digest of the last example built.
    """

    def __init__(self, partition: int, example_tokens: int, texts: TextIndex, meta: Meta) -> None:
        self.serial = meta.serial
        self.parent = meta.parent
        self._partition = partition
        self._limit = example_tokens
        self._texts = texts

    def build(self, user: CachedUser, targets: Sequence[Target], final_ms: int) -> Iterator[Built]:
        """Return the examples of targets, in order of position; the user's `texted` moves on.

        Args:
            user: Whose targets they are.
            targets: At least one.
            final_ms: The event time at which they leave.
        """
        for chunk in _chunks(sorted(targets, key=_POSITION), self._limit // 2):
            yield self._example(user, chunk, final_ms)

    def farewell(self, user: int, now_ms: int) -> Built:
        """Return the example without tokens that says that a user is forgotten."""
        self.serial += 1
        message = encode_example(farewell(self._partition, self.serial, now_ms, user, self.parent))
        self.parent = message_digest(message)
        return Built(user, 0, message)

    def _example(self, user: CachedUser, chunk: list[Target], final_ms: int) -> Built:
        self.serial += 1
        end = chunk[-1].position + 1
        start = max(user.state.first, end - self._limit)
        data = user.tokens(start, end)
        text_keys = _ids_in(data[max(user.state.texted - start, 0) * TOKEN.size :])
        user.state.texted = max(user.state.texted, end)
        head = Head(self._partition, self.serial, final_ms, user.key, start, self.parent)
        labels = [label for target in chunk for label in target.labels]
        columns = _columns(data, chunk, labels, start, text_keys)
        counts = end - start, len(chunk), len(labels)
        message = pack_example(head, counts, columns, self._texts.encoded(text_keys))
        self.parent = message_digest(message)
        return Built(user.key, end - start, message)


def _columns(data: bytes, chunk: list[Target], labels: list[int], start: int, text_keys: list[int]) -> list[bytes]:
    """Return the columns of an example whose first token is at `start` (stream/example.py has their order)."""
    tokens, t = np.frombuffer(data, TOKEN_DTYPE), len(chunk)
    label_ends = accumulate([len(target.labels) for target in chunk], initial=0)
    queries = [target.query - start if target.query >= start else -1 for target in chunk]
    padding = f"{t % 2 * 4}x"
    return [
        *(tokens["key"].tobytes(), tokens["action"].tobytes(), tokens["ts_ms"].tobytes()),
        struct.pack(f"<{t}q", *[target.request_ms for target in chunk]),
        struct.pack(f"<{len(labels)}Q", *labels),
        struct.pack(f"<{len(text_keys)}Q", *text_keys),
        struct.pack(f"<{t}i{padding}", *[target.position - start for target in chunk]),
        struct.pack(f"<{t}i{padding}", *queries),
        struct.pack(f"<{t}I{padding}", *[target.request for target in chunk]),
        struct.pack(f"<{t + 1}I{(t + 1) % 2 * 4}x", *label_ends),
        *(b"", tokens["kind"].tobytes() + bytes(-len(tokens) % 8)),
    ]


def _chunks(targets: list[Target], span: int) -> Iterator[list[Target]]:
    chunk: list[Target] = []
    for target in targets:
        if chunk and target.position - chunk[0].position >= span:
            yield chunk
            chunk = []
        chunk.append(target)
    yield chunk


def _ids_in(tokens: bytes) -> list[int]:
    """Return the distinct ids of tokens in order of appearance."""
    found: dict[int, None] = {}
    for key, action, _, kind in TOKEN.iter_unpack(tokens):
        found[key] = None
        if kind == Kind.ACTION:
            found[action] = None
    return list(found)
