"""Users of one partition in memory: a cache over the store, written back once per batch.

A user's tokens are buffered from a block boundary on; what lies before is read from the store when an example asks.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec
import numpy as np

from stream.errors import StoreError
from stream.schema.tokens import TOKEN_DTYPE
from stream.store import layout
from stream.store.layout import BLOCK, TOKEN_BYTES, UserState
from stream.store.rocksdb import MADE_ANEW

_CACHED: Final = 20_000  # users kept between batches; one takes about 1 kB plus its buffered tokens

Get = Callable[[bytes], bytes | None]


class CachedUser:
    """One user in memory: state, and the tokens from position `base` (a multiple of BLOCK) on."""

    __slots__ = ("base", "data", "key", "saved", "saved_first", "state", "was_active")

    def __init__(self, key: int, state: UserState) -> None:
        self.key = key
        self.state = state
        self.base = state.length // BLOCK * BLOCK
        self.data = bytearray()
        self.saved = state.length
        self.saved_first = state.first
        self.was_active = state.active

    def append(self, token: bytes) -> int:
        """Add a token of layout.TOKEN_BYTES bytes and give its position."""
        self.data += token
        self.state.length += 1
        return self.state.length - 1

    def tokens(self, start: int, end: int, get: Get) -> bytes:
        """Give the bytes of tokens start … end-1, reading older blocks through `get`."""
        while self.base > start:
            before = self.base - BLOCK
            self.data[:0] = _block(get, self.key, before // BLOCK, BLOCK)
            self.base = before
        return bytes(self.data[(start - self.base) * TOKEN_BYTES : (end - self.base) * TOKEN_BYTES])

    def ts_ms(self, position: int, get: Get) -> int:
        """Give the time of one token without keeping its block in memory."""
        if position >= self.base:
            at = (position - self.base) * TOKEN_BYTES
            token = bytes(self.data[at : at + TOKEN_BYTES])
        else:
            block = _block(get, self.key, position // BLOCK, BLOCK)
            token = block[position % BLOCK * TOKEN_BYTES :][:TOKEN_BYTES]
        return int(np.frombuffer(token, TOKEN_DTYPE)["ts_ms"][0])

    def trim(self, keep: int) -> None:
        """Forget blocks that are in the store and older than the last `keep` tokens."""
        base = min(self.saved, max(self.state.length - keep, 0)) // BLOCK * BLOCK
        if base > self.base:
            del self.data[: (base - self.base) * TOKEN_BYTES]
            self.base = base


def _block(get: Get, user: int, block: int, tokens: int) -> bytes:
    data = get(layout.block_key(user, block))
    if data is None or len(data) < tokens * TOKEN_BYTES:
        raise StoreError(
            f"Block {block} of user {user:016x} has {len(data or b'') // TOKEN_BYTES} tokens instead of {tokens}: the "
            f"store is damaged; delete this partition's folder: {MADE_ANEW}"
        )
    return data[: tokens * TOKEN_BYTES]


class UserCache:
    """The users of one partition. Between two `write_back`s every user that was touched stays in memory."""

    def __init__(self, get: Get, keep_tokens: int) -> None:
        self._get = get
        self._keep = keep_tokens
        self._members: dict[int, CachedUser] = {}
        self._dirty: dict[int, CachedUser] = {}
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(UserState)

    def find(self, key: int) -> CachedUser | None:
        """Give a known user, without marking it as changed."""
        member = self._members.get(key)
        if member is None and (data := self._get(layout.user_key(key))) is not None:
            member = CachedUser(key, self._decoder.decode(data))
            if tail := member.state.length - member.base:
                member.data += _block(self._get, key, member.base // BLOCK, tail)
            self._members[key] = member
        return member

    def touch(self, key: int, text: str = "") -> CachedUser:
        """Give a user that is about to change, made with this text if it is new."""
        member = self._dirty.get(key) or self.find(key)
        if member is None:
            member = self._members[key] = CachedUser(key, UserState(text))
        self._dirty[key] = member
        return member

    def write_back(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Give what changed as (key, value), value None for a key to delete; then forget that it changed."""
        for key, member in self._dirty.items():
            state = member.state
            for block in range(member.saved_first // BLOCK, state.first // BLOCK):
                yield layout.block_key(key, block), None
            for block in range(max(member.saved, state.first) // BLOCK, -(-state.length // BLOCK)):
                start = (block * BLOCK - member.base) * TOKEN_BYTES
                yield layout.block_key(key, block), bytes(member.data[start : start + BLOCK * TOKEN_BYTES])
            yield layout.user_key(key), self._encoder.encode(state)
            if state.active != member.was_active:
                yield layout.active_key(key), b"" if state.active else None
                member.was_active = state.active
            member.saved, member.saved_first = state.length, state.first
            member.trim(self._keep)
        self._dirty.clear()
        if len(self._members) > _CACHED:
            for key in list(self._members)[: len(self._members) - _CACHED // 2]:
                del self._members[key]
