"""The model's score of an item: the encoder's logit and the counts, fused by weights that are learnt online.

P = retrieval targets, V = items after admission, D = width. The encoder is trained on a loss of its own, and nothing of
the fusion reaches it: trained on what the counts leave over it learns only noise. For each event the fused score ranks
first, then its weights take a step, then the event is counted (model/fusion/log_linear.py). So counts move with each
event, where embeddings move with each micro-batch, and an item has counts before its embedding means anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from model.data.candidates import Questions, best_rows
from model.evaluation.prequential import ENCODER, MODEL, STACK
from model.fusion.log_linear import Head, LogLinear, dense
from model.learning.ranker import Ranker

HEADS: Final = (Head(new_only=False, encoded=True), Head(new_only=True, encoded=True))
WHOLE: Final = 1 << 16  # items up to which an event learns by logits of all; beyond it, of those it needs
_LOGITS: Final = 1 << 24  # held at once, 64 MiB


class Fusion:
    """The fused score of one run, and the stack of counters beside it.

    Args:
        ranker: Scores by the encoder alone.
        temperature: Of the encoder's softmax.
        fused: Whether the score is fused; if not, it is the encoder's alone.
        exclude_seen: Whether tests leave out the user's own items.
        stack: Whether the counters without the encoder rank and learn too.
        seed: The run's seed.
    """

    def __init__(
        self, ranker: Ranker, temperature: float, seed: int, *, fused: bool, exclude_seen: bool, stack: bool
    ) -> None:
        self._ranker, self._temperature, self._fused = ranker, temperature, fused
        heads = list(HEADS) if fused else []
        self._scorers = {MODEL: int(exclude_seen)} if fused else {}
        if stack:
            self._scorers[STACK] = len(heads)
            heads.append(Head(new_only=exclude_seen, encoded=False))
        self._linear = LogLinear(heads, seed) if heads else None

    def step(
        self, queries_PD: Tensor, asked: Questions, answered: Questions, *, test: NDArray[np.bool_], learn: bool
    ) -> dict[str, NDArray[np.float64]]:
        """Rank targets and learn all of them, event by event; return the ranks of those to be tested, by scorer.

        The bits that are learnt do not depend on which are tested.

        Args:
            queries_PD: The encoder's queries.
            asked: The questions over the vocabulary before admission.
            answered: The same over the vocabulary after it.
            test: Which targets to rank, [P].
            learn: Whether weights and counts move.
        """
        found: dict[str, list[NDArray[np.float64]]] = {name: [np.empty(0)] for name in (*self._scorers, ENCODER)}
        for part in _parts(answered):
            self._step(queries_PD[part], asked.part(part), answered.part(part), test[part], learn, found)
        ranks = {name: np.concatenate(parts) for name, parts in found.items()}
        return ({} if self._fused else {MODEL: ranks[ENCODER]}) | ranks

    def _step(
        self,
        queries_PD: Tensor,
        asked: Questions,
        answered: Questions,
        test: NDArray[np.bool_],
        learn: bool,
        found: dict[str, list[NDArray[np.float64]]],
    ) -> None:
        """Rank and learn some targets, and append the ranks to what is found."""
        items, tested = len(answered.born_ms), np.flatnonzero(test)
        whole = items <= WHOLE or queries_PD.device.type != "cpu"
        scored = np.arange(len(test)) if self._fused and learn and whole else tested
        cosine_PV = self._ranker.cosines(queries_PD if len(scored) == len(test) else queries_PD[scored], items)
        if len(tested):
            own_PV = cosine_PV if len(tested) == len(scored) else cosine_PV[tested]
            found[ENCODER].append(self._ranker.ranks(own_PV, asked.part(tested)))
        if self._linear is None:
            return
        encoded = None
        if self._fused:
            encoded = dense(cosine_PV.div_(self._temperature).cpu().numpy())
            places = np.full(len(test), -1)
            places[scored] = np.arange(len(scored))
            encoded = encoded._replace(places=places, temperature=np.float32(self._temperature))
            if learn and not whole:
                encoded = encoded._replace(queries=queries_PD.detach().numpy(), units=self._ranker.units(items))
        ranked = list(self._scorers.values()) if len(tested) else []
        rank_HP = self._linear.step(asked, answered, ranked=ranked, tested=test, learn=learn, encoded=encoded)
        for name, head in self._scorers.items():
            found[name].append(rank_HP[head][tested])

    def forget(self, rows: NDArray[np.int64]) -> None:
        """Drop the counts of items that have died."""
        if self._linear is not None:
            self._linear.counters.forget(rows)

    def forget_users(self, users: Sequence[int]) -> None:
        """Drop the histories of users who are forgotten."""
        if self._linear is not None:
            self._linear.counters.neighbours.forget_users(np.array(users, np.uint64))

    def _logits(self, queries_PD: Tensor, items: int) -> NDArray[np.float32]:
        """Return the encoder's logits of the first items, [P, V], in memory that the next call reuses."""
        logit_PV: NDArray[np.float32] = self._ranker.cosines(queries_PD, items).div_(self._temperature).cpu().numpy()
        return logit_PV

    def best(self, queries_PD: Tensor, questions: Questions, k: int) -> NDArray[np.int64]:
        """Return the rows of the k best candidates of each question, [P, k], -1 where there are fewer."""
        found = [np.empty((0, k), np.int64)]
        for part in _parts(questions):
            logit_PV = self._logits(queries_PD[part], len(questions.born_ms))
            score_PV = logit_PV.astype(np.float64)
            if self._linear is not None and self._fused:
                score_PV = self._linear.scores(questions.part(part), 0, dense(logit_PV))
            found.append(best_rows(score_PV, questions.part(part), k))
        return np.concatenate(found)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views."""
        return {} if self._linear is None else self._linear.state()

    def deciding(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that decide the fused score: all but the weights of the stack, which is no part of it."""
        if not self._fused:
            return {}
        state = self.state()
        return {name: state[name][: len(HEADS)] if name in ("weights", "squares") else state[name] for name in state}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        if self._linear is not None:
            self._linear.load_state(state)

    def snapshot_arrays(self, items: int) -> dict[str, NDArray[Any]]:
        """Return what queries need; if nothing is fused, these are weights that leave the encoder's logit as it is."""
        if self._fused and self._linear is not None:
            self._linear.counters.grow(items)
            return self._linear.snapshot_arrays(len(HEADS))
        return LogLinear.encoder_alone(HEADS, items)


def _parts(questions: Questions) -> Iterator[slice]:
    """Yield stretches of questions whose logits fit into memory; no request is divided."""
    size, start = max(1, _LOGITS // max(1, len(questions.born_ms))), 0
    begins = np.flatnonzero((np.diff(questions.request_ms) != 0) | (np.diff(questions.starts) != 0)) + 1
    while start < len(questions):
        later = begins[begins >= start + size]
        stop = int(later[0]) if len(later) else len(questions)
        yield slice(start, stop)
        start = stop
