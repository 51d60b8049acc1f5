"""Experience replay: past examples, of which each step draws some and trains on them again.

An example without tokens says that its user is forgotten: all examples of the user leave the buffer.

An example joins its user's last one while both have no more tokens than the longest example so far; else it begins
anew, with half as many tokens of history (replay_window.py). So each target of the past is in the buffer once, whether
it came alone or with others. Examples are kept as messages (stream/example.py) without texts, partition and serial. If
their messages have more than `max_bytes` together, those that began first are dropped; every one is as likely to be
drawn as any other.

    array of state()
    messages   u8   all messages, one after the other, in the order in which they began
    offsets    i64  [n+1] into them
    longest    i64  tokens of the longest example so far
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.arrays.byte_strings import pack, unpack
from model.arrays.digest import Hasher
from model.learning.replay_window import joined, shortened
from stream.example import Example, decode, encode_example

_NO_KEYS = np.empty(0, np.uint64)


class ReplayBuffer:
    """The past.

    Args:
        max_bytes: Of all messages.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes, self._longest = max_bytes, 0, 0
        self._first = self._end = 0  # numbers of the oldest, and of the next example
        self._messages: dict[int, bytes] = {}  # by number
        self._last_of: dict[int, int] = {}  # by user, the number of the last one

    def __len__(self) -> int:
        return self._end - self._first

    def add(self, examples: Sequence[Example]) -> None:
        """Take examples in; the oldest leave where there is no room."""
        for example in examples:
            if not len(example.keys):
                self._forget(example.user)
                continue
            self._longest = max(self._longest, len(example.keys))
            number = self._last_of.get(example.user)
            before = None if number is None else joined(self._example(number), example, self._longest)
            if number is None or before is None:
                number, before = self._end, shortened(example, self._longest // 2)
                self._end += 1
            before = replace(before, partition=0, serial=0, text_keys=_NO_KEYS, texts=())
            self._put(number, example.user, encode_example(before))

    def _forget(self, user: int) -> None:
        """Drop a user's examples, and number the others anew."""
        if user in self._last_of:
            kept = [message for message in self._messages.values() if _decoded(message).user != user]
            self._replace(kept)

    def _put(self, number: int, user: int, message: bytes) -> None:
        """Keep a message under a number, then make room."""
        self._bytes += len(message) - len(self._messages.get(number, b""))
        self._messages[number] = message
        self._last_of[user] = number
        while self._bytes > self._max_bytes:
            if self._last_of[leaving := self._example(self._first).user] == self._first:
                del self._last_of[leaving]
            self._bytes -= len(self._messages.pop(self._first))
            self._first += 1

    def _example(self, number: int) -> Example:
        return _decoded(self._messages[number])

    def draw(self, count: int, rng: np.random.Generator) -> list[Example]:
        """Return that many different examples, or all if there are fewer, in the order in which they began."""
        numbers = rng.choice(len(self), size=min(count, len(self)), replace=False, shuffle=False)
        return [self._example(self._first + number) for number in np.sort(numbers).tolist()]

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the table above, which are copies."""
        messages, offsets = pack([*self._messages.values()])
        return {"messages": messages, "offsets": offsets, "longest": np.array(self._longest, np.int64)}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace all examples by those of a state."""
        self._longest = int(state["longest"])
        self._replace(unpack(state["messages"], state["offsets"]))

    def _replace(self, messages: Iterable[bytes]) -> None:
        self._messages, self._last_of = {}, {}
        self._first = self._end = self._bytes = 0
        for message in messages:
            self._end += 1
            self._put(self._end - 1, _decoded(message).user, message)

    def digest_update(self, hasher: Hasher) -> None:
        """Feed all messages to a hasher."""
        for message in self._messages.values():
            hasher.update(message)
        hasher.update(str(self._longest).encode())


def _decoded(message: bytes) -> Example:
    example = decode(message)
    assert isinstance(example, Example)
    return example
