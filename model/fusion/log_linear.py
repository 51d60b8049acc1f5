"""A log-linear model over counts, and over an encoder's logits if there are any, learnt online.

    p(v | history, time) = exp(Σ_f w_f φ_f(v)) / Σ_u exp(Σ_f w_f φ_f(u))        over live items born before the request

The weights w differ by length of the history (CLASSES) and are learnt by Adagrad, event by event, on the likelihood of
a mixture: a target comes by this law or by chance, which weighs NOISE / V against p. So an event's gradient is
multiplied by p / (p + NOISE / V), and the weights serve the targets that can be foreseen; by the likelihood of p alone
they are what bears the others, and rank worse (docs/quality.md). No gradient reaches the encoder. Several heads share
the counts: each has weights of its own, with or without the encoder, and with or without the user's own items among the
candidates. The sum over u is exact for the items that have a feature besides popularity, and for all where there are at
most POOL; else it is estimated from POOL rows, half of them uniform, half by popularity, divided by how often each was
to be expected (importance sampling).

T events, V items, H heads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import prefixed, under
from model.counting.histories import latest
from model.counting.neighbours import ITEMS, NEAREST
from model.data.candidates import Questions
from model.errors import DivergedError
from model.fusion import loops, tables
from model.fusion.counters import Counters, Weights

CLASSES: Final = (2, 5, 20)  # lengths of history from which the next class begins
POOL: Final = 4096
_DRAW: Final = 1 << 32  # sets these random numbers apart from those of the learner
LAGS: Final = tables.LAGS
_FIRST: Final = {"encoder": 1.0, "weeks": 0.3, "together": 1.0, "neighbours": 1.0}  # weights at the beginning
_FIRST_ALONE: Final = {"weeks": 0.3, "together": 2.0, "neighbours": 2.0}  # without the encoder
FEATURES: Final = (
    "encoder", "hours", "quarter_days", "days", "weeks", "months", "ever",
    "together", "following", "own", "own_following", "neighbours",
)  # fmt: skip


class Head(NamedTuple):
    """One model: which items are candidates, and whether the encoder's logits are a feature."""

    new_only: bool
    encoded: bool


