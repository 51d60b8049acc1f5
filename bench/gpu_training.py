"""Whole training steps on synthetic micro-batches, for bench/gpu.py: model/learning/forward_pass.py as in the learner.

Sequences are full, every token is a target: shown and clicked or not (a token in two is an impression), or an organic
action. Half of the negatives are popular, as in the learner.
"""

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from gpu_rows import DEVICE, Rows, Sizes, line, milliseconds

from model.attention.triton.dispatch import use_fused
from model.config import ModelSettings, TrainSettings
from model.data.entity_index import RowBatch, TokenRows
from model.data.labels import Targets
from model.data.micro_batch import PackedBatch
from model.learning.forward_pass import ForwardPass
from model.learning.negatives import Negatives, draw
from model.optim.parameters import Parameters
from stream.example import NO_KEY, Kind

ITEMS = 20_000
HOUR_MS = 3_600_000


class Trainer:
    """One recommender, trained on one micro-batch again and again."""

    def __init__(self, model: ModelSettings, sequences: int, device: str, *, bf16: bool) -> None:
        self._rng = np.random.default_rng(0)
        # so low that many steps on one micro-batch do not diverge
        self._train = TrainSettings(device="cuda" if device == "cuda" else "cpu", learning_rate=1e-6)
        self._bf16, self._device, self._model = bf16, device, model
        self.weights = Parameters(model, self._train)
        self.weights.grow(np.arange(ITEMS, dtype=np.uint64), 2)
        self.tokens = sequences * model.max_len
        self._batch = self._make_batch(sequences, model.max_len)
        self._targets, self._rows = self._make_targets(len(model.rank_actions))
        self._x = torch.randn(self.tokens, model.dim, device=device, requires_grad=True)

    def step(self) -> float:
        """Take one gradient step."""
        with self._precision():
            admitted = RowBatch(self._batch, self._targets, self._rows)
            forward = ForwardPass(self.weights, admitted, self._negatives())
            return self.weights.descend(forward.loss(self._train), forward.gathered)

    def encode(self) -> None:
        """Run the encoder forward and backward."""
        encoder, tensor = self.weights.recommender.encoder, self.weights.tensor
        with self._precision():
            encoder(self._x, tensor(self._batch.offsets), tensor(self._batch.ts_ms)).sum().backward()
        encoder.zero_grad()

    def fused(self) -> bool:
        """Return whether the encoder uses the fused kernels."""
        model = self._model
        with self._precision():
            named = {"activation": model.attention, "bias": model.bias}
            return use_fused(self._x, width=model.dim // model.heads, heads=model.heads, **named)

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device, torch.bfloat16) if self._bf16 else nullcontext()

    def _negatives(self) -> Negatives:
        return draw(np.arange(ITEMS), np.arange(ITEMS, 0, -1, dtype=np.float64), self._train, self._rng)

    def _make_batch(self, sequences: int, length: int) -> PackedBatch:
        tokens = np.arange(self.tokens)
        shown = tokens % 2 == 0
        first = tokens % length == 0
        ts_ms = 1_700_000_000_000 + np.cumsum(self._rng.integers(0, HOUR_MS, self.tokens))
        return PackedBatch(
            offsets=np.arange(sequences + 1, dtype=np.int64) * length,
            keys=self._rng.integers(1, ITEMS, self.tokens).astype(np.uint64),
            actions=np.where(shown, NO_KEY, 1).astype(np.uint64),
            ts_ms=ts_ms,
            kinds=np.where(shown, Kind.IMPRESSION, Kind.ACTION).astype(np.uint8),
            users=np.arange(sequences, dtype=np.uint64),
            positions=tokens,
            queries=np.where(first, -1, tokens - 1),
            owners=tokens // length,
            requests=tokens,
            request_ms=ts_ms,
            label_offsets=np.zeros(self.tokens + 1, np.int64),
            labels=np.empty(0, np.uint64),
        )

    def _make_targets(self, actions: int) -> tuple[Targets, TokenRows]:
        shown = np.flatnonzero(self._batch.kinds == Kind.IMPRESSION)
        labels_NA = self._rng.random((len(shown), actions)) < 0.3
        nothing = np.full(self.tokens, -1, np.int64)
        acted = np.where(self._batch.kinds == Kind.ACTION, 0, -1)
        targets = Targets(np.flatnonzero(self._batch.kinds == Kind.ACTION), shown, labels_NA)
        return targets, TokenRows(self._batch.keys.astype(np.int64), nothing, acted, nothing)


def training_rows(rows: Rows, sizes: Sizes, kinds: tuple[tuple[str, str], ...]) -> None:
    """Measure whole training steps at all sizes and print a line for each row."""
    print("\nwhole training steps; encoder: its forward and backward alone")
    line("", "step ms min", "median", "max", "encoder ms", "tokens/s", "peak GiB")
    for name, layers, length, dim, heads, sequences in sizes.training:
        model = ModelSettings(layers=layers, max_len=length, dim=dim, heads=heads)
        for path, dtype in kinds:
            title = f"{name}, {path} {dtype}"
            row = rows.row(title, partial(training_row, model, sequences, path, dtype, sizes), limit_s=90)
            if "error" not in row:
                step, tokens = row["step_ms"], sequences * length
                cells = step["min"], step["median"], step["max"], row["encoder_ms"]["median"]
                line(title, *cells, 1000 * tokens / step["median"], row["gib"])


def training_row(model: ModelSettings, sequences: int, path: str, dtype: str, sizes: Sizes) -> dict[str, Any]:
    """Time one kind of step.

    Raises:
        RuntimeError: the fused kernels are to be timed and are not used here.
    """
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = Trainer(model, sequences, DEVICE.type, bf16=dtype == "bf16")
    plain = patch("model.network.encoders.hstu.use_fused", lambda *_, **__: False) if path == "plain" else nullcontext()
    with plain, warnings.catch_warnings():
        warnings.filterwarnings("error", "The fused attention kernels failed", RuntimeWarning)
        if path == "fused" and not trainer.fused():
            raise RuntimeError("the fused kernels do not serve here; the plain path would be timed in their name")
        step_ms, encoder_ms = milliseconds(trainer.step, 3 * sizes.seconds), milliseconds(trainer.encode, sizes.seconds)
    gib = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
    return {**model.model_dump(include={"layers", "max_len", "dim", "heads"}), "sequences": sequences} | {
        "step_ms": step_ms,
        "encoder_ms": encoder_ms,
        "gib": gib,
    }
