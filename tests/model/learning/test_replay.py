from collections import Counter

import numpy as np
import pytest
from xxhash import xxh3_128

from model.learning.replay import ReplayBuffer
from stream.example import Example, encode_example, farewell
from tests.model.learning.test_replay_window import at, cut


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def hurried(targets: int, limit: int = 8) -> list[Example]:
    """Return an example for each target of one user, with the last `limit` tokens."""
    return [cut(max(0, t + 1 - limit), t + 1, [at(t)]) for t in range(1, targets + 1)]


def of_users(count: int) -> list[Example]:
    return [Example(**{n: getattr(e, n) for n in e.__slots__} | {"user": u}) for u in range(count) for e in hurried(3)]


def filled(examples: list[Example], max_bytes: int = 1 << 20) -> ReplayBuffer:
    buffer = ReplayBuffer(max_bytes)
    buffer.add(examples)
    return buffer


def digest(buffer: ReplayBuffer) -> str:
    buffer.digest_update(hasher := xxh3_128())
    return hasher.hexdigest()


@pytest.mark.parametrize("targets", [1, 5, 8, 40])
def test_every_target_of_the_past_is_there_once_with_its_history(targets: int) -> None:
    """However many examples the user's targets came in, each is asked with as many tokens as half an example has."""
    buffer = filled(hurried(targets))
    drawn = buffer.draw(99, rng())
    positions = np.concatenate([example.positions + example.first for example in drawn])
    assert sorted(positions) == [*range(1, targets + 1)]
    for example in drawn:
        assert len(example.keys) <= 8
        assert (example.keys[example.positions] == example.positions + example.first).all()
        assert (example.queries >= np.minimum(example.positions + example.first - 1, 3)).all()
    assert len(drawn) <= 1 + targets // 4


def test_what_arrives_in_one_micro_batch_or_in_many_is_kept_alike() -> None:
    """And another order of the same examples is another past."""
    examples = of_users(5)
    one, other = filled(examples), ReplayBuffer(1 << 20)
    for example in examples:
        other.add([example])
    assert digest(one) == digest(other) != digest(filled(examples[::-1]))


def test_draws_are_distinct_and_uniform() -> None:
    """Each example is as likely as any other; equal generators draw equal examples."""
    buffer, generator = filled(of_users(10)), rng()
    counts = Counter(example.user for _ in range(500) for example in buffer.draw(4, generator))
    assert len(counts) == 10
    assert max(counts.values()) < 1.4 * min(counts.values())
    for seed in range(5):
        users = [example.user for example in buffer.draw(4, rng(seed))]
        assert users == [example.user for example in buffer.draw(4, rng(seed))]
        assert len({*users}) == 4


def test_the_oldest_leave_where_bytes_are_bounded() -> None:
    """The messages never have more bytes than they may, and the users that came last are there."""
    examples = of_users(40)
    size = len(encode_example(examples[2]))
    buffer = ReplayBuffer(5 * size)
    for example in examples:
        buffer.add([example])
        assert buffer.state()["messages"].nbytes <= 5 * size
    assert {example.user for example in buffer.draw(99, rng())} >= {37, 38, 39}
    assert len(filled(examples, 10)) == 0


def test_it_goes_on_from_its_state() -> None:
    """A buffer that took another's state in mid-stream keeps and draws the same, with and without room."""
    examples = [
        example for pair in zip(of_users(12), of_users(12)[18:] + of_users(12)[:18], strict=True) for example in pair
    ]
    for max_bytes in (1 << 20, 3000):
        whole, half, resumed = filled(examples, max_bytes), filled(examples[:30], max_bytes), ReplayBuffer(max_bytes)
        resumed.load_state({name: np.array(array) for name, array in half.state().items()})
        assert digest(resumed) == digest(half)
        resumed.add(examples[30:])
        assert digest(resumed) == digest(whole)
        drawn = [[encode_example(e) for e in buffer.draw(5, rng(3))] for buffer in (resumed, whole)]
        assert drawn[0] == drawn[1]


def test_a_user_who_is_forgotten_leaves() -> None:
    """As if their examples had never come; a checkpoint has none of them, and later ones begin anew."""
    examples = of_users(5)
    gone = farewell(0, 0, 0, 2)
    buffer = filled([*examples, gone])
    others = [example for example in examples if example.user != 2]
    assert digest(buffer) == digest(filled(others))
    assert 2 not in {example.user for example in buffer.draw(99, rng())}
    buffer.add([gone, examples[6]])
    assert digest(buffer) == digest(filled([*others, examples[6]]))
    again = ReplayBuffer(1 << 20)
    again.load_state(buffer.state())
    assert digest(again) == digest(buffer)
