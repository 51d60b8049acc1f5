"""The learner: each micro-batch is a test first, and then a gradient step on the same targets.

P = retrieval targets of a micro-batch, N = its ranking targets. The steps of `Learner.step`:

    1. ask: items whose time is over die, and all that is counted of them; the questions are over the vocabulary as it
       is then, which decides the candidates and the targets' ages
    2. admit: new ids get rows, untrained ones, and texts are learned
    3. forward: one pass. It has no dropout, and no weight moves before 5, so its outputs serve the test and the loss.
       Where Stochastic Length shortens a sequence, the test has a pass of its own, over all tokens and without gradient
    4. test: the model, then the baselines, rank the same targets among the same candidates; recorded
    5. train: one AdamW step on the dense parameters and on the rows that were touched; then the baselines learn
    6. replay: further steps, each on examples drawn from the past, with dropout; then the micro-batch joins the past,
       and users who are forgotten leave it
    7. watch: drift detectors look at the test and at the targets; an alarm may raise the rates of the next steps 5

The result is a function of the settings and of the micro-batches in their order (on one device with one number of
threads): random numbers are Philox, keyed by (seed, step), and have no state. Source: docs/design.md, Learner.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from xxhash import xxh3_128

from model.arrays.digest import digest_arrays
from model.arrays.state import prefixed, under
from model.baselines import Baseline
from model.baselines.last_items import LastItems
from model.baselines.popularity import Popularity
from model.config import ModelSettings, TrainSettings
from model.data.candidates import Questions
from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.entity_index import EntityIndex, IndexedBatch, RowBatch
from model.data.event_time import DAY_MS
from model.data.stochastic_length import kept_tokens
from model.data.vocabulary import Vocabulary
from model.distributed.ranks import ALONE, Ranks
from model.drift.rate_boost import BOOSTS, RateBoost
from model.drift.watch import Alarm, DriftWatch
from model.errors import ModelError
from model.evaluation import sample
from model.evaluation.prequential import Outcome, Prequential
from model.keys.frozen_vectors import FrozenVectors
from model.keys.lives import Limits
from model.learning import negatives
from model.learning.click_fusion import ClickFusion
from model.learning.dropout import Dropout
from model.learning.forward_pass import ForwardPass, Outputs
from model.learning.fusion import Fusion
from model.learning.ranker import Ranker
from model.learning.replay import ReplayBuffer
from model.optim.parameters import Parameters, make_deterministic, stream_seed
from stream.example import Example

_NEGATIVES, _LENGTHS, _REPLAY, _REPLAY_LENGTHS = 0, 1, 2, 3  # uses of random numbers
WEIGHTS: Final = "weights."  # prefix of the parameters' arrays in a state
_COUNTS: Final = ("steps", "examples", "tokens")


@dataclass(frozen=True, slots=True, eq=False)
class StepReport:
    """The result of one micro-batch."""

    step: int  # its number, from 1
    examples: int
    tokens: int
    event_ms: int  # when its last example became final
    loss: float  # NaN where there was nothing to train on
    outcome: Outcome | None  # None where it was not tested
    lookups: int = 0  # its targets, each of which looks for the row of its item
    hits: int = 0  # those that found one, before their items were admitted
    alarms: Sequence[Alarm] = ()  # of drift, which it led to


class Learner:
    """Model, vocabularies, catalogue, baselines and metrics of one run.

    Args:
        model: Shape of the recommender.
        train: How it is tested and trained.
        baselines: Whether the baselines rank every target too.
        ranks: The processes that train together; all are called alike, and differ only in what `state` returns.
    """

    def __init__(
        self, model: ModelSettings, train: TrainSettings, *, baselines: bool = True, ranks: Ranks = ALONE
    ) -> None:
        make_deterministic(train.threads)
        self.model, self.train = model, train
        self.index = EntityIndex(
            *(model.rank_actions, train.negative_actions, _limits(model, train)),
            item_features=model.item_features,
            stand_ins=train.stand_ins,
            drop_unknown=train.unknown_items == "dropped",
            frozen=FrozenVectors(model.dim) if train.unknown_items == "frozen" else None,
        )
        self.weights = Parameters(model, train, self.index.item_features, ranks)
        self.popularity = Popularity(round(train.popularity_half_life_d * DAY_MS))
        self._last_items = LastItems()
        self._with_baselines = baselines
        self._ranker = Ranker(self.weights, exclude_seen=train.exclude_seen)
        self._fusion = Fusion(
            *(self._ranker, model.temperature, train.seed),
            fused=train.fuse_counts,
            exclude_seen=train.exclude_seen,
            stack=baselines,
        )
        self._clicks = ClickFusion(model.rank_actions, fused=train.fuse_counts, logistic=baselines)
        self.metrics = Prequential(model.rank_actions, train.window_targets)
        self.drift, self.boost = DriftWatch(), RateBoost(train.drift_boost, train.drift_boost_steps)
        self._past = ReplayBuffer(round(train.replay_mib * 2**20)) if train.replay_every else None
        self.test_s = 0.0  # CPU seconds of this process that step 4 took
        self.counts = dict.fromkeys(_COUNTS, 0)

    @property
    def items(self) -> Vocabulary:
        """The item vocabulary."""
        return self.index.items

    @property
    def features(self) -> Vocabulary:
        """The vocabulary of actions and attribute values."""
        return self.index.features

    @property
    def catalogue(self) -> Catalogue:
        """Titles, features and withdrawals of items."""
        return self.index.catalogue

    def step(
        self, examples: Sequence[Example], *, test: bool = True, learn: bool = True, count: bool = True
    ) -> StepReport:
        """Test on a micro-batch, then train on it.

        Args:
            examples: The examples of the micro-batch.
            test: Whether to rank the targets and record the outcome.
            learn: Whether to take the gradient step; without it ids are admitted, and no weight or count moves.
            count: Whether its targets count for who is admitted and who leaves: once, where it is only asked first.

        Raises:
            DivergedError: The loss or its gradient is not finite; the sentence names the step. Go on from a checkpoint,
                since the vocabulary has moved, and the weights as well if it was a replay.
        """
        try:
            return self._step(examples, test=test, learn=learn, count=count)
        except ModelError as error:
            raise type(error)(f"At step {self.counts['steps'] + 1} of trainer {self.train.name}: {error}") from error

    def _step(self, examples: Sequence[Example], *, test: bool, learn: bool, count: bool) -> StepReport:
        present = [example for example in examples if len(example.keys)]  # others say that a user is forgotten
        if not present:
            if learn:
                self._replay(examples)
            return StepReport(self.counts["steps"], 0, 0, examples[-1].final_ms, math.nan, None)
        self._check_lengths(present)
        taken = self._take_in(present, count=count)  # 1, 2
        forward, trained = self._forward(taken.batch, test=test, learn=learn)  # 3
        tested = None if forward is None else forward.outputs()
        outcome = self._test(taken, tested, learn=learn) if test and tested is not None else None  # 4
        if tested is not None and learn and not test:
            none = np.zeros(len(taken.questions), np.bool_)
            self._fusion.step(tested.queries, taken.questions, taken.answered, test=none, learn=True)
            self._click(tested, taken.batch, learn=True)
        loss = self._train_on(trained, taken.answered) if trained is not None else math.nan  # 5
        tokens = len(taken.batch.tokens.keys)
        alarms: Sequence[Alarm] = ()
        if learn:
            self._replay(examples)  # 6
            for name, more in zip(_COUNTS, (1, len(present), tokens), strict=True):
                self.counts[name] += more
            alarms = self._watch(present, outcome, loss, examples[-1].final_ms)  # 7
        lookups, event_ms = len(taken.batch.tokens.positions), examples[-1].final_ms
        return StepReport(
            *(self.counts["steps"], len(present), tokens, event_ms, loss, outcome, lookups, taken.hits, alarms)
        )

    def _check_lengths(self, examples: Sequence[Example]) -> None:
        longest = max(len(example.keys) for example in examples)
        if longest > self.model.max_len:
            raise ModelError(
                f"an example has {longest} tokens, more than model.max_len = {self.model.max_len}; begin again under "
                "another --name with a model.max_len of at least stream.example_tokens"
            )

    def _take_in(self, examples: Sequence[Example], *, count: bool = True) -> IndexedBatch:
        """Take a micro-batch in, and reset what is known by row of items that have died; replays go by id."""
        taken = self.index.take_in(examples, count=count, vectors_of=self.weights.vectors)
        if len(taken.died):
            for counts in (self.popularity, self._fusion, self._clicks):
                counts.forget(taken.died)
        self.weights.grow(self.items.keys, len(self.features))
        self.popularity.grow(len(self.items))
        if len(taken.renewed):
            self.weights.renew_items(taken.renewed)
        return taken

    def _forward(self, batch: RowBatch, *, test: bool, learn: bool) -> tuple[ForwardPass | None, ForwardPass | None]:
        """Return the pass that is tested and the pass that is trained on, in most cases the same."""
        if not learn:
            return self._forward_to_test(batch) if test else None, None
        drawn, alpha = self._draw_negatives(batch), self.train.stochastic_length_alpha
        kept_L = kept_tokens(batch.tokens, self.model.max_len, alpha, self._random(_LENGTHS)) if alpha else None
        if kept_L is None or kept_L.all():
            forward = ForwardPass(self.weights, batch, drawn)
            return forward, forward
        return self._forward_to_test(batch), ForwardPass(self.weights, batch.shortened(kept_L), drawn)

    @torch.no_grad()
    def _forward_to_test(self, batch: RowBatch) -> ForwardPass:
        return ForwardPass(self.weights, batch)

    def _random(self, use: int) -> np.random.Generator:
        """Return this step's random numbers for one use; the uses share none."""
        key = np.array([stream_seed(self.train.seed, "negatives"), self.counts["steps"]], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, use]))

    def _draw_negatives(self, batch: RowBatch) -> negatives.Negatives | None:
        if not len(batch.targets.positive):
            return None
        return self._negatives(int(batch.tokens.request_ms.max()), self._random(_NEGATIVES))

    def _negatives(self, at_ms: int, rng: np.random.Generator) -> negatives.Negatives | None:
        live = self.items.live()
        return negatives.draw(live, self.popularity.counts(at_ms), self.train, rng) if len(live) else None

    def _test(self, taken: IndexedBatch, tested: Outputs, *, learn: bool) -> Outcome:
        start_s = time.process_time()
        drawn_P = sample.drawn(taken.questions, self.train.test_share)
        outcome = Outcome(
            ranks=self._ranks(taken, tested, drawn_P, learn=learn),
            slices=taken.slices[drawn_P],
            request_ms=taken.questions.request_ms[drawn_P],
            test_share=sample.share_of(len(taken.questions.born_ms), self.train.test_share),
            logits=self._click(tested, taken.batch, learn=learn),
            labels=taken.batch.targets.labels,
            rank_slices=taken.rank_slices,
        )
        self.metrics.record(outcome)
        self.test_s += time.process_time() - start_s
        return outcome

    def _click(self, tested: Outputs, batch: RowBatch, *, learn: bool) -> dict[str, NDArray[np.float64]]:
        """Return the logit of each action on every shown item by every scorer, [N, A] each, and learn what was done."""
        tower_NA = tested.logits.cpu().numpy().astype(np.float64)
        return self._clicks.step(tower_NA, batch, self.index, learn=learn)

    def _ranks(
        self, taken: IndexedBatch, tested: Outputs, drawn_P: NDArray[np.bool_], *, learn: bool
    ) -> dict[str, NDArray[np.float64]]:
        """Return the rank of every drawn target by every scorer; what is fused learns each target as it goes."""
        questions = taken.questions
        found = self._fusion.step(tested.queries, questions, taken.answered, test=drawn_P, learn=learn)
        if self._with_baselines:
            drawn = questions if drawn_P.all() else questions.part(np.flatnonzero(drawn_P))
            for baseline in self._baselines:
                found[baseline.name] = baseline.ranks(drawn, exclude_seen=self.train.exclude_seen)
        return found

    @property
    def _baselines(self) -> tuple[Baseline, ...]:
        return self.popularity, self._last_items

    def _train_on(self, trained: ForwardPass, answered: Questions) -> float:
        value = self.weights.descend(trained.loss(self.train), trained.gathered, self.boost.take())
        known = np.flatnonzero(answered.targets >= 0)
        for baseline in self._baselines:
            baseline.learn(answered.part(known))
        return value

    def _replay(self, examples: Sequence[Example]) -> None:
        """Train on the past if it is time, then add a micro-batch to it; forget the users who are to be forgotten."""
        times = [int(example.ts_ms.max()) for example in examples if len(example.keys)]
        if self._past is not None:
            if times and len(self._past) and (self.counts["steps"] + 1) % self.train.replay_every == 0:
                self._train_on_past(self._past, max(times))
            self._past.add(examples)
        self._fusion.forget_users([example.user for example in examples if not len(example.keys)])

    def _train_on_past(self, past: ReplayBuffer, now_ms: int) -> None:
        rng = self._random(_REPLAY)
        batch = self.index.known(past.draw(self.train.replay_examples, rng))
        if alpha := self.train.stochastic_length_alpha:
            lengths = self._random(_REPLAY_LENGTHS)
            batch = batch.shortened(kept_tokens(batch.tokens, self.model.max_len, alpha, lengths))
        drawn = self._negatives(now_ms, rng) if len(batch.targets.positive) else None
        dropout = Dropout(self.train.replay_input_dropout, self.train.replay_output_dropout, rng)
        replayed = ForwardPass(self.weights, batch, drawn, dropout)
        self.weights.descend(replayed.loss(self.train), replayed.gathered)

    def _watch(
        self, examples: Sequence[Example], outcome: Outcome | None, loss: float, event_ms: int
    ) -> Sequence[Alarm]:
        candidates = min(self.items.known, self.train.negatives)
        found = self.drift.add(
            *(examples, outcome, loss), candidates=candidates, targets=self.targets, event_ms=event_ms
        )
        if any(alarm.signal == BOOSTS for alarm in found):
            self.boost.begin()
        return found

    @property
    def targets(self) -> int:
        """Number of targets tested."""
        return max(self.metrics.targets, self.metrics.rank_targets)

    def recommend(self, examples: Sequence[Example], k: int) -> NDArray[np.int64]:
        """Return the rows of the k best candidates for each retrieval target's query, [P, k], -1 where there are fewer.

        Ids are admitted, no weight moves. For experiments in which what is recommended decides what comes next.
        """
        taken = self._take_in(examples, count=False)
        return self._fusion.best(self._forward_to_test(taken.batch).outputs().queries, taken.questions, k)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take catalogue records in; a withdrawn item is no candidate and no negative until it comes back."""
        self.index.learn_items(records)

    def digest(self) -> str:
        """Return the xxh3_128 of everything that decides what the model does next; equal for equal runs."""
        hasher = xxh3_128()
        for part in (self.weights, self.items, self.features):
            part.digest_update(hasher)
        if self.index.item_features.any:
            digest_arrays(hasher, self.index.item_features.state())
        digest_arrays(hasher, self.popularity.state())
        if self._past is not None:
            self._past.digest_update(hasher)
        digest_arrays(hasher, self._fusion.deciding())
        digest_arrays(hasher, self._clicks.deciding())
        digest_arrays(hasher, self.index.bounds_state())
        hasher.update(str(self.counts).encode())
        if self.boost.on:
            hasher.update(json.dumps([self.boost.left, self.drift.deciding(BOOSTS)]).encode())
        return hasher.hexdigest()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint; some are views, so write them before the next step."""
        return {
            **prefixed(WEIGHTS, self.weights.state()),
            **self.index.state(),
            **prefixed("popularity.", self.popularity.state()),
            **prefixed("fusion.", self._fusion.state()),
            **prefixed("clicks.", self._clicks.state()),
            **prefixed("metrics.", self.metrics.state()),
            **prefixed("past.", self._past.state() if self._past is not None else {}),
            "counts": np.array([self.counts[name] for name in _COUNTS], np.int64),
            "drift": np.frombuffer(json.dumps([self.boost.left, self.drift.state()]).encode(), np.uint8),
        }

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        self.weights.load_state(under(WEIGHTS, arrays))
        self.index.load_state(arrays)
        self.weights.grow(self.items.keys, len(self.features))
        self.popularity = Popularity.from_state(under("popularity.", arrays))
        self._fusion.load_state(under("fusion.", arrays))
        self._clicks.load_state(under("clicks.", arrays))
        self.metrics.load_state(under("metrics.", arrays))
        if self._past is not None:
            self._past.load_state(under("past.", arrays))
        self.counts = dict(zip(_COUNTS, arrays["counts"].tolist(), strict=True))
        if "drift" in arrays:  # else the detectors begin anew
            self.boost.left, watch = json.loads(arrays["drift"].tobytes())
            self.drift.load_state(watch)

    def snapshot_arrays(self, at_ms: int) -> dict[str, Any]:
        """Return what queries need: weights without moments, and the time as of which popularity counts."""
        return {
            **prefixed("recommender.", self.weights.recommender.state_dict()),
            "items.weight": self.weights.item_weights(),
            "features.weight": self.weights.features.rows,
            **self.index.snapshot_arrays(),
            **prefixed("fusion.", self._fusion.snapshot_arrays(len(self.items))),
            **prefixed("clicks.", self._clicks.snapshot_arrays(self.index)),
            **prefixed("popularity.", self.popularity.state()),
            "popularity.at_ms": np.array(at_ms, np.int64),
        }


def _limits(model: ModelSettings, train: TrainSettings) -> Limits:
    """Return the bounds of the item vocabulary.

    Raises:
        ModelError: Items may die, but share their rows.
    """
    limits = Limits(train.admit_after, round(train.item_ttl_d * DAY_MS), train.max_items, train.evict)
    if model.item_rows and not limits.none:
        raise ModelError(
            "model.item_rows makes items share rows, which cannot be reset when one of them leaves; set it to 0, or "
            "train.admit_after to 1 and train.item_ttl_d and train.max_items to 0."
        )
    return limits
