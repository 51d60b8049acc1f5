"""HSTU step by step on a CPU: the tokens of one history after those whose state is known, then candidates.

n tokens of history, m of them new, p known; b candidates, D width, S layers, V and K widths of a token's values and
keys, W = V + K. The loops are those of model/attention/cpu/extend.py; candidates are computed in PyTorch.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from model.attention.activations import activation_named
from model.attention.bias_terms import bias_terms
from model.attention.cpu.dispatch import use_compiled
from model.attention.cpu.encode import Heads
from model.attention.cpu.extend import Extender
from model.attention.cpu.row_ops import ROWS
from model.attention.relative_bias import BIASES, Relations
from model.attention.tile_plan import plan_candidates
from model.network.encoders.base import JaggedEncoder
from model.network.encoders.hstu import EPS, Encoder
from model.user_states.cache import State
from model.user_states.history import History
from stream.example import Kind

_NEXT: Final = 1  # the last token looks back from the time of the request, so its state is of that request alone


class Stepwise:
    """An HSTU encoder whose weights stay as they are."""

    def __init__(self, encoder: Encoder) -> None:
        settings, layers = encoder.settings, encoder.own_layers()
        self._settings, self._layers = settings, layers
        self._extender = Extender(
            layers,
            [bias_terms(layer.bias) for layer in layers],
            Heads(settings.heads, *layers[0].head_widths(), layers[0].alpha, EPS),
            activation=settings.attention,
            bias=settings.bias,
            max_len=settings.max_len,
        )
        self.nothing: State = np.empty((len(layers), 0, self._extender.width), np.float32)

    @staticmethod
    def steady(tokens: int) -> int:
        """Return of how many first tokens the state stays the same when more tokens come: whole blocks of ROWS."""
        return max(0, tokens - _NEXT) // ROWS * ROWS

    def extend(self, x_mD: Tensor, known: State, history: History, now_ms: int) -> tuple[Tensor, State]:
        """Return the encoder's output at the last m tokens, [m, D], and the state of all, [S, n, W].

        Args:
            x_mD: The encoder's input at these tokens, one at least.
            known: The state of the others.
            history: All tokens.
            now_ms: Time of the request.
        """
        next_ms_n = np.append(history.ts_ms_n[1:], now_ms)
        asked_ms_n = np.where(history.kinds_n == Kind.IMPRESSION, history.ts_ms_n, next_ms_n)
        return self._extender.extend(x_mD, known, history.ts_ms_n, asked_ms_n)

    def after(self, x_bD: Tensor, state: State, history: History, now_ms: int) -> Tensor:
        """Return the encoder's output at candidates that are shown at the history's end, [b, D].

        Args:
            x_bD: The encoder's input at the candidates.
            state: Of the whole history.
            history: At most max_len - 1 tokens.
            now_ms: Time of the request.
        """
        settings, n = self._settings, len(history)
        plan = plan_candidates(n, settings.max_len)
        tile, relations = plan.candidates[0], None
        activation = activation_named(settings.attention)(plan, x_bD.dtype)
        if settings.bias in BIASES:
            times = torch.from_numpy(np.append(history.ts_ms_n, now_ms))
            relations = Relations(plan, times, times, BIASES[settings.bias])
        for layer, past in zip(self._layers, state, strict=True):
            bias = relations.bias(layer.bias, tile) if relations and layer.bias else None
            values_nV, keys_nK = torch.from_numpy(past).split_with_sizes((layer.widths[1], layer.widths[3]), -1)
            x_bD = layer.after(x_bD, keys_nK, values_nV, plan, activation, bias)
        return x_bD


def stepwise_of(encoder: JaggedEncoder) -> Stepwise | None:
    """Return an encoder's steps; None where it has none, or there are no loops for it."""
    if not isinstance(encoder, Encoder):
        return None
    settings, probe = encoder.settings, torch.empty(1, encoder.settings.dim)
    compiled = use_compiled(probe, None, activation=settings.attention, bias=settings.bias)
    return Stepwise(encoder) if compiled else None
