from typing import Any

import numpy as np
import pytest
import torch

from model.config import ModelSettings
from model.network.recommender import Recommender
from model.user_states.cache import UserStates
from model.user_states.encoding import Encoded, HistoryEncoder
from model.user_states.history import History
from stream.example import Kind

NOW_MS = 1_700_000_000_000
ITEMS, DIM = 50, 16
CANDIDATES = np.arange(0, ITEMS, 3)
NONE = np.empty(0, np.int64)
KINDS: list[dict[str, Any]] = [
    {},
    {"bias": "functional", "attention": "softmax"},
    {"bias": "none", "attention": "silu_seen", "recency_decays": ()},
]


def encoder(states: UserStates | None = None, **settings: Any) -> HistoryEncoder:
    generator = torch.Generator().manual_seed(0)
    recommender = Recommender(ModelSettings(dim=DIM, layers=2, heads=2, max_len=90, **settings), seed=0)
    recommender.requires_grad_(False)
    for parameter in recommender.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    tables = (torch.randn(rows, DIM, generator=generator) for rows in (ITEMS, 5))
    return HistoryEncoder(recommender, *tables, states)


def history(length: int, user: str = "") -> History:
    """Return tokens of all kinds; the first ones of two lengths are the same."""
    rng = np.random.default_rng(1)
    kinds, items, features = rng.integers(3, size=90), rng.integers(ITEMS, size=90), rng.integers(5, size=90)
    attribute = kinds == Kind.ATTRIBUTE
    columns = (
        np.where(attribute, -1, items),
        np.where(attribute, features, -1),
        np.where(kinds == Kind.ACTION, features, -1),
        NOW_MS - 60_000 * np.arange(90, 0, -1),
        kinds,
    )
    return History(*(column[:length] for column in columns), user=user)


def same(a: Encoded, b: Encoded) -> bool:
    return torch.equal(a.query, b.query) and torch.equal(a.candidates, b.candidates)


@pytest.mark.parametrize("settings", KINDS, ids=str)
@pytest.mark.parametrize("length", [1, 16, 17, 70])
def test_steps_equal_one_pass_of_the_encoder(settings: dict[str, Any], length: int) -> None:
    """The history, then candidates after it, give what both give in one sequence."""
    ours = encoder(**settings)
    for candidates in (CANDIDATES, NONE):
        found, whole = (each(history(length), candidates, NOW_MS) for each in (ours.encode, ours._whole))
        torch.testing.assert_close(found.query, whole.query, rtol=0, atol=1e-6)
        torch.testing.assert_close(found.candidates, whole.candidates, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_kept_state_changes_no_bit_and_is_extended(settings: dict[str, Any]) -> None:
    """The same user again, later and with more tokens, is answered as without states, and every look is counted."""
    states = UserStates(10**6)
    ours, plain = encoder(states, **settings), encoder(**settings)
    for step, (length, candidates) in enumerate(
        [(40, CANDIDATES), (40, NONE), (41, CANDIDATES), (49, NONE), (70, NONE)]
    ):
        now_ms = NOW_MS + 1000 * step
        assert same(
            ours.encode(history(length, "ada"), candidates, now_ms), plain.encode(history(length), candidates, now_ms)
        )
    assert states.asked == {"hit": 2, "extended": 2, "miss": 1}


def test_a_window_that_has_moved_on_is_encoded_anew() -> None:
    """Places count from the window's first token, so nothing of the state can be used."""
    states = UserStates(10**6)
    ours, plain = encoder(states), encoder()
    for start in range(3):
        moved = history(60 + start, "ada").last(60)
        assert same(ours.encode(moved, NONE, NOW_MS), plain.encode(moved, NONE, NOW_MS))
    assert states.asked == {"hit": 0, "extended": 0, "miss": 3}


def test_short_histories_and_nobodys_have_no_state() -> None:
    """Of 16 tokens the last one is of the request, so no block is whole; nothing is counted."""
    states = UserStates(10**6)
    ours = encoder(states)
    for tokens in (history(16, "ada"), history(60), history(0, "ada")):
        ours.encode(tokens, NONE, NOW_MS)
    assert sum(states.asked.values()) == states.bytes == 0


@pytest.mark.parametrize("encoder_name", ["gru", "transformer", "bert4rec", "s3rec"])
def test_other_encoders_have_no_state(encoder_name: str) -> None:
    """They encode the whole history each time."""
    states = UserStates(10**6)
    ours = encoder(states, encoder=encoder_name, bias="none")
    assert ours.encode(history(60, "ada"), CANDIDATES, NOW_MS).state is None
    assert sum(states.asked.values()) == 0


@pytest.mark.parametrize("settings", [*KINDS, {"encoder": "gru", "bias": "none"}], ids=str)
def test_a_history_without_a_token_is_what_it_is_alone(settings: dict[str, Any]) -> None:
    """Whatever is known of the tokens before, the query is that of the shorter history."""
    ours, tokens = encoder(**settings), history(60)
    encoded = ours.encode(tokens, NONE, NOW_MS)
    for place in (0, *range(14, 18), *range(31, 34), *range(47, 50), 58, 59):
        found = ours.without(tokens, encoded, place, NOW_MS)
        torch.testing.assert_close(found.query, ours.encode(tokens.without(place), NONE, NOW_MS).query, rtol=0, atol=0)
