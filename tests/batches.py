"""Hypothesis strategies for micro-batches: examples of any content, and retrieval questions whose answers are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from model.data.candidates import Questions
from model.data.entity_index import EntityIndex
from stream.example import NO_KEY, Example, Kind

keys = st.integers(0, 5) | st.integers(2**64 - 3, 2**64 - 1)
UNKNOWN = 99  # an item that the vocabulary of a Quiz does not have
HISTORY_MS, LATEST_MS = 10, 40


def make_example(tokens: list[tuple[int, int, int, int]], user: int = 1) -> Example:
    """Return an example of (key, action, ts_ms, kind) tokens without targets."""
    columns = list(zip(*tokens, strict=True)) or [(), (), (), ()]
    none = np.empty(0, np.int64)
    return Example(
        *(0, 1, 0, user, 0),
        *(np.array(columns[0], np.uint64), np.array(columns[1], np.uint64)),
        *(np.array(columns[2], np.int64), np.array(columns[3], np.uint8)),
        *(none.astype(np.int32), none.astype(np.int32), none.astype(np.uint32), none),
        *(np.zeros(1, np.uint32), none.astype(np.uint64), none.astype(np.uint64), ()),
    )


def with_targets(example: Example, targets: list[tuple[int, int, int, int, list[int]]]) -> Example:
    """Return the example with (position, query, request, request_ms, labels) targets."""
    positions, queries, requests, request_ms, labels = list(zip(*targets, strict=True)) or [()] * 5
    head = example.partition, example.serial, example.final_ms, example.user, example.first
    return Example(
        *head,
        *(example.keys, example.actions, example.ts_ms, example.kinds),
        *(np.array(positions, np.int32), np.array(queries, np.int32), np.array(requests, np.uint32)),
        np.array(request_ms, np.int64),
        np.cumsum([0, *map(len, labels)], dtype=np.uint32),
        np.array([key for each in labels for key in each], np.uint64),
        *(example.text_keys, example.texts),
    )


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Draw an example; its columns need not be consistent."""
    tokens = draw(st.lists(st.tuples(keys, keys, st.integers(0, 50), st.sampled_from(Kind)), max_size=6))
    position = st.integers(0, max(0, len(tokens) - 1))
    target = st.tuples(
        position, position | st.just(-1), st.integers(0, 3), st.integers(0, 50), st.lists(keys, max_size=3)
    )
    targets = draw(st.lists(target, max_size=4)) if tokens else []
    return with_targets(make_example(tokens, draw(keys)), targets)


@dataclass(frozen=True, slots=True)
class Quiz:
    """Questions on items 0 to V-1, one user each, and the plain values that they were made from."""

    born_ms: list[int]  # [V]
    withdrawn: list[bool]  # [V]
    targets: list[int]  # [T] items, or UNKNOWN
    request_ms: list[int]  # [T]
    histories: list[list[int | None]]  # [T] items acted on, oldest first; None is an attribute or an item only shown
    questions: Questions

    def candidates(self, t: int) -> set[int]:
        """Return the candidates of question t."""
        return {v for v, born_ms in enumerate(self.born_ms) if born_ms < self.request_ms[t] and not self.withdrawn[v]}


@st.composite
def quizzes(draw: st.DrawFn) -> Quiz:
    """Draw a few questions on a few items, some withdrawn, some born too late, some unknown."""
    born_ms = draw(st.lists(st.just(0) | st.integers(0, LATEST_MS), max_size=4))
    withdrawn = [draw(st.booleans()) and draw(st.booleans()) for _ in born_ms]
    items = st.sampled_from([*range(len(born_ms)), UNKNOWN])
    count = draw(st.integers(0, 4))
    targets = [draw(items) for _ in range(count)]
    request_ms = [draw(st.just(LATEST_MS) | st.integers(0, LATEST_MS)) for _ in targets]
    histories = [draw(st.lists(items | st.none(), max_size=8)) for _ in targets]
    return make_quiz(born_ms, withdrawn, targets, request_ms, histories)


def make_quiz(
    born_ms: list[int],
    withdrawn: list[bool],
    targets: list[int],
    request_ms: list[int],
    histories: list[list[int | None]],
    users: Sequence[int] | None = None,
) -> Quiz:
    """Return questions made from a batch and a vocabulary with these values; without `users` all are of one."""
    index = EntityIndex()
    index.items.admit(np.arange(1, len(born_ms) + 1, dtype=np.uint64), np.array(born_ms, np.int64))
    for v in np.flatnonzero(withdrawn):
        index.items.withdraw(int(v) + 1, LATEST_MS)
    users = users or [1] * len(targets)
    questions = index.ask([_example(*each) for each in zip(targets, request_ms, histories, users, strict=True)])
    return Quiz(born_ms, withdrawn, targets, request_ms, histories, questions)


def _example(target: int, request_ms: int, history: list[int | None], user: int) -> Example:
    """Return an example of the history and the target after it; attribute tokens have keys of items, too."""
    others = Kind.ATTRIBUTE, Kind.IMPRESSION
    tokens = [
        (1, NO_KEY, HISTORY_MS, others[n % 2]) if item is None else (item + 1, 1, HISTORY_MS, Kind.ACTION)
        for n, item in enumerate(history)
    ]
    example = make_example([*tokens, (target + 1, NO_KEY, request_ms, Kind.IMPRESSION)], user)
    return with_targets(example, [(len(history), len(history) - 1, 0, request_ms, [1])])
