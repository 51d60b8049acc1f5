"""The users and the texts of one partition in memory: caches over the store, written back once per batch.

A user is read when time or an event needs it. Its tokens are in memory from a block boundary on; older ones are read
from the store when an example needs them.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np

from stream.errors import StoreDamagedError
from stream.schema.dead_letters import Reason, RefusedError
from stream.schema.tokens import TOKEN_DTYPE
from stream.store import layout
from stream.store.layout import BLOCK, TOKEN_BYTES, UserState
from stream.store.open_requests import OpenRequests
from stream.store.rocksdb import Store

_USERS_BYTES: Final = 64 << 20  # of the users that are kept between batches
_USER_BYTES: Final = 1500  # of one user in memory, without tokens and requests
_REQUEST_BYTES: Final = 1200  # of a request of ten items
_TEXTS_BYTES: Final = 40 << 20  # of the texts that are kept between batches: some 200,000 short ones
_TEXT_BYTES: Final = 136  # of one in memory, besides the string: its key and its place in the dictionary

Get = Callable[[bytes], bytes | None]


class CachedUser:
    """One user in memory: state, open requests, and the tokens from position `base` (a multiple of BLOCK) on."""

    __slots__ = ("_keep", "_store", "base", "counted", "data", "key", "open", "saved", "saved_first", "state")

    def __init__(self, key: int, state: UserState, store: Store, keep: int) -> None:
        self.key = key
        self.state = state
        self.open = OpenRequests(key, store, state.oldest)
        self.base = state.length // BLOCK * BLOCK
        self.data = bytearray()
        self.saved = state.length
        self.saved_first = state.first
        self.counted = 0  # bytes, in the sum of the cache
        self._store = store
        self._keep = keep
        if tail := state.length - self.base:
            self.data += self._block(self.base // BLOCK, tail)

    @property
    def size(self) -> int:
        """How many bytes it takes in memory, about."""
        return _USER_BYTES + len(self.data) + len(self.open) * _REQUEST_BYTES

    def append(self, tokens: bytes) -> None:
        """Add tokens of layout.TOKEN_BYTES bytes each."""
        self.data += tokens
        self.state.length += len(tokens) // TOKEN_BYTES

    def tokens(self, start: int, end: int) -> bytes:
        """Return the bytes of tokens start … end-1; older blocks are read from the store.

        They stay in memory if they are among the last: an example of long ago must not bring all that came since.
        """
        if start >= self.base:
            return bytes(self.data[(start - self.base) * TOKEN_BYTES : (end - self.base) * TOKEN_BYTES])
        recent = start >= self.state.length - self._keep
        upto = self.base if recent else min(self.base, -(-end // BLOCK) * BLOCK)
        first = start // BLOCK
        older = b"".join([self._block(block, BLOCK) for block in range(first, upto // BLOCK)])
        if recent:
            self.data[:0] = older
            self.base = first * BLOCK
            return self.tokens(start, end)
        data = older + self.data[: max(end - self.base, 0) * TOKEN_BYTES]
        return data[(start - first * BLOCK) * TOKEN_BYTES :][: (end - start) * TOKEN_BYTES]

    def ts_ms(self, position: int) -> int:
        """Return the time of one token without keeping its block in memory."""
        if position >= self.base:
            at = (position - self.base) * TOKEN_BYTES
            token = bytes(self.data[at : at + TOKEN_BYTES])
        else:
            block = self._block(position // BLOCK, BLOCK)
            token = block[position % BLOCK * TOKEN_BYTES :][:TOKEN_BYTES]
        return int(np.frombuffer(token, TOKEN_DTYPE)["ts_ms"][0])

    def changes(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Return what to write and to delete (value None) since the last call."""
        state = self.state
        for block in range(self.saved_first // BLOCK, state.first // BLOCK):
            yield layout.block_key(self.key, block), None
        for block in range(max(self.saved, state.first) // BLOCK, -(-state.length // BLOCK)):
            start = (block * BLOCK - self.base) * TOKEN_BYTES
            yield layout.block_key(self.key, block), bytes(self.data[start : start + BLOCK * TOKEN_BYTES])
        yield from self.open.changes()
        state.oldest = oldest.number if (oldest := self.open.oldest) else 0
        yield layout.user_key(self.key), layout.ENCODER.encode(state)
        self.saved, self.saved_first = state.length, state.first

    def erasure(self) -> Iterator[tuple[bytes, None]]:
        """Return what to delete so that the store has nothing of the user."""
        for block in range(self.saved_first // BLOCK, -(-self.saved // BLOCK)):
            yield layout.block_key(self.key, block), None
        yield from self.open.erasure()
        yield layout.user_key(self.key), None

    def trim(self) -> None:
        """Forget blocks that are in the store and older than the last tokens."""
        base = min(self.saved, max(self.state.length - self._keep, 0)) // BLOCK * BLOCK
        if base > self.base:
            del self.data[: (base - self.base) * TOKEN_BYTES]
            self.base = base

    def _block(self, block: int, tokens: int) -> bytes:
        data = self._store.get(layout.block_key(self.key, block))
        if data is None or len(data) < tokens * TOKEN_BYTES:
            raise StoreDamagedError(
                f"Block {block} of user {self.key:016x} has {len(data or b'') // TOKEN_BYTES} tokens instead of "
                f"{tokens}: the store is damaged; delete this partition's folder: {layout.REBUILT}"
            )
        return data[: tokens * TOKEN_BYTES]


class UserCache:
    """The users of one partition. Between two `write_back`s every user that was touched stays in memory.

    Args:
        store: Has what was written before.
        keep_tokens: How many tokens of a user stay in memory after a `write_back`.
    """

    def __init__(self, store: Store, keep_tokens: int) -> None:
        self._store = store
        self._keep = keep_tokens
        self._users: dict[int, CachedUser] = {}
        self._dirty: dict[int, CachedUser] = {}
        self._erased: dict[int, CachedUser] = {}  # as the store has them
        self._size = 0  # bytes

    def find(self, key: int) -> CachedUser | None:
        """Return a user without marking it as changed, None if it is unknown."""
        user = self._users.get(key)
        if user is None and key not in self._erased and (data := self._store.get(layout.user_key(key))) is not None:
            user = self._keep_user(key, layout.unpack(layout.USERS, layout.user_key(key), data))
        return user

    def touch(self, key: int, text: str) -> CachedUser:
        """Return a user that is about to change, made with this text if it is new."""
        user = self._dirty.get(key) or self.find(key) or self._keep_user(key, UserState(text))
        self._dirty[key] = user
        return user

    def change(self, user: CachedUser) -> None:
        """Note that a user is about to change."""
        self._dirty[user.key] = user

    def erase(self, key: int) -> None:
        """Forget a user that is known."""
        user = self.find(key)
        assert user is not None
        self._erased.setdefault(key, user)  # one that came back since has nothing in the store
        self._size -= self._users.pop(key).counted
        self._dirty.pop(key, None)

    def write_back(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Return what to write and to delete (value None), in this order, so that the store has every change."""
        for user in self._erased.values():
            yield from user.erasure()
        self._erased.clear()
        for user in self._dirty.values():
            yield from user.changes()
            user.trim()
            self._count(user)
        self._dirty.clear()
        if self._size > _USERS_BYTES:
            self._drop_oldest()

    def _keep_user(self, key: int, state: UserState) -> CachedUser:
        user = self._users[key] = CachedUser(key, state, self._store, self._keep)
        self._count(user)
        return user

    def _count(self, user: CachedUser) -> None:
        self._size += (size := user.size) - user.counted
        user.counted = size

    def _drop_oldest(self) -> None:
        for key in list(self._users):
            if self._size <= _USERS_BYTES // 2:
                break
            self._size -= self._users.pop(key).counted


class TextIndex:
    """Texts of items, action names and attribute values by key; a user's text is in its state.

    Args:
        get: Reads the store.
    """

    def __init__(self, get: Get) -> None:
        self._get = get
        self._texts: dict[int, str] = {}
        self._unwritten: dict[int, str] = {}
        self._size = 0  # bytes

    def find(self, key: int) -> str | None:
        """Return the text of a key, None if it is unknown."""
        text = self._texts.get(key)
        if text is None and (data := self._get(layout.text_key(key))) is not None:
            text = data.decode(errors="replace")  # damaged: then it collides with the real one
            self._keep(key, text)
        return text

    def encoded(self, keys: Iterable[int]) -> list[bytes]:
        """Return the texts of keys in UTF-8, empty where one is unknown."""
        return [(self.find(key) or "").encode() for key in keys]

    def learn(self, texts: tuple[tuple[int, str], ...]) -> None:
        """Remember (key, text) pairs, all or none of them.

        Raises:
            RefusedError: One of the keys has another text already.
        """
        new, cached = [], self._texts.get
        for key, text in texts:
            known = cached(key) or self.find(key)
            if known is None:
                new.append((key, text))
            elif known != text:
                raise collision(key, known, text)
        for key, text in new:
            self._unwritten[key] = text
            self._keep(key, text)

    def write_back(self) -> Iterator[tuple[bytes, bytes]]:
        """Return what to write so that the store has every text; of too many in memory the older half goes."""
        for key, text in self._unwritten.items():
            yield layout.text_key(key), text.encode()
        self._unwritten.clear()
        if self._size > _TEXTS_BYTES:
            for key in list(self._texts):
                if self._size <= _TEXTS_BYTES // 2:
                    break
                self._size -= _bytes_of(self._texts.pop(key))

    def _keep(self, key: int, text: str) -> None:
        if key not in self._texts:
            self._size += _bytes_of(text)
        self._texts[key] = text


def _bytes_of(text: str) -> int:
    return _TEXT_BYTES + sys.getsizeof(text)


def collision(key: int, known: str, text: str) -> RefusedError:
    """Return the refusal of an event whose id has the key of another id."""
    return RefusedError(Reason.COLLISION, f"the ids {known!r} and {text!r} have one key, {key:016x}; the first is kept")
