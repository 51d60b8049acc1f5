"""Contestants of a comparison: the learner with named settings, or a baseline by its name.

A contestant answers the questions of a micro-batch and then learns it. Both kinds ask the same questions of the same
vocabulary, so their ranks are of the same targets among the same candidates.
"""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128

from model.arrays.state import prefixed
from model.baselines import BASELINES, Baseline
from model.config import ATTENTION_NAMES, ENCODER_NAMES, ModelSettings, TrainSettings
from model.data.candidates import best_rows
from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex, IndexedBatch
from model.data.event_time import DAY_MS
from model.evaluation.prequential import LOGISTIC, MODEL
from model.learning.click_fusion import ClickFusion
from model.learning.learner import Learner
from sim.errors import SimError
from sim.experiment.click_tallies import Clicks
from stream.example import Example, Kind

_TITLES: Final = {  # of those whose name does not say enough
    "silu": "HSTU, SiLU / max_len",
    "silu_seen": "HSTU, SiLU / keys seen",
    "transformer": "Transformer (SASRec)",
    "gru": "GRU4Rec",
    "bert4rec": "BERT4Rec",
    "s3rec": "S3Rec",
    "sim_soft": "SIM, soft search",
    "sim_hard": "SIM, hard search",
    "mmoe": "MMoE",
    "senet": "SENet (FiBiNET)",
    "ppnet": "PPNet",
    **{name: name.upper() for name in ("din", "dien", "dsin", "bst", "mimn", "eta", "sdim", "twin", "ncf", "dlrm")},
}


class Network(NamedTuple):
    """A learner that is compared: its title, and the settings that it fixes."""

    title: str
    model: Mapping[str, Any]
    train: Mapping[str, Any] = {}

    @property
    def fixed(self) -> dict[str, Any]:
        """Those settings by dotted names."""
        return prefixed("model.", self.model) | prefixed("train.", self.train)


_HSTU: Final = {"encoder": "hstu"}
NEURAL: Final[Mapping[str, Network]] = {  # HSTU by attention, other encoders, HSTU by how it is trained
    **{
        name: Network(_TITLES.get(name, f"HSTU, {name}"), {"encoder": "hstu", "attention": name})
        for name in ATTENTION_NAMES
    },
    **{
        name: Network(_TITLES.get(name, name), {"encoder": name, "attention": "silu", "bias": "none"})
        for name in ENCODER_NAMES
        if name != "hstu"
    },
    MODEL: Network("HSTU", _HSTU),
    "fast": Network("HSTU, profile fast", _HSTU, {"replay_every": 0}),
    "encoder": Network("HSTU without counts", _HSTU, {"fuse_counts": False}),
}


@dataclass(frozen=True, slots=True, eq=False)
class Tested:
    """The ranks of one micro-batch's retrieval targets, and their ages."""

    ranks: NDArray[np.float64]  # [P], inf for a miss
    slices: NDArray[np.intp]  # [P] index into item_age.SLICES
    request_ms: NDArray[np.int64]  # [P]
    clicks: Clicks | None = None
    """Click probabilities of what was shown; None for one that has none."""


class Contestant(Protocol):
    """One side of a comparison."""

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool, count: bool = True) -> Tested | None:
        """Test on a micro-batch, then learn it; ids are admitted even without `learn`.

        Args:
            examples: The micro-batch.
            test: Whether to test.
            learn: Whether to learn.
            count: Whether its targets are occurrences of their items, which decide who is admitted; once an example.
        """

    def recommend(self, examples: Sequence[Example], k: int) -> list[list[str]]:
        """Return the ids of the k best candidates for each target, the best first; "" where there are fewer."""

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Learn catalogue records."""

    def digest(self) -> str:
        """Return a digest that is equal for equal runs."""

    def state(self) -> dict[str, NDArray[Any]] | None:
        """Return the state for a checkpoint; None: there are no checkpoints, and a stopped run starts again."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state of a checkpoint."""

    def frozen(self) -> "Contestant":
        """Return an independent copy, to be tested with frozen weights."""

    @property
    def parameters(self) -> int:
        """The number of weights learned by gradients."""

    @property
    def test_s(self) -> float:
        """CPU seconds of scoring and ranking."""


