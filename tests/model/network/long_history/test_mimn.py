import torch
from torch import Tensor

from model.network.ranking.history import Histories
from tests.model.network.ranking_cases import (
    DIM,
    DOUBLE,
    One,
    assert_equals,
    assert_loss_equals,
    dense,
    gru_step,
    mixed,
    mlp,
    softmax,
)


def memory_of(model, one: One) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Go through the equations of model/network/long_history/mimn.py, slot by slot."""
    memory, channels = list(model.first), [torch.zeros(DIM, dtype=DOUBLE)] * 4
    h, read, got = torch.zeros(DIM, dtype=DOUBLE), torch.zeros(DIM, dtype=DOUBLE), [torch.zeros((), dtype=DOUBLE)] * 4
    for e in one.behaviours:
        h = step(model.controller, torch.cat((e, read)), h)
        reading, writing = address(dense(model.w_read, h), memory), address(dense(model.w_write, h), memory)
        read = mixed(reading, memory)
        balance = softmax(list(dense(model.w_g, torch.stack(got))))
        writing = [w * b for w, b in zip(writing, balance, strict=True)]
        writing = [w / sum(writing) for w in writing]
        erase, add = torch.sigmoid(dense(model.w_erase, h)), torch.tanh(dense(model.w_add, h))
        memory = [(1 - w * erase) * m + w * add for w, m in zip(writing, memory, strict=True)]
        for i in sorted(range(4), key=lambda i: -reading[i].item())[:2]:
            channels = [
                *channels[:i],
                step(model.induction, torch.cat((memory[i], e)), channels[i]),
                *channels[i + 1 :],
            ]
        got = [g + w for g, w in zip(got, writing, strict=True)]
    return memory, channels, got


def step(cell, x: Tensor, h: Tensor) -> Tensor:
    z, new = gru_step(cell.x.weight, cell.x.bias, cell.h.weight, cell.h.bias, x, h)
    return z * h + (1 - z) * new


def address(key: Tensor, memory: list[Tensor]) -> list[Tensor]:
    return softmax([(key * m).sum() / (key.square().sum() * m.square().sum()).sqrt() for m in memory])


def literal(model, one: One) -> Tensor:
    """Read the memory for the candidate."""
    memory, channels, _ = memory_of(model, one)
    read = mixed(address(dense(model.w_key, one.candidate), memory), memory)
    key = dense(model.w_channel, one.candidate)
    induced = mixed(softmax([(key * channel).sum() for channel in channels]), channels)
    return mlp(model.mlp, torch.cat((read, induced, one.candidate, one.profile)))


def literal_loss(model, ones: list[One], labels: Tensor, history: Histories) -> Tensor:
    """Add up the variances of what the slots have got, request by request."""
    total, requests = torch.zeros((), dtype=DOUBLE), ones[::2]  # two candidates a request
    for one in requests:
        got = memory_of(model, one)[2]
        total = total + sum((g - sum(got) / 4) ** 2 for g in got)
    return 0.01 * total / len(requests)


def test_mimn_is_its_equations() -> None:
    """Outputs and gradients of all weights and inputs, in float64."""
    assert_equals("mimn", literal, (0, 1, 4))


def test_the_slots_are_balanced_by_the_variance_of_what_they_got() -> None:
    """Value and gradients."""
    assert_loss_equals("mimn", literal_loss, (0, 1, 4))
