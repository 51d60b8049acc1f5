"""MIMN, Multi-channel user Interest Memory Network (Pi et al., 2019, arXiv 1905.09248): behaviours in slots of memory.

R requests, K behaviours, D width, m = 4 slots. At each behaviour e, with M the memory, S the channels, h a controller:

    h = GRU([e, r], h)
    w_r, w_w = softmax_i(cosine(W_r h, M_i)), softmax_i(cosine(W_w h, M_i))
    r = sum over i of w_r_i M_i                             read
    w = w_w * softmax(W_g g), normed to 1;  g += w          utilisation: g is what each slot has got so far
    M_i = (1 - w_i sigmoid(W_e h)) * M_i + w_i tanh(W_a h)  erase, add
    S_i = GRU([M_i, e], S_i)                                induction unit, of the k = 2 slots with the largest w_r

    logits = MLP([r_c, sum over i of softmax_i(S_i · W c) S_i, c, profile])     r_c: M read with W_c c as key

The memory belongs to the user, not to the candidate: on a server it moves with each event. Its loss is the variance of
g over the slots, times 0.01. Changed for one pass: the memory is computed from the example's history each time, as no
state may outlive its weights here; the last 50 behaviours.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from model.network.long_history.sim_soft import profile
from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights

_SLOTS, _INDUCED, _BALANCE = 4, 2, 0.01


class Ranker(RankingModel):
    """The memory, its controller, and the MLP."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.first = weights.matrix(_SLOTS, dim)
        self.controller, self.induction = Cell(2 * dim, dim, weights), Cell(2 * dim, dim, weights)
        self.w_read, self.w_write, self.w_erase, self.w_add = (weights.linear(dim, dim) for _ in range(4))
        self.w_g = weights.linear(_SLOTS, _SLOTS, bias=False)
        self.w_key, self.w_channel = (weights.linear(dim, dim, bias=False) for _ in range(2))
        self.mlp = weights.mlp(4 * dim, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        memory_RmD, channels_RmD, _ = self.memories(history)
        memory_NmD, channels_NmD = (x[candidates.request] for x in (memory_RmD, channels_RmD))
        read_ND = (_address(self.w_key(candidates.rows), memory_NmD)[:, None] @ memory_NmD).squeeze(1)
        weight_N1m = (self.w_channel(candidates.rows)[:, None] @ channels_NmD.mT).softmax(-1)
        parts = (read_ND, (weight_N1m @ channels_NmD).squeeze(1), candidates.rows, profile(history, candidates))
        logits_NA: Tensor = self.mlp(torch.cat(parts, -1))
        return logits_NA

    def memories(self, history: Histories) -> tuple[Tensor, Tensor, Tensor]:
        """Return memory and channels after the last behaviour, [R, m, D] each, and what each slot has got, [R, m]."""
        requests = len(history.there)
        memory = self.first.expand(requests, -1, -1)
        channels, h, read = torch.zeros_like(memory), *(memory.new_zeros(requests, self.dim) for _ in range(2))
        got = memory.new_zeros(requests, _SLOTS)
        for e_RD, there_R in zip(history.behaviours.unbind(1), history.there.unbind(1), strict=True):
            state = self._step(e_RD, h, read, memory, channels, got)
            old, there = (h, read, memory, channels, got), there_R[:, None]
            h, read, memory, channels, got = (
                torch.where(there if new.dim() == 2 else there[..., None], new, before)
                for new, before in zip(state, old, strict=True)
            )
        return memory, channels, got

    def _step(self, e: Tensor, h: Tensor, read: Tensor, memory: Tensor, channels: Tensor, got: Tensor) -> list[Tensor]:
        h = self.controller(torch.cat((e, read), -1), h)
        read_Rm, write_Rm = (_address(w(h), memory) for w in (self.w_read, self.w_write))
        read = (read_Rm[:, None] @ memory).squeeze(1)
        write_Rm = write_Rm * self.w_g(got).softmax(-1)
        write_Rm = write_Rm / write_Rm.sum(-1, keepdim=True)
        erase_RD, add_RD, write_Rm1 = self.w_erase(h).sigmoid(), self.w_add(h).tanh(), write_Rm[..., None]
        memory = memory * (1 - write_Rm1 * erase_RD[:, None]) + write_Rm1 * add_RD[:, None]
        largest = read_Rm.detach().sort(dim=-1, descending=True, stable=True).indices[:, :_INDUCED]
        induced_Rm = torch.zeros_like(read_Rm, dtype=torch.bool).scatter(1, largest, value=True)
        moved = self.induction(torch.cat((memory, e[:, None].expand_as(memory)), -1), channels)
        return [h, read, memory, torch.where(induced_Rm[..., None], moved, channels), got + write_Rm]

    def auxiliary_loss(self, history: Histories, candidates: Candidates, labels_NA: Tensor) -> Tensor:
        """Return the variance of what the slots have got, a mean over requests."""
        got_Rm = self.memories(history)[2]
        return _BALANCE * (got_Rm - got_Rm.mean(-1, keepdim=True)).square().sum() / max(1, len(got_Rm))


class Cell(nn.Module):
    """A GRU's step, on any leading dimensions; its equations are those of encoders/gru.py."""

    def __init__(self, inner: int, dim: int, weights: Weights) -> None:
        super().__init__()
        self.x, self.h = weights.linear(inner, 3 * dim), weights.linear(dim, 3 * dim)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Return the next state."""
        (x_r, x_z, x_n), (h_r, h_z, h_n) = self.x(x).chunk(3, -1), self.h(h).chunk(3, -1)
        z = (x_z + h_z).sigmoid()
        new: Tensor = (1 - z) * (x_n + (x_r + h_r).sigmoid() * h_n).tanh() + z * h
        return new


def _address(key_RD: Tensor, memory_RmD: Tensor) -> Tensor:
    """Return the softmax of the cosines between a key and the slots, [R, m]."""
    return (normalize(memory_RmD, dim=-1) @ normalize(key_RD, dim=-1)[..., None]).squeeze(-1).softmax(-1)
