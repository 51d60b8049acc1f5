"""The learner: each micro-batch is a test first, and then one gradient step on the same targets.

L = tokens of a micro-batch, P = retrieval targets, N = ranking targets, V = items known before it. In order:

    1. the questions are put to the vocabulary as it is: which items are candidates, and how old is the target
    2. ids are admitted and texts learnt; a new row is untrained
    3. one forward pass. There is no dropout, and no weight moves before 5, so its outputs serve the test and the loss.
       Where Stochastic Length shortens a sequence, the test has a pass of its own, over all tokens and without gradient
    4. test: the model, then its rivals, rank the same targets among the same candidates; recorded
    5. train: one AdamW step on the dense parameters and on the rows that were touched; then the rivals learn

All of it is a function of the settings and of the micro-batches in their order (on one device with one number of
threads): chance comes from Philox keyed by (seed, step), so that it has no state. Source: docs/design.md, Learner.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from xxhash import xxh3_128

from model.arrays.digest import digest_arrays
from model.arrays.state import prefixed, under
from model.baselines.last_items import LastItems
from model.baselines.popularity import Popularity
from model.config import ModelSettings, TrainSettings
from model.data.candidates import Questions, best_rows, unseen
from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.entity_index import EntityIndex, TokenRows
from model.data.labels import Chooser, Targets
from model.data.micro_batch import Jagged, collate
from model.data.stochastic_length import kept_tokens, shortened
from model.data.vocabulary import Vocabulary
from model.errors import ModelError
from model.evaluation.prequential import MODEL, Outcome, Prequential
from model.evaluation.ranks import ranks
from model.learning import negatives
from model.learning.train_step import Forward
from model.optim.parameters import Parameters, make_deterministic, stream_seed
from stream.example import Example

_DAY_MS: Final = 86_400_000
_SCORES: Final = 1 << 25  # scores of targets by items held at once, 128 MiB
_NEGATIVES, _LENGTHS = 0, 1  # uses of chance
_COUNTS: Final = ("steps", "examples", "tokens")


@dataclass(frozen=True, slots=True, eq=False)
class StepReport:
    """What one micro-batch brought."""

    step: int  # its number, from 1
    examples: int
    tokens: int
    event_ms: int  # when its last example became final
    loss: float  # NaN where nothing was to be learnt
    outcome: Outcome | None  # None where it was not tested


class Learner:
    """Model, vocabularies, catalogue, rivals and metrics of one run.

    Args:
        model: shape of the recommender.
        train: how it is tested and trained.
        rivals: rank every target by the rivals too.
    """

    def __init__(self, model: ModelSettings, train: TrainSettings, *, rivals: bool = True) -> None:
        make_deterministic(train.threads)
        self.model, self.train = model, train
        self.weights = Parameters(model, train)
        self.known = EntityIndex()
        self.popularity = Popularity(round(train.popularity_half_life_d * _DAY_MS))
        self.last_items = LastItems()
        self._with_rivals = rivals
        self.test_s = 0.0  # CPU seconds of this process that 4 took
        self.metrics = Prequential(model.rank_actions, train.window_targets)
        self.counts = dict.fromkeys(_COUNTS, 0)
        self._chooser = Chooser(model.rank_actions, train.negative_actions)
        self._room = torch.empty(0, device=self.weights.device)  # for scores, kept: fresh pages cost as much as scoring

    @property
    def items(self) -> Vocabulary:
        """The item vocabulary."""
        return self.known.items

    @property
    def features(self) -> Vocabulary:
        """The vocabulary of actions and attribute values."""
        return self.known.features

    @property
    def catalogue(self) -> Catalogue:
        """What topic `items` said."""
        return self.known.catalogue

    def step(self, examples: Sequence[Example], *, test: bool = True, learn: bool = True) -> StepReport:
        """Test on a micro-batch, then train on it.

        Args:
            examples: of the micro-batch.
            test: rank the targets and count the outcome; experiments leave it away where only the training matters.
            learn: take the gradient step; without it ids are admitted all the same, and no weight or count moves.

        Raises:
            ModelError: the loss or its gradient is not finite; the sentence names the step. The weights have not moved,
                but the vocabulary has: go on from a checkpoint.
        """
        try:
            return self._step(examples, test, learn)
        except ModelError as error:
            raise ModelError(f"At step {self.counts['steps'] + 1} of trainer {self.train.name}: {error}") from error

    def _step(self, examples: Sequence[Example], test: bool, learn: bool) -> StepReport:
        batch = collate(examples)
        targets = self._chooser.choose(batch)
        asked = self.known.ask(batch, targets)  # 1
        rows = self._admit(batch, examples)  # 2
        tested, forward = self._forward(batch, targets, rows, test, learn)  # 3
        outcome = None
        if tested is not None:  # 4
            start_s = time.process_time()
            outcome = Outcome(
                ranks=self._rank(tested.queries_PD.detach(), asked.questions),
                slices=asked.slices,
                request_ms=asked.questions.request_ms,
                logits=tested.logits_NA.detach().cpu().numpy(),
                labels=targets.labels,
                rank_slices=asked.rank_slices,
            )
            self.metrics.record(outcome)
            self.test_s += time.process_time() - start_s
        loss = math.nan
        if forward is not None:  # 5
            loss = forward.learn(self.train.rank_weight)
            self._let_rivals_learn(replace(asked.questions, targets=forward.positives_P))
            for name, count in zip(_COUNTS, (1, len(examples), len(batch.keys)), strict=True):
                self.counts[name] += count
        step, event_ms = self.counts["steps"], examples[-1].final_ms
        return StepReport(step, len(examples), len(batch.keys), event_ms, loss, outcome)

    def _admit(self, batch: Jagged, examples: Sequence[Example]) -> TokenRows:
        rows = self.known.admit(batch, examples)
        self.weights.grow(self.items.keys, len(self.features))
        self.popularity.grow(len(self.items))
        return rows

    def _forward(
        self, batch: Jagged, targets: Targets, rows: TokenRows, test: bool, learn: bool
    ) -> tuple[Forward | None, Forward | None]:
        """Give the pass that is tested and the one that is learnt from, mostly one and the same."""
        if not learn:
            with torch.no_grad():
                return Forward(self.weights, batch, targets, rows, None) if test else None, None
        drawn, alpha = self._draw_negatives(batch, targets), self.train.stochastic_length_alpha
        kept_L = kept_tokens(batch, self.model.max_len, alpha, self._chance(_LENGTHS)) if alpha else np.ones(1, bool)
        if kept_L.all():
            forward = Forward(self.weights, batch, targets, rows, drawn)
            return forward if test else None, forward
        tested = None
        if test:
            with torch.no_grad():
                tested = Forward(self.weights, batch, targets, rows, None)
        kept = TokenRows(*(column[kept_L] for column in rows))
        return tested, Forward(self.weights, shortened(batch, kept_L), targets, kept, drawn)

    def _chance(self, use: int) -> np.random.Generator:
        """Give this step's random numbers for one use; each use has counters of its own."""
        key = np.array([stream_seed(self.train.seed, "negatives"), self.counts["steps"]], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, use]))

    def _draw_negatives(self, batch: Jagged, targets: Targets) -> negatives.Negatives | None:
        live = self.items.live()
        if not len(targets.positive) or not len(live):
            return None
        popularity_R = self.popularity.counts(int(batch.request_ms.max()))
        return negatives.draw(live, popularity_R, self.train.negatives, self._chance(_NEGATIVES))

    @torch.no_grad()
    def _rank(self, queries_PD: Tensor, asked: Questions) -> dict[str, NDArray[np.float64]]:
        """Give the rank of every target by every scorer, among the items known before."""
        items_VD = self.weights.item_directions(len(asked.born_ms))
        size = max(1, _SCORES // max(1, len(items_VD)))
        parts = [slice(start, start + size) for start in range(0, len(asked), size)]
        by_model = [self._ranks(queries_PD[part], items_VD, asked.part(part)) for part in parts]
        found = {MODEL: np.concatenate([np.empty(0), *by_model])}
        if self._with_rivals:
            for name, rival in (("popularity", self.popularity), ("last_items", self.last_items)):
                found[name] = rival.ranks_unseen(asked) if self.train.exclude_seen else rival.ranks(asked)
        return found

    def _ranks(self, queries_PD: Tensor, items_VD: Tensor, asked: Questions) -> NDArray[np.float64]:
        scores_PV = self._scores(queries_PD, items_VD)
        if self.train.exclude_seen:
            asked, question_n, row_n = unseen(asked)
            scores_PV[self.weights.tensor(question_n), self.weights.tensor(row_n)] = -torch.inf
        return ranks(scores_PV, asked)

    @torch.no_grad()
    def recommend(self, examples: Sequence[Example], k: int) -> NDArray[np.int64]:
        """Give the rows of the k best candidates for each retrieval target's query, [P, k], -1 where there are fewer.

        Ids are admitted, no weight moves. For experiments in which what is recommended decides what comes next.
        """
        batch = collate(examples)
        targets = self._chooser.choose(batch)
        asked = self.known.ask(batch, targets).questions
        queries_PD = Forward(self.weights, batch, targets, self._admit(batch, examples), None).queries_PD
        scores_PV = queries_PD @ self.weights.item_directions(len(asked.born_ms)).T
        return best_rows(scores_PV.cpu().numpy().astype(np.float64), asked, k)

    def _scores(self, queries_PD: Tensor, items_VD: Tensor) -> Tensor:
        """Give the cosines, [P, V], until the next call."""
        wanted = len(queries_PD) * len(items_VD)
        if len(self._room) < wanted:
            self._room = self._room.new_empty(wanted + wanted // 4)
        return torch.mm(queries_PD, items_VD.T, out=self._room[:wanted].view(len(queries_PD), len(items_VD)))

    def _let_rivals_learn(self, questions: Questions) -> None:
        self.popularity.learn(questions)
        self.last_items.learn(questions)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take in what the catalogue says; a withdrawn item is no candidate and no negative until it comes back."""
        self.known.learn_items(records)

    def digest(self) -> str:
        """Give the xxh3_128 over everything that decides what the model does next; equal for equal runs."""
        hasher = xxh3_128()
        for part in (self.weights, self.items, self.features):
            part.digest_update(hasher)
        digest_arrays(hasher, self.popularity.state())
        hasher.update(str(self.counts).encode())
        return hasher.hexdigest()

    def state(self) -> dict[str, NDArray[Any]]:
        """Give everything as arrays, for a checkpoint; some are views, so write them before the next step."""
        return {
            **prefixed("weights.", self.weights.state()),
            **self.known.state(),
            **prefixed("popularity.", self.popularity.state()),
            **prefixed("metrics.", self.metrics.state()),
            "counts": np.array([self.counts[name] for name in _COUNTS], np.int64),
        }

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become the learner that gave this state."""
        self.weights.load_state(under("weights.", arrays))
        self.known.load_state(arrays)
        self.weights.grow(self.items.keys, len(self.features))
        self.popularity = Popularity.from_state(under("popularity.", arrays))
        self.metrics.load_state(under("metrics.", arrays))
        self.counts = dict(zip(_COUNTS, arrays["counts"].tolist(), strict=True))

    def snapshot_arrays(self, at_ms: int) -> dict[str, Any]:
        """Give what queries need: weights without moments, and popularity as of a time."""
        return {
            **prefixed("recommender.", self.weights.recommender.state_dict()),
            "items.weight": self.weights.item_weights(),
            "features.weight": self.weights.features.rows,
            **self.known.state(),
            "popularity.counts": self.popularity.counts(at_ms),
            "popularity.at_ms": np.array(at_ms, np.int64),
        }
