"""Build examples out of gathered targets of one user and the tokens that they need.

An example ends with its last target and holds at most N = example_tokens tokens. Targets further apart than N/2 leave
in several examples, so that each keeps at least N/2 tokens of history where there are as many.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from stream.example import Example, farewell
from stream.schema.tokens import TOKEN, TOKEN_DTYPE, Kind
from stream.store.caches import CachedUser, TextIndex
from stream.store.layout import Target


class ExampleBuilder:
    """Builds the examples of one partition.

    Args:
        partition: The partition's number.
        example_tokens: How many tokens an example has at most.
        texts: Knows the text of every id in a token.
        serial: The serial of the last example built.
    """

    def __init__(self, partition: int, example_tokens: int, texts: TextIndex, serial: int) -> None:
        self.serial = serial
        self._partition = partition
        self._limit = example_tokens
        self._texts = texts

    def build(self, user: CachedUser, targets: Sequence[Target], final_ms: int) -> Iterator[Example]:
        """Return the examples of targets, in order of position; the user's `texted` moves on.

        Args:
            user: Whose targets they are.
            targets: At least one.
            final_ms: The event time at which they leave.
        """
        for chunk in _chunks(sorted(targets, key=lambda target: target.position), self._limit // 2):
            self.serial += 1
            yield self._example(user, chunk, final_ms)

    def farewell(self, user: int, now_ms: int) -> Example:
        """Return the example without tokens that says that a user is forgotten."""
        self.serial += 1
        return farewell(self._partition, self.serial, now_ms, user)

    def _example(self, user: CachedUser, chunk: list[Target], final_ms: int) -> Example:
        end = chunk[-1].position + 1
        start = max(user.state.first, end - self._limit)
        data = user.tokens(start, end)
        tokens = np.frombuffer(data, TOKEN_DTYPE)
        text_keys = _ids_in(data[max(user.state.texted - start, 0) * TOKEN.size :])
        user.state.texted = max(user.state.texted, end)
        label_counts = (len(target.labels) for target in chunk)
        return Example(
            partition=self._partition,
            serial=self.serial,
            final_ms=final_ms,
            user=user.key,
            first=start,
            keys=tokens["key"],
            actions=tokens["action"],
            ts_ms=tokens["ts_ms"],
            kinds=tokens["kind"],
            positions=np.array([target.position - start for target in chunk], "<i4"),
            queries=np.array([target.query - start if target.query >= start else -1 for target in chunk], "<i4"),
            requests=np.array([target.request for target in chunk], "<u4"),
            request_ms=np.array([target.request_ms for target in chunk], "<i8"),
            label_offsets=np.array(list(accumulate(label_counts, initial=0)), "<u4"),
            labels=np.array([label for target in chunk for label in target.labels], "<u8"),
            text_keys=np.array(text_keys, "<u8"),
            texts=tuple(self._texts.find(key) or "" for key in text_keys),
        )


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
