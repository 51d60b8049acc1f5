"""Assembly: gathered targets of one user, with the tokens they need, become examples.

An example ends with its last target and holds at most N = example_tokens tokens. Targets further apart than N/2 leave
in several, so that each has N/2 tokens of history where there are as many.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np

from stream.example import Example
from stream.schema.tokens import TOKEN, TOKEN_DTYPE, Kind
from stream.store.layout import Target
from stream.store.user_cache import CachedUser, Get

TextOf = Callable[[int], str]


def assemble(
    member: CachedUser,
    targets: Sequence[Target],
    *,
    partition: int,
    serial: int,
    final_ms: int,
    limit: int,
    get: Get,
    text_of: TextOf,
) -> Iterator[Example]:
    """Give the examples of these targets, in order of position, with serials from `serial` on.

    Args:
        member: the user, whose `texted` moves on.
        targets: at least one.
        partition: number of the partition.
        serial: of the first example.
        final_ms: event time at which they leave.
        limit: tokens of an example at most.
        get: reads the store.
        text_of: gives an id's text by its key.
    """
    for chunk in _chunks(sorted(targets, key=lambda target: target.position), limit // 2):
        end = chunk[-1].position + 1
        start = max(member.state.first, end - limit)
        data = member.tokens(start, end, get)
        tokens = np.frombuffer(data, TOKEN_DTYPE)
        text_keys = _keys_to_tell(data[max(member.state.texted - start, 0) * TOKEN.size :])
        member.state.texted = max(member.state.texted, end)
        label_counts = (len(target.labels) for target in chunk)
        yield Example(
            partition=partition,
            serial=serial,
            final_ms=final_ms,
            user=member.key,
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
            texts=tuple(text_of(key) for key in text_keys),
        )
        serial += 1


def _chunks(targets: list[Target], span: int) -> Iterator[list[Target]]:
    chunk: list[Target] = []
    for target in targets:
        if chunk and target.position - chunk[0].position >= span:
            yield chunk
            chunk = []
        chunk.append(target)
    yield chunk


def _keys_to_tell(tokens: bytes) -> list[int]:
    """Give the distinct ids of these tokens in order of appearance."""
    told: dict[int, None] = {}
    for key, action, _, kind in TOKEN.iter_unpack(tokens):
        told[key] = None
        if kind == Kind.ACTION:
            told[action] = None
    return list(told)
