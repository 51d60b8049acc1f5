"""Examples out of gathered targets: which tokens they hold, and which texts they tell."""

from collections.abc import Iterable

import pytest
from hypothesis import given, strategies as st

from stream.example import NO_PARENT, Example, decode, message_digest
from stream.join.example_builder import Built, ExampleBuilder
from stream.schema.tokens import TOKEN, Kind
from stream.store.caches import CachedUser, TextIndex, UserCache
from stream.store.layout import Counters, Meta, Target
from tests.memory_store import MemoryStore
from tests.stream.join.play import play, the_examples
from tests.wire import action

LIMIT = 16


@pytest.fixture(scope="module")
def texts() -> TextIndex:
    """Knows the keys 0 … 299 by their decimal digits."""
    index = TextIndex(MemoryStore({}).get)
    index.learn(tuple((key, str(key)) for key in range(300)))
    return index


def user_with(tokens: int) -> CachedUser:
    """A user whose token at position p acts on item p by action 299."""
    user = UserCache(MemoryStore({}), 2 * LIMIT).touch(1, "u")
    user.append(b"".join(TOKEN.pack(position, 299, 1000 + position, Kind.ACTION) for position in range(tokens)))
    return user


def meta(serial: int) -> Meta:
    """A partition that has built so many examples."""
    return Meta(1, [], [], 0, [], serial, NO_PARENT, 0, b"", Counters([]), {})


def decoded(built: Iterable[Built]) -> list[Example]:
    """The examples of messages, each of which names the one before it, and says how many tokens it has."""
    examples, parent = [], None
    for _, tokens, message in built:
        example = decode(message)
        assert isinstance(example, Example)
        assert (tokens, parent in (None, example.parent)) == (len(example.keys), True)
        examples.append(example)
        parent = message_digest(message)
    return examples


@given(st.sets(st.integers(0, 149), min_size=1), st.integers(0, 100))
def test_each_target_leaves_once_with_half_an_example_of_history(
    texts: TextIndex, positions: set[int], first: int
) -> None:
    """An example ends with its last target, has at most LIMIT tokens, and begins no earlier than what is kept."""
    user = user_with(150)
    user.state.first = first
    kept = sorted(position for position in positions if position >= first) or [149]
    targets = [Target(position, position - 1, 1, 1000, [position]) for position in reversed(kept)]
    examples = decoded(ExampleBuilder(3, LIMIT, texts, meta(40)).build(user, targets, 5000))
    found = [example.first + int(at) for example in examples for at in example.positions]
    assert found == kept
    assert [example.serial for example in examples] == list(range(41, 41 + len(examples)))
    for example in examples:
        end = example.first + len(example.keys)
        assert example.keys.tolist() == list(range(example.first, end))
        assert (example.first + example.positions[-1] + 1, len(example.keys) <= LIMIT) == (end, True)
        earliest = example.first + int(example.positions[0])
        assert earliest - example.first >= min(LIMIT // 2, earliest - first)
        asked = [position - 1 if position - 1 >= example.first else None for position in found if position < end]
        queries = [example.first + int(at) if at >= 0 else None for at in example.queries]
        assert queries == asked[-len(queries) :]
    assert user.state.texted == kept[-1] + 1


@given(st.lists(st.integers(0, 149), min_size=1, max_size=6, unique=True))
def test_a_text_is_told_with_the_first_example_that_has_its_token(texts: TextIndex, ends: list[int]) -> None:
    """Tokens that an earlier example has told tell no text again; each token in an example is told by then."""
    user, builder, told = user_with(150), ExampleBuilder(0, LIMIT, texts, meta(0)), set[int]()
    for end in sorted(ends):
        for example in decoded(builder.build(user, [Target(end, end - 1, 1, 1000, [])], 5000)):
            keys = example.text_keys.tolist()
            assert example.texts == tuple(map(str, keys))
            assert not told & set(keys) - {299}
            told |= set(keys)
            assert set(example.keys.tolist()) <= told


def test_texts_of_new_tokens_travel_and_only_they() -> None:
    """An example tells the texts of tokens that no earlier example of the user has told."""
    clicks = [action("u", item, 1000 + i) for i, item in enumerate("abcd")]
    _, kafka, _ = play({"actions": clicks})
    assert [example.texts for example in the_examples(kafka)] == [("a", "click", "b", "c"), ("d", "click")]
