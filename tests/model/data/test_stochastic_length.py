from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from model.config import TrainSettings
from model.data.micro_batch import PackedBatch, collate
from model.data.stochastic_length import kept_tokens, shortened
from stream.example import Example, Kind, decode
from tests.factories import make_examples

N = 32


def stream(count: int = 60) -> list[Example]:
    [log] = make_examples(users=3, count=count, partitions=1)
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def long_batch(length: int, examples: int) -> PackedBatch:
    """Return examples of `length` tokens each, whose last is the target and the one before it the query."""
    batch, ends = collate([]), length * np.arange(1, examples + 1)
    count = length * examples
    return replace(
        batch,
        offsets=np.concatenate(([0], ends)),
        keys=np.arange(count, dtype=np.uint64),
        actions=np.zeros(count, np.uint64),
        ts_ms=np.arange(count),
        kinds=np.full(count, int(Kind.ACTION), np.uint8),
        positions=ends - 1,
        queries=ends - 2,
        owners=np.arange(examples),
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("length", "alpha"), [(17, 1.6), (20, 1.6), (32, 1.6), (32, 1.9), (32, 1.2)])
def test_lengths_are_those_of_the_papers_rule(length: int, alpha: float) -> None:
    """A long sequence has N^(alpha/2) tokens with probability 1 - N^alpha/n², else all; to four deviations."""
    kept = kept_tokens(long_batch(length, 4000), N, alpha, rng()).reshape(4000, length).sum(1)
    short, whole = int(N ** (alpha / 2)), min(1.0, N**alpha / length**2)
    assert set(kept.tolist()) <= {short, length}
    assert abs((kept == length).mean() - whole) <= 4 * (whole * (1 - whole) / 4000) ** 0.5


def test_the_more_recent_a_token_the_likelier_it_stays() -> None:
    """Over many draws the share that is kept rises along the sequence; in the older half it is below the newer's."""
    kept = kept_tokens(long_batch(N, 4000), N, 1.2, rng()).reshape(4000, N).mean(0)[:-2]
    thirds = [part.mean() for part in np.split(kept, 3)]
    assert thirds[0] < thirds[1] < thirds[2]


@pytest.mark.parametrize("alpha", [1.2, 1.99, 2.0])
def test_short_sequences_stay_whole(alpha: float) -> None:
    """Up to N^(alpha/2) tokens nothing is dropped; with alpha 2 nothing ever is."""
    assert kept_tokens(long_batch(int(N ** (alpha / 2)), 50), N, alpha, rng()).all()


@given(st.integers(0, 99), st.sampled_from([1.1, 1.4, 1.8]), st.integers(0, 52))
@settings(deadline=None)
def test_targets_queries_and_their_times_stay(seed: int, alpha: float, first: int) -> None:
    """Every target and query points at the token it pointed at, next to the same next one; order is kept."""
    batch = collate(stream()[first : first + 8])
    kept = kept_tokens(batch, N, alpha, rng(seed))
    short = shortened(batch, kept)
    np.testing.assert_array_equal(short.ts_ms, batch.ts_ms[kept])
    np.testing.assert_array_equal(short.keys[short.positions], batch.keys[batch.positions])
    has = batch.queries >= 0
    np.testing.assert_array_equal(short.queries >= 0, has)
    for step in (0, 1):
        for name in ("keys", "actions", "ts_ms", "kinds"):
            before, after = getattr(batch, name), getattr(short, name)
            np.testing.assert_array_equal(after[short.queries[has] + step], before[batch.queries[has] + step])
    np.testing.assert_array_equal(np.diff(short.offsets), np.add.reduceat(kept, batch.offsets[:-1]))
    assert (short.positions >= short.offsets[short.owners]).all()
    assert (short.positions < short.offsets[short.owners + 1]).all()


def test_equal_generators_keep_equal_tokens() -> None:
    """The choice depends on the generator and the lengths, and differs from draw to draw."""
    batch = long_batch(N, 9)
    np.testing.assert_array_equal(kept_tokens(batch, N, 1.2, rng(3)), kept_tokens(batch, N, 1.2, rng(3)))
    assert (kept_tokens(batch, N, 1.2, rng(3)) != kept_tokens(batch, N, 1.2, rng(4))).any()


@pytest.mark.parametrize("alpha", [0.5, 1.0, -1.0, 2.1])
def test_an_alpha_that_makes_no_sense_is_refused(alpha: float) -> None:
    """It is 0, or above 1 and at most 2."""
    with pytest.raises(ValidationError, match="stochastic_length_alpha"):
        TrainSettings(stochastic_length_alpha=alpha)
