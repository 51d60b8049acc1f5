import pytest
import torch
from torch import Tensor

from model.network.interest.dsin import sessions
from tests.model.network.ranking_cases import (
    DIM,
    DOUBLE,
    One,
    assert_equals,
    attention,
    case,
    dense,
    mean,
    mixed,
    mlp,
    ones,
    softmax,
)


def split(ages: list[float]) -> list[list[int]]:
    """Return the last ten behaviours of each of the last five sessions, the last session first."""
    found: list[list[int]] = []
    for k, age in enumerate(ages):
        if not k or ages[k - 1] - age > 1800:
            found.append([])
        found[-1].append(k)
    return [session[-10:] for session in found[::-1][:5]]


def literal(model, one: One) -> Tensor:
    """Go through the equations of model/network/interest/dsin.py, session by session."""
    interests = []
    for s, session in enumerate(split(one.ages)):
        x = [
            one.behaviours[k] + model.session_bias[s] + model.place_bias[len(session) - 1 - n]
            for n, k in enumerate(session)
        ]
        q, k, v = ([part @ row for row in x] for part in model.w_qkv.weight.chunk(3))
        rows = [dense(model.w_out, attention(query, k, v)) for query in q]
        rows = [row + dense(model.w_2, torch.relu(dense(model.w_1, row))) for row in rows]
        interests.append(mean(rows))
    forth, back = lstm(model.lstm, interests, ""), lstm(model.lstm, interests[::-1], "_reverse")[::-1]
    hidden = [torch.cat(pair) for pair in zip(forth, back, strict=True)]
    parts = []
    for w, states, width in ((model.w_interest, interests, DIM), (model.w_hidden, hidden, 2 * DIM)):
        key = dense(w, one.candidate)
        parts.append(mixed(softmax([(state * key).sum() for state in states]), states, width))
    return mlp(model.mlp, torch.cat((*parts, one.candidate, one.profile)))


def lstm(layer: torch.nn.LSTM, xs: list[Tensor], tail: str) -> list[Tensor]:
    h, c = (torch.zeros(DIM, dtype=DOUBLE) for _ in range(2))
    w_x, w_h, b_x, b_h = (
        getattr(layer, f"{name}_l0{tail}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    states = []
    for x in xs:
        i, f, g, o = (w_x @ x + b_x + w_h @ h + b_h).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return states


def test_dsin_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64; 25 behaviours make more sessions than count."""
    assert_equals("dsin", literal)


@pytest.mark.parametrize("seed", range(3))
def test_sessions_count_from_the_end(seed: int) -> None:
    """A gap of more than half an hour begins one."""
    history, candidates, _ = case((25, 3, 0), each=1, seed=seed)
    session, place, there = sessions(history)
    for r, one in enumerate(ones(history, candidates)):
        wanted = {k: (s, len(part) - 1 - n) for s, part in enumerate(split(one.ages)) for n, k in enumerate(part)}
        assert {k: (int(session[r, k]), int(place[r, k])) for k in torch.nonzero(there[r]).flatten().tolist()} == wanted


def test_there_are_gaps_in_the_cases() -> None:
    """Else the tests above would compare one session with itself."""
    history, candidates, _ = case()
    assert len(split(ones(history, candidates)[-1].ages)) == 5
