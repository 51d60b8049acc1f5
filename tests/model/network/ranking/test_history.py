"""Histories against a walk through the tokens."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from model.network.ranking.history import Histories, Tokens, candidates_of, histories
from stream.example import Kind

DIM = 3


def tokens_of(lengths: list[int], seed: int) -> Tokens:
    rng, count = torch.Generator().manual_seed(seed), sum(lengths)
    content, action = (torch.randn(count, DIM, generator=rng, dtype=torch.float64) for _ in range(2))
    kinds = torch.randint(0, 3, (count,), generator=rng)
    items = torch.where(kinds == Kind.ATTRIBUTE, -1, torch.randint(-1, 3, (count,), generator=rng))
    action = action * (kinds == Kind.ACTION)[:, None]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Tokens(content, action, items, kinds, 1000 * torch.arange(count), offsets)


def walked(tokens: Tokens, query: int, request_ms: int, most: int) -> dict[str, list[Tensor]]:
    """Return what a user's history is at one request."""
    start = max(int(offset) for offset in tokens.offsets if offset <= query) if query >= 0 else 0
    scale, acted, profile, shown = math.sqrt(DIM), [], [], []
    for t in range(start, query + 1):
        if tokens.kinds[t] == Kind.ATTRIBUTE:
            profile.append(tokens.content[t] * scale)
        elif tokens.kinds[t] == Kind.IMPRESSION:
            shown.append(t)
        else:
            other = next((s for s in shown[:-3:-1] if tokens.items[s] != tokens.items[t]), None)
            skipped = torch.zeros(DIM) if other is None or tokens.items[other] < 0 else tokens.content[other] * scale
            age = torch.tensor((request_ms - float(tokens.ts_ms[t])) / 1000)
            acted.append(((tokens.content[t] + tokens.action[t]) * scale, tokens.items[t], age, skipped))
    return {"acted": acted[-most:] if most else acted, "profile": profile[-8:]}  # type: ignore[dict-item]


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    most=st.sampled_from([0, 1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_a_history_is_what_the_user_did_before_the_request(lengths: list[int], seed: int, most: int) -> None:
    """At every token of every user, and without any: behaviours, ages, what was skipped, attributes."""
    tokens = tokens_of(lengths, seed)
    queries = [-1, *range(sum(lengths))]
    request_ms = [1000 * query + 500 for query in queries]
    found = histories(tokens, torch.tensor(queries), torch.tensor(request_ms), most)
    for r, (query, at_ms) in enumerate(zip(queries, request_ms, strict=True)):
        wanted = walked(tokens, query, at_ms, most)
        count = len(wanted["acted"])
        assert found.there[r].tolist() == [k < count for k in range(found.there.shape[1])]
        assert not found.behaviours[r, count:].any()
        assert (found.items[r, count:] == -1).all()
        for k, (row, item, age, skipped) in enumerate(wanted["acted"]):
            assert torch.allclose(found.behaviours[r, k], row)
            assert found.items[r, k] == item
            assert float(found.ages[r, k]) == pytest.approx(float(age))
            assert torch.allclose(found.skipped[r, k], skipped.double())
        mean = torch.stack(wanted["profile"]).mean(0) if wanted["profile"] else torch.zeros(DIM).double()
        assert torch.allclose(found.profile[r], mean)


def test_no_tokens_are_no_history() -> None:
    """Requests of users without a history alone: one place of padding, all zeros."""
    found = histories(tokens_of([0], 0), torch.tensor([-1, -1]), torch.tensor([5, 6]), 0)
    assert isinstance(found, Histories)
    assert found.behaviours.shape == (2, 1, DIM)
    assert not any(column.any() for name, column in found._asdict().items() if name != "items")


def test_a_log_of_actions_alone_has_no_requests() -> None:
    """Then there are tokens, and nothing to rank."""
    none = torch.empty(0, dtype=torch.int64)
    assert histories(tokens_of([4, 2], 0), none, none, 0).behaviours.shape == (0, 1, DIM)


def test_candidates_are_scaled_as_tokens_are() -> None:
    """By the root of the width."""
    rows = torch.ones(2, 4)
    assert torch.equal(candidates_of(rows, torch.tensor([1, 2]), torch.tensor([0, 0])).rows, 2 * rows)
