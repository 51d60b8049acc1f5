"""DSIN, Deep Session Interest Network (Feng et al., 2019, arXiv 1905.06482): interest by session, then across sessions.

R requests, N candidates, K behaviours, S = 5 sessions, D width, H heads. A behaviour more than 30 minutes after the one
before begins a session; the last S sessions count, and of each the last 10 behaviours.

    x_k = e_k + session bias + place bias               places from the session's end
    i_s = mean over the session of FFN(MultiHead(x))    self-attention within the session; FFN with residual
    h_s = BiLSTM(i_1 .. i_S)                            both directions side by side
    u_I = sum over s of softmax_s(i_s · W_I c) i_s;     u_H = sum over s of softmax_s(h_s · W_H c) h_s
    logits = MLP([u_I, u_H, c, profile])

Changed for one pass: biases are of sessions and places, not of each dimension as well; sessions count from the last
one, so that a bias means the same for histories of any length.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot, relu
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from model.network.ranking.base import RankingModel
from model.network.ranking.history import Candidates, Histories
from model.network.ranking.layers import Weights, masked_softmax

_SESSIONS, _PLACES, _GAP_S = 5, 10, 30 * 60


class Ranker(RankingModel):
    """The layers of sessions, and the MLP."""

    def build(self, weights: Weights) -> None:
        """Draw the weights."""
        dim = self.dim
        self.session_bias, self.place_bias = weights.matrix(_SESSIONS, dim), weights.matrix(_PLACES, dim)
        self.w_qkv, self.w_out = weights.linear(dim, 3 * dim, bias=False), weights.linear(dim, dim, bias=False)
        self.w_1, self.w_2 = weights.linear(dim, dim), weights.linear(dim, dim)
        self.lstm = weights.lstm(dim)
        self.w_interest, self.w_hidden = (weights.linear(dim, outer * dim, bias=False) for outer in (1, 2))
        self.mlp = weights.mlp(5 * dim, 2 * dim, dim, self.actions)

    def forward(self, history: Histories, candidates: Candidates) -> Tensor:
        """Return the logits, [N, A]."""
        request_N, c_ND = candidates.request, candidates.rows
        interest_RSD, there_RS = self._interests(history)
        hidden_RSE = self._across(interest_RSD, there_RS)
        parts = [
            _attended(x_RSE[request_N], w(c_ND), there_RS[request_N])
            for x_RSE, w in ((interest_RSD, self.w_interest), (hidden_RSE, self.w_hidden))
        ]
        logits_NA: Tensor = self.mlp(torch.cat((*parts, c_ND, history.profile[request_N]), -1))
        return logits_NA

    def _interests(self, history: Histories) -> tuple[Tensor, Tensor]:
        """Return the interest of each session, the last first, [R, S, D], and which sessions there are, [R, S]."""
        session_RK, place_RK, there_RK = sessions(history)
        x_RKD = history.behaviours + self.session_bias[session_RK] + self.place_bias[place_RK]
        same_RKK = (session_RK[..., None] == session_RK[:, None]) & there_RK[:, None]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.w_qkv(x_RKD).chunk(3, -1))
        weights = masked_softmax(q @ k.mT / math.sqrt(q.shape[-1]), same_RKK[:, None])
        y_RKD = self.w_out((weights @ v).transpose(1, 2).flatten(2))
        y_RKD = y_RKD + self.w_2(relu(self.w_1(y_RKD)))
        member_RSK = (one_hot(session_RK, _SESSIONS) * there_RK[..., None]).mT.to(y_RKD.dtype)
        many_RS1 = member_RSK.sum(-1, keepdim=True)
        return member_RSK @ y_RKD / many_RS1.clamp(min=1), many_RS1.squeeze(-1) > 0

    def _across(self, interest_RSD: Tensor, there_RS: Tensor) -> Tensor:
        """Return the states of both directions, [R, S, 2 D]; sessions that are not there have some too."""
        if not len(interest_RSD):
            return interest_RSD.new_zeros(0, _SESSIONS, 2 * self.dim)
        lengths = there_RS.sum(1).clamp(min=1).cpu()
        packed = pack_padded_sequence(interest_RSD, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=_SESSIONS)[0]


def sessions(history: Histories) -> tuple[Tensor, Tensor, Tensor]:
    """Return each behaviour's session and its place there, both counted from the end, and which count, [R, K] each."""
    ages_RK, there_RK = history.ages, history.there
    ends_RK = (ages_RK[:, :-1] - ages_RK[:, 1:] > _GAP_S) & there_RK[:, 1:]
    ends_RK = torch.nn.functional.pad(ends_RK, (0, 1))
    session_RK = ends_RK.flip(1).cumsum(1).flip(1)
    same_RKK = (session_RK[..., None] == session_RK[:, None]) & there_RK[:, None]
    place_RK = same_RKK.triu(1).sum(-1)
    there_RK = there_RK & (session_RK < _SESSIONS) & (place_RK < _PLACES)
    return session_RK.clamp(max=_SESSIONS - 1), place_RK.clamp(max=_PLACES - 1), there_RK


def _attended(x_NSE: Tensor, key_NE: Tensor, there_NS: Tensor) -> Tensor:
    """Return the mean of the sessions by a softmax of their products with a key, [N, E]."""
    weight_NS = masked_softmax((x_NSE @ key_NE[..., None]).squeeze(-1), there_NS)
    return (weight_NS[:, None] @ x_NSE).squeeze(1)