class LogLinear:
    """Weights of some heads, and the counts that they share.

    Args:
        heads: The heads.
        seed: Of the rows that are drawn where there are many items.
    """

    def __init__(self, heads: Sequence[Head], seed: int = 0) -> None:
        self.counters, self._seed = Counters(), seed
        shape = len(heads), len(CLASSES) + 1, len(FEATURES)
        new_only, encoded = (np.array(column, np.bool_) for column in zip(*heads, strict=True))
        weights = np.zeros(shape)
        for weights_CF, head in zip(weights, heads, strict=True):
            for name, first in (_FIRST if head.encoded else _FIRST_ALONE).items():
                weights_CF[:, FEATURES.index(name)] = first
        squares, gradients = np.full(shape, tables.FIRST_SQUARES), np.zeros(shape)
        self._heads = tables.Heads(weights, squares, gradients, np.zeros(shape[:2], np.int64), new_only, encoded)
        self._pool = tables.Pool(np.empty(0, np.int64), np.empty(0))
        self._memory: tables.Room | None = None  # kept: fresh pages cost more than what is done in them

    def rank(self, questions: Questions, head: int) -> NDArray[np.float64]:
        """Return the rank of each target by one head, by the counts as they are, [T]."""
        rank_T: NDArray[np.float64] = self.step(questions, questions, ranked=[head], learn=False)[head]
        return rank_T

    def scores(self, questions: Questions, head: int, encoded: tables.Encoded | None = None) -> NDArray[np.float64]:
        """Return the scores of all items by one head, [T, V]; -inf for one that is no candidate."""
        score_TV = np.empty((len(questions), len(questions.born_ms)))
        self.counters.grow(len(questions.born_ms))
        events = _events(questions, self.counters.weigh(questions.request_ms, move=False), encoded)
        view = self.counters.view()
        loops.scores(head, events, _items(questions), view, self._heads, self._room(events, 0), score_TV)
        return score_TV

    def step(
        self,
        asked: Questions,
        answered: Questions,
        *,
        ranked: Sequence[int] = (),
        tested: NDArray[np.bool_] | None = None,
        learn: bool = True,
        encoded: tables.Encoded | None = None,
    ) -> NDArray[np.float64]:
        """Rank each target, then learn it, one group of events after the other; return the ranks, [H, T].

        Args:
            asked: The questions over the vocabulary before admission, whose items are ranked.
            answered: The same over the vocabulary after it; with `learn`, histories and targets are taken from these.
            ranked: Heads that rank; the others' ranks are NaN.
            tested: Events whose targets are ranked, [T]; None: all. The others' ranks are NaN.
            learn: Whether weights and counts move.
            encoded: The encoder's logits of the items in `answered`; None: they are 0.

        Raises:
            DivergedError: A score or a weight is not finite.
        """
        rank_HT = np.full((len(self._heads.new_only), len(asked)), np.nan)
        if not len(asked):
            return rank_HT
        self.counters.grow(len(answered.born_ms))
        events = _events(answered, self.counters.weigh(answered.request_ms, move=learn), encoded)
        at = pending = 0
        heads, tested = np.array(ranked, np.int64), np.full(len(asked), True) if tested is None else tested
        room, barred = self._room(events, len(answered.born_ms)), _barred(asked) if ranked else np.empty(0, np.int64)
        if learn:
            self._make_ready(1)
        while pending < len(asked):
            pool = self._pool_of(len(answered.born_ms)) if learn else self._pool
            at, pending = loops.run(
                at, pending, learn, heads, tested, rank_HT, asked.targets, events, _items(asked), barred,
                _items(answered), self.counters.view(), self._heads, pool, room,
            )  # fmt: skip
            self.counters.written()
            if learn:
                self._make_ready(at - pending)
        if np.isnan(rank_HT[heads][:, tested]).any() or not np.isfinite(self._heads.weights).all():
            raise DivergedError(
                "training has diverged: a score of the counts fused with the encoder's logits is not a number; "
                "lower train.learning_rate."
            )
        return rank_HT

    def _make_ready(self, events: int) -> None:
        """Have room to count some events, and refresh what is due."""
        if self.counters.make_ready(events):
            self._pool = self._drawn()

    def _drawn(self) -> tables.Pool:
        """Draw the rows of the pool; none where there are so few items that all are taken."""
        share_V = self.counters.popularity()
        if len(share_V) <= POOL:
            return tables.Pool(np.empty(0, np.int64), np.empty(0))
        key = np.array([self._seed % 2**64, self.counters.events], np.uint64)
        rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, _DRAW]))
        upto_V = np.cumsum(share_V)
        at = np.searchsorted(upto_V, rng.random(POOL // 2) * upto_V[-1], side="right")
        rows = np.sort(np.concatenate((rng.integers(len(share_V), size=POOL // 2), np.minimum(at, len(share_V) - 1))))
        return tables.Pool(rows, POOL // 2 * (1 / len(share_V) + share_V[rows]))

    def _pool_of(self, rows: int) -> tables.Pool:
        return self._pool if len(self._pool.rows) else tables.Pool(np.arange(rows), np.ones(rows))

    def _room(self, events: tables.Events, pool: int) -> tables.Room:
        self._memory = room_for(self.counters, events, pool, self._memory)
        return self._memory

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views."""
        heads = {"weights": self._heads.weights, "squares": self._heads.squares}
        return {**heads, **prefixed("pool.", self._pool._asdict()), **prefixed("counts.", self.counters.state())}

    def snapshot_arrays(self, heads: int) -> dict[str, NDArray[Any]]:
        """Return what answers need: the weights of the first heads, and the counts without what only learning needs."""
        state = prefixed("counts.", self.counters.state())
        for name in ("sums", "neighbours.users", "neighbours.turns", "neighbours.slots"):
            del state[f"counts.{name}"]
        return {"weights": self._heads.weights[:heads], **state}

    @classmethod
    def encoder_alone(cls, heads: Sequence[Head], items: int) -> dict[str, NDArray[Any]]:
        """Return the snapshot of a model that has counted nothing and leaves the encoder's logits as they are."""
        new = cls(heads)
        new.counters.grow(items)
        new._heads.weights[:, :, tables.ENCODER] = 1.0
        return new.snapshot_arrays(len(heads))

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        self._heads.weights[:], self._heads.squares[:] = state["weights"], state["squares"]
        self._pool = tables.Pool(*(np.array(state[f"pool.{name}"]) for name in tables.Pool._fields))
        self.counters = Counters.from_state(under("counts.", state))


def dense(hidden_TV: NDArray[np.float32]) -> tables.Encoded:
    """Return the encoder's logits of all items for all events."""
    none = np.empty((0, 0), np.float32)
    return tables.Encoded(hidden_TV, np.arange(len(hidden_TV)), none, none, np.float32(1))


def room_for(counters: Counters, events: tables.Events, pool: int, before: tables.Room | None = None) -> tables.Room:
    """Return memory for some events; `before`: memory that is taken again if it is large enough."""
    rows = len(counters.features)
    own = 2 + int((events.queries - events.starts).max(initial=0))
    listed = min(rows, (LAGS + 1) * tables.MOST + NEAREST * ITEMS + own)
    pool, hidden = max(pool, POOL), rows if len(events.encoded.queries) else 0
    wanted = rows, listed, pool, hidden
    if before is not None and all(
        len(memory) >= size
        for memory, size in zip((before.at, before.rows, before.pool_scores, before.hidden), wanted, strict=True)
    ):
        return before
    return tables.Room(
        np.full(rows, -1),
        np.zeros(listed, np.int64),
        np.empty((listed, tables.LISTED + 1)),
        np.arange(rows),
        np.empty(max(rows, listed)),
        np.empty(pool),
        np.empty(hidden, np.float32),
        counters.neighbours.memory(),
    )


def classes_of(length_T: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class of each length of history, [T]."""
    return np.searchsorted(CLASSES, length_T, side="right")


def history_events(history_n: NDArray[np.int64], acted_n: NDArray[np.bool_], weights: Weights) -> tables.Events:
    """Return one event without a target, asked after item rows, oldest first, of which some were acted on."""
    none, last = np.full(1, -1), np.full((1, LAGS), -1)
    last[0, : min(LAGS, len(history_n))] = history_n[::-1][:LAGS]
    return tables.Events(
        targets=none,
        request_ms=none,
        groups=none,
        users=np.zeros(1, np.uint64),
        classes=classes_of(np.array([len(history_n)])),
        starts=np.zeros(1, np.int64),
        queries=np.array([len(history_n) - 1]),
        rows=history_n,
        acted=acted_n,
        last=last,
        weights=weights.popularity,
        pair_weights=weights.pairs,
        pair_factors=weights.factors,
        encoded=dense(np.empty((1, 0), np.float32)),
    )


def _items(questions: Questions) -> tables.Items:
    return tables.Items(questions.born_ms, questions.live)


def _barred(questions: Questions) -> NDArray[np.int64]:
    """Return the items that are no candidates of some question."""
    return np.flatnonzero(~questions.live | (questions.born_ms >= questions.request_ms.min()))


def _events(questions: Questions, weights: Weights, encoded: tables.Encoded | None) -> tables.Events:
    acted_L = questions.rows >= 0
    questions = replace(questions, rows=np.where(acted_L, questions.rows, questions.shown))
    before_L = np.concatenate(([0], np.cumsum(questions.rows >= 0)))
    length_T = np.where(questions.queries >= 0, before_L[questions.queries + 1] - before_L[questions.starts], 0)
    begins_T = np.diff(questions.request_ms, prepend=-1).astype(np.bool_) | np.diff(
        questions.starts, prepend=-1
    ).astype(np.bool_)
    return tables.Events(
        targets=questions.targets,
        request_ms=questions.request_ms,
        groups=np.cumsum(begins_T),
        users=questions.users,
        classes=classes_of(length_T),
        starts=questions.starts,
        queries=questions.queries,
        rows=questions.rows,
        acted=acted_L,
        last=latest(questions, LAGS),
        weights=weights.popularity,
        pair_weights=weights.pairs,
        pair_factors=weights.factors,
        encoded=dense(np.empty((len(questions), 0), np.float32)) if encoded is None else encoded,
    )
