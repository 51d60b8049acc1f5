"""Who is compared: settings of the learner by a name, or a baseline by its own.

A contestant answers a micro-batch's questions and then learns it; the two kinds ask the same questions of the same
vocabulary, so their ranks are of the same targets among the same candidates.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from model.baselines import BASELINES, Baseline
from model.config import ModelSettings, TrainSettings
from model.data.candidates import best_rows
from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex
from model.data.labels import Chooser
from model.data.micro_batch import collate
from model.evaluation.prequential import MODEL
from model.learning.learner import Learner
from sim.errors import SimError
from stream.example import Example

NEURAL: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {  # title, and what makes it what it is
    "silu": ("HSTU, SiLU / max_len", {"encoder": "hstu", "attention": "silu"}),
    "silu_seen": ("HSTU, SiLU / keys seen", {"encoder": "hstu", "attention": "silu_seen"}),
    "softmax": ("HSTU, softmax", {"encoder": "hstu", "attention": "softmax"}),
    "transformer": ("Transformer (SASRec)", {"encoder": "transformer", "attention": "silu", "bias": "none"}),
    "gru": ("GRU4Rec", {"encoder": "gru", "attention": "silu", "bias": "none"}),
}
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """The ranks of one micro-batch's retrieval targets, and their ages."""

    ranks: NDArray[np.float64]  # [P], inf for a miss
    slices: NDArray[np.intp]  # [P] index into item_age.SLICES
    request_ms: NDArray[np.int64]  # [P]


class Contestant(Protocol):
    """One that is compared."""

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool) -> Tested | None:
        """Test on a micro-batch, then learn it; without `learn`, ids are admitted all the same."""

    def recommend(self, examples: Sequence[Example], k: int) -> list[list[str]]:
        """Give the ids of the k best candidates for each target, the best first; "" where there are fewer."""

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take in what the catalogue says."""

    def digest(self) -> str:
        """Give what equal runs have equal."""

    def state(self) -> dict[str, NDArray[Any]] | None:
        """Give all of it for a checkpoint; None: it has none and begins anew."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what gave this state."""

    def frozen(self) -> "Contestant":
        """Give a copy that can be tested without this one learning of it."""

    @property
    def parameters(self) -> int:
        """Count what was learnt by gradients."""

    @property
    def test_s(self) -> float:
        """CPU seconds that scoring and ranking took."""


class Neural:
    """The learner with one model."""

    def __init__(self, model: ModelSettings, train: TrainSettings) -> None:
        self._learner = Learner(model, train, rivals=False)

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool) -> Tested | None:
        """Test on a micro-batch, then learn it."""
        outcome = self._learner.step(examples, test=test, learn=learn).outcome
        if outcome is None:
            return None
        return Tested(outcome.ranks[MODEL], outcome.slices, outcome.request_ms)

    def recommend(self, examples: Sequence[Example], k: int) -> list[list[str]]:
        """Give the ids of the best."""
        return _texts(self._learner.recommend(examples, k), self._learner.items.texts)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take in what the catalogue says."""
        self._learner.learn_items(records)

    def digest(self) -> str:
        """Give the learner's digest."""
        return self._learner.digest()

    def state(self) -> dict[str, NDArray[Any]]:
        """Give the learner's state."""
        return self._learner.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Become what gave this state."""
        self._learner.load_state(state)

    def frozen(self) -> "Neural":
        """Give a copy."""
        copy = Neural(self._learner.model, self._learner.train)
        copy.load_state({name: np.array(array) for name, array in self.state().items()})
        return copy

    @property
    def parameters(self) -> int:
        """Count weights: dense ones and the rows of both tables."""
        weights = self._learner.weights
        dense = sum(parameter.numel() for parameter in weights.recommender.parameters())
        return dense + weights.items.rows.numel() + weights.features.rows.numel()

    @property
    def test_s(self) -> float:
        """CPU seconds that scoring and ranking took."""
        return self._learner.test_s


class Counting:
    """A baseline with a vocabulary of its own."""

    parameters = 0

    def __init__(self, name: str, train: TrainSettings) -> None:
        self._name, self._train = name, train
        self._known = EntityIndex()
        self._baseline: Baseline = BASELINES[name](round(train.popularity_half_life_d * _DAY_MS))
        self._chooser = Chooser((), train.negative_actions)
        self._ranks = xxh3_128()
        self.test_s = 0.0

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool) -> Tested | None:
        """Test on a micro-batch, then learn it."""
        batch = collate(examples)
        targets = self._chooser.choose(batch)
        asked = self._known.ask(batch, targets)
        tested = None
        if test:
            start_s = time.process_time()
            ranks = self._baseline.ranks_unseen if self._train.exclude_seen else self._baseline.ranks
            tested = Tested(ranks(asked.questions), asked.slices, asked.questions.request_ms)
            self._ranks.update(tested.ranks.tobytes())
            self.test_s += time.process_time() - start_s
        rows = self._known.admit(batch, examples)
        if learn:
            positive = rows.items[batch.positions[targets.positive]]
            self._baseline.learn(replace(asked.questions, targets=positive, rows=rows.items))
        return tested

    def recommend(self, examples: Sequence[Example], k: int) -> list[list[str]]:
        """Give the ids of the best."""
        batch = collate(examples)
        asked = self._known.ask(batch, self._chooser.choose(batch)).questions
        return _texts(best_rows(self._baseline.scores(asked), asked, k), self._known.items.texts)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take in what the catalogue says."""
        self._known.learn_items(records)

    def digest(self) -> str:
        """Give the digest of all ranks that it gave."""
        return self._ranks.hexdigest()

    def state(self) -> None:
        """Give nothing: it begins anew."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Refuse."""
        raise SimError(f"The baseline {self._name} keeps no checkpoint.")

    def frozen(self) -> "Counting":
        """Give a copy."""
        from copy import deepcopy

        copy = Counting(self._name, self._train)
        copy._known = EntityIndex()
        copy._known.load_state({name: np.array(array) for name, array in self._known.state().items()})
        copy._baseline = deepcopy(self._baseline)
        return copy


def _texts(rows: NDArray[np.int64], texts: Sequence[str]) -> list[list[str]]:
    return [[texts[row] if row >= 0 else "" for row in own] for own in rows.tolist()]


def names() -> tuple[str, ...]:
    """Give the names of all contestants."""
    return (*NEURAL, *BASELINES)


def title_of(name: str) -> str:
    """Give what people call a contestant.

    Raises:
        SimError: there is none of that name.
    """
    if name in NEURAL:
        return NEURAL[name][0]
    if name in BASELINES:
        return BASELINES[name].title
    raise SimError(f"There is no contestant {name!r}; known are {', '.join(names())}.")


def make(name: str, model: ModelSettings, train: TrainSettings) -> Contestant:
    """Give a fresh contestant.

    Raises:
        SimError: there is none of that name.
    """
    title_of(name)
    if name in BASELINES:
        return Counting(name, train)
    return Neural(ModelSettings(**(model.model_dump() | dict(NEURAL[name][1]))), train)
