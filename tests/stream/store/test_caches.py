"""Users and texts in memory: what is written back is what was there, and no more is kept than has to be."""

from collections import defaultdict

import pytest
from hypothesis import given, strategies as st

from stream.errors import StoreError
from stream.schema.dead_letters import RefusedError
from stream.schema.tokens import TOKEN, Kind
from stream.store import caches, layout
from stream.store.caches import TextIndex, UserCache
from stream.store.layout import BLOCK, TOKEN_BYTES
from tests.memory_store import MemoryStore

KEEP = 100
STEPS = ("append", "append", "drop", "write", "write", "open again")


def token(position: int) -> bytes:
    return TOKEN.pack(position, 0, 1000 + position, Kind.IMPRESSION)


def users_of(store: MemoryStore) -> UserCache:
    return UserCache(store, KEEP)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 3), st.integers(1, 90))), st.data())
def test_tokens_are_those_appended_whatever_is_written_dropped_and_opened_again(
    steps: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    """Against a list for each user: any range that is still kept reads the same, from memory or from the store."""
    store, lengths = MemoryStore({}), defaultdict[int, int](int)
    users = users_of(store)
    for step, key, count in steps:
        if step == "append":
            user = users.touch(key, f"user {key}")
            positions = range(lengths[key], lengths[key] + count)
            assert user.state.length == positions.start
            user.append(b"".join(map(token, positions)))
            lengths[key] += count
        elif step == "drop" and key in lengths:
            state = users.touch(key, "").state
            state.first = max(state.first, (lengths[key] - 1) // BLOCK * BLOCK)
        elif step in ("write", "open again"):
            store.write(users.write_back())
            assert list(users.write_back()) == []
        if step == "open again":
            users = users_of(store)
    store.write(users.write_back())
    for key, length in lengths.items():
        user = users_of(store).find(key)
        assert user is not None
        first = user.state.first
        assert (user.state.text, user.state.length) == (f"user {key}", length)
        start = data.draw(st.integers(first, length - 1))
        assert user.ts_ms(start) == 1000 + start
        assert user.tokens(start, length) == b"".join(map(token, range(start, length)))
        blocks = [found for found, _ in store.scan(layout.block_key(key, 0)[:9])]
        assert blocks == [layout.block_key(key, block) for block in range(first // BLOCK, -(-length // BLOCK))]


def test_users_in_the_store_are_trimmed_in_memory() -> None:
    """A long history takes no more memory than its last tokens, in whole blocks; the rest is read when needed."""
    store = MemoryStore({})
    users = users_of(store)
    user = users.touch(1, "u")
    for position in range(1000):
        user.append(token(position))
    user.trim()
    assert len(user.data) == 1000 * TOKEN_BYTES  # nothing of it is in the store yet
    store.write(users.write_back())
    assert KEEP * TOKEN_BYTES <= len(user.data) < (KEEP + BLOCK) * TOKEN_BYTES
    assert user.ts_ms(0) == 1000
    assert len(user.data) < (KEEP + BLOCK) * TOKEN_BYTES
    assert user.tokens(0, 2) == token(0) + token(1)


def test_users_in_memory_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were read first leave; what they were is in the store."""
    monkeypatch.setattr(caches, "_USERS_BYTES", 100_000)
    store = MemoryStore({})
    users = users_of(store)
    for key in range(1, 301):
        for position in range(50):
            users.touch(key, "u").append(token(position))
        store.write(users.write_back())
        assert sum(user.size for user in users._users.values()) <= 100_000
    assert 300 not in store.data
    assert all((found := users.find(key)) and found.state.length == 50 for key in range(1, 301))


def test_tokens_of_long_ago_are_read_and_not_kept() -> None:
    """An old range reads its own blocks; a recent one is kept, since the next example needs it again."""
    store = MemoryStore({})
    users = users_of(store)
    for position in range(5000):
        users.touch(1, "u").append(token(position))
    store.write(users.write_back())
    user = users_of(store).find(1)
    assert user is not None
    before = len(user.data)
    assert user.tokens(100, 200) == b"".join(map(token, range(100, 200)))
    assert len(user.data) == before
    assert user.tokens(4950, 5000) == b"".join(map(token, range(4950, 5000)))
    assert before < len(user.data) <= (KEEP + 2 * BLOCK) * TOKEN_BYTES
    assert user.tokens(100, 5000) == b"".join(map(token, range(100, 5000)))


def test_a_block_that_is_missing_or_short_is_damage() -> None:
    """The sentence names block and user, and what to do."""
    store = MemoryStore({})
    users = users_of(store)
    users.touch(255, "u").append(token(0))
    store.write(users.write_back())
    store.data[layout.block_key(255, 0)] = b""
    with pytest.raises(StoreError, match=r"Block 0 of user 00000000000000ff has 0 tokens instead of 1: .* delete"):
        users_of(store).find(255)


def test_texts_have_their_room_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The older half leaves, and is found in the store again; long texts leave sooner than short ones."""
    monkeypatch.setattr(caches, "_TEXTS_BYTES", 100_000)
    kept = {}
    for length in (1, 250):
        store = MemoryStore({})
        texts = TextIndex(store.get)
        for first in range(0, 1_000, 50):
            texts.learn(tuple((key, "\N{SNOWMAN}" * length + str(key)) for key in range(first, first + 50)))
            store.write(texts.write_back())
        assert 0 < texts._size <= 100_000
        kept[length] = len(texts._texts)
        assert texts.find(7) == "\N{SNOWMAN}" * length + "7"
    assert kept[1] > kept[250]


def test_texts_are_learned_all_or_none() -> None:
    """A collision names both texts; what came with it is not remembered; what was learned is in the store."""
    store = MemoryStore({})
    texts = TextIndex(store.get)
    texts.learn(((1, "a"), (2, "b")))
    store.write(texts.write_back())
    again = TextIndex(store.get)
    for index in (texts, again):
        with pytest.raises(RefusedError, match="'a' and 'c' have one key, 0000000000000001; the first is kept"):
            index.learn(((3, "d"), (1, "c")))
        index.learn(((2, "b"),))
        assert [index.find(key) for key in (1, 2, 3)] == ["a", "b", None]
        assert list(index.write_back()) == []