class Neural:
    """The learner with one model."""

    def __init__(self, model: ModelSettings, train: TrainSettings) -> None:
        every = train.model_copy(update={"test_share": 1.0})  # as baselines are
        self._learner = Learner(model, every, baselines=False)

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool, count: bool = True) -> Tested | None:
        """Test on a micro-batch, then learn it."""
        outcome = self._learner.step(examples, test=test, learn=learn, count=count).outcome
        if outcome is None:
            return None
        logits_NA = outcome.logits[MODEL].astype(np.float64)
        clicks = Clicks(logits_NA, outcome.labels, outcome.rank_slices, _users_of_shown(examples))
        return Tested(outcome.ranks[MODEL], outcome.slices, outcome.request_ms, clicks)

    def recommend(self, examples: Sequence[Example], k: int) -> list[list[str]]:
        """Return the ids of the best."""
        return _texts(self._learner.recommend(examples, k), self._learner.items.texts)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Learn catalogue records."""
        self._learner.learn_items(records)

    def digest(self) -> str:
        """Return the learner's digest."""
        return self._learner.digest()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the learner's state."""
        return self._learner.state()

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore the state of a checkpoint."""
        self._learner.load_state(state)

    def frozen(self) -> "Neural":
        """Return a copy."""
        copy = Neural(self._learner.model, self._learner.train)
        copy.load_state({name: np.array(array) for name, array in self.state().items()})
        return copy

    @property
    def parameters(self) -> int:
        """The number of weights: dense ones and the rows of both tables."""
        weights = self._learner.weights
        dense = sum(parameter.numel() for parameter in weights.recommender.parameters())
        return dense + weights.items.rows.numel() + weights.features.rows.numel()

    @property
    def test_s(self) -> float:
        """CPU seconds of scoring and ranking."""
        return self._learner.test_s


class Counting:
    """A baseline with its own vocabulary."""

    parameters = 0

    def __init__(self, name: str, train: TrainSettings) -> None:
        self._name, self._train = name, train
        self._index = EntityIndex(negative_actions=train.negative_actions)
        self._baseline: Baseline = BASELINES[name](round(train.popularity_half_life_d * DAY_MS))
        self._ranks = xxh3_128()
        self.test_s = 0.0

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool, count: bool = True) -> Tested | None:
        """Test on a micro-batch, then learn it."""
        return self._step(self._index.take_in(examples, count=count), test=test, learn=learn)

    def _step(self, taken: IndexedBatch, *, test: bool, learn: bool) -> Tested | None:
        if not test:
            if learn:
                self._baseline.learn(taken.answered)
            return None
        start_s, questions, exclude_seen = time.process_time(), taken.questions, self._train.exclude_seen
        if learn:
            ranks = self._baseline.step(questions, taken.answered, exclude_seen=exclude_seen)
        else:
            ranks = self._baseline.ranks(questions, exclude_seen=exclude_seen)
        self._ranks.update(ranks.tobytes())
        self.test_s += time.process_time() - start_s
        return Tested(ranks, taken.slices, questions.request_ms)

    def recommend(self, examples: Sequence[Example], k: int) -> list[list[str]]:
        """Return the ids of the best."""
        questions = self._index.ask(examples)
        return _texts(best_rows(self._baseline.scores(questions), questions, k), self._index.items.texts)

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Learn catalogue records."""
        self._index.learn_items(records)

    def digest(self) -> str:
        """Return the digest of all ranks so far."""
        return self._ranks.hexdigest()

    def state(self) -> None:
        """Return None: a baseline has no checkpoints."""

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raise: a baseline has no checkpoints."""
        raise SimError(f"The baseline {self._name} keeps no checkpoint.")

    def frozen(self) -> "Counting":
        """Return a copy."""
        copy = self._empty()
        copy._index.load_state({name: np.array(array) for name, array in self._index.state().items()})
        copy._baseline = deepcopy(self._baseline)
        return copy

    def _empty(self) -> "Counting":
        return Counting(self._name, self._train)


class Logistic(Counting):
    """Counts alone: click probabilities by logistic regression, and the ranks of the stack."""

    title = "All counters, logistic for clicks"

    def __init__(self, model: ModelSettings, train: TrainSettings) -> None:
        super().__init__("stack", train)
        self._model = model
        self._index = EntityIndex(model.rank_actions, train.negative_actions, item_features=model.item_features)
        self._fusion = ClickFusion(model.rank_actions, fused=False, logistic=True)

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool, count: bool = True) -> Tested | None:
        """Test on a micro-batch, then learn it."""
        taken = self._index.take_in(examples, count=count)
        tested = self._step(taken, test=test, learn=learn)
        if tested is None and not learn:
            return None
        start_s, labels_NA = time.process_time(), taken.batch.targets.labels
        no_towers = np.empty((len(labels_NA), 0))
        logits_NA = self._fusion.step(no_towers, taken.batch, self._index, learn=learn)[LOGISTIC]
        if tested is None:
            return None
        self._ranks.update(logits_NA.tobytes())
        self.test_s += time.process_time() - start_s
        return replace(tested, clicks=Clicks(logits_NA, labels_NA, taken.rank_slices, _users_of_shown(examples)))

    def frozen(self) -> "Logistic":
        """Return a copy."""
        copy = super().frozen()
        assert isinstance(copy, Logistic)
        copy._fusion.load_state({name: np.array(array) for name, array in self._fusion.state().items()})
        return copy

    def _empty(self) -> "Logistic":
        return Logistic(self._model, self._train)


def _users_of_shown(examples: Sequence[Example]) -> NDArray[np.uint64]:
    """Return the user of each ranking target, [N]."""
    shown = [np.count_nonzero(each.kinds[each.positions] == Kind.IMPRESSION) for each in examples]
    return np.repeat(np.array([each.user for each in examples], np.uint64), shown)


def _texts(rows: NDArray[np.int64], texts: Sequence[str]) -> list[list[str]]:
    return [[texts[row] if row >= 0 else "" for row in own] for own in rows.tolist()]


def names() -> tuple[str, ...]:
    """Return the names of all contestants."""
    return (*NEURAL, *BASELINES, LOGISTIC)


def title_of(name: str) -> str:
    """Return the title of a contestant.

    Raises:
        SimError: There is no contestant of that name.
    """
    if name in NEURAL:
        return NEURAL[name].title
    if name in BASELINES:
        return BASELINES[name].title
    if name == LOGISTIC:
        return Logistic.title
    raise SimError(f"There is no contestant {name!r}; known are {', '.join(names())}.")


def make(name: str, model: ModelSettings, train: TrainSettings) -> Contestant:
    """Return a new contestant.

    Raises:
        SimError: There is no contestant of that name.
    """
    title_of(name)
    if name in BASELINES:
        return Counting(name, train)
    if name == LOGISTIC:
        return Logistic(model, train)
    network = NEURAL[name]
    return Neural(
        ModelSettings(**(model.model_dump() | dict(network.model))),
        TrainSettings(**(train.model_dump() | dict(network.train))),
    )
