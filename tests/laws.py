"""Laws that hold for everything that is compared: each takes a factory, so that any model can be checked.

A contestant answers a micro-batch's retrieval questions with ranks, [P], and may then learn from it. `streams` draws
small streams: users come back, items are shown in slates or acted on, new items appear at any time.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Protocol

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.baselines import Baseline
from model.config import ModelSettings, TrainSettings
from model.data.candidates import Questions
from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex
from model.evaluation.prequential import ENCODER, MODEL
from model.learning.learner import Learner
from stream.example import END_OF_TIME_MS, NO_KEY, Example, Kind, id_key
from tests.batches import make_example, with_targets

Ranks = NDArray[np.float64]
Token = tuple[int, int, int, int]  # key, action, ts_ms, kind
ITEMS, HISTORY = 8, 12
START_MS, REQUEST_MS = 1_700_000_000_000, 60_000
CLICK, LIKE = id_key("click"), id_key("like")
KEYS = [id_key(f"item {i}") for i in range(ITEMS)]


class Contestant(Protocol):
    """What the laws hold for."""

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool) -> Ranks:
        """Rank the targets of a micro-batch (if tested), then learn it; ids are admitted in any case."""

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take catalogue records in."""


Factory = Callable[[], Contestant]


class Neural:
    """A learner with one model, as a contestant."""

    def __init__(self, *, fused: bool = True, **model: object) -> None:
        self._settings = {"fused": fused, **model}
        shape = ModelSettings(**{"dim": 8, "layers": 1, "heads": 2, "max_len": 32, **model})  # type: ignore[arg-type]
        self._learner = Learner(
            shape,
            TrainSettings(device="cpu", negatives=4, learning_rate=0.03, embedding_rate_ratio=1, fuse_counts=fused),
            baselines=False,
        )
        self.learn_items = self._learner.learn_items

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool) -> Ranks:
        outcome = self._learner.step(examples, test=test, learn=learn).outcome
        return np.empty(0) if outcome is None else outcome.ranks[MODEL]

    def logits(self, examples: Sequence[Example]) -> NDArray[np.float64]:
        """Return the logits of the towers, or of a model that only ranks, for what was shown, [N, A]."""
        outcome = self._learner.step(examples, test=True, learn=False).outcome
        assert outcome is not None
        return np.asarray(outcome.logits[ENCODER], np.float64)

    def resumed(self) -> "Neural":
        """Return a new learner with this one's state."""
        new = Neural(**self._settings)  # type: ignore[arg-type]
        new._learner.load_state({name: np.array(array) for name, array in self._learner.state().items()})
        return new

    def digest(self) -> str:
        return self._learner.digest()


class Counting:
    """A baseline with a vocabulary, as a contestant."""

    def __init__(self, baseline: type[Baseline]) -> None:
        self.baseline, self.index = baseline(half_life_ms=20 * REQUEST_MS), EntityIndex()
        self.learn_items = self.index.learn_items

    def ask(self, examples: Sequence[Example]) -> Questions:
        return self.index.ask(examples)

    def step(self, examples: Sequence[Example], *, test: bool, learn: bool) -> Ranks:
        taken = self.index.take_in(examples)
        if test and learn:
            return self.baseline.step(taken.questions, taken.answered)
        rank_P = self.baseline.ranks(taken.questions) if test else np.empty(0)
        if learn:
            self.baseline.learn(taken.answered)
        return rank_P


@st.composite
def streams(draw: st.DrawFn, least: int = 1) -> list[Example]:
    """Draw examples in the order of time, each with one to three requests of a user who has a history or not."""
    histories: dict[int, list[Token]] = {}
    now_ms, examples = START_MS, []
    for _ in range(draw(st.integers(least, 5))):
        user = draw(st.integers(0, 2))
        tokens = histories.setdefault(user, [])
        first, targets = max(0, len(tokens) - HISTORY), []
        for number in range(draw(st.integers(1, 3))):
            now_ms += REQUEST_MS
            items = draw(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=2, unique=True))
            targets += _request(tokens, items, now_ms, number, first, organic=len(items) == 1 and draw(st.booleans()))
        examples.append(with_targets(make_example(tokens[first:], user), targets))
    return examples


def _request(
    tokens: list[Token], items: list[int], now_ms: int, number: int, first: int, *, organic: bool
) -> list[tuple[int, int, int, int, list[int]]]:
    """Let a user act on an item, or be shown some and click the first; return the targets."""
    query, action = len(tokens) - 1 - first, CLICK if organic else NO_KEY
    kind = Kind.ACTION if organic else Kind.IMPRESSION
    tokens += [(KEYS[item], action, now_ms, kind) for item in items]
    if not organic:
        tokens.append((KEYS[items[0]], CLICK, now_ms + 1000, Kind.ACTION))
    return [(query + 1 + i, query, number, now_ms, [] if i else [CLICK]) for i in range(len(items))]


def after(make: Factory, batches: Sequence[Sequence[Example]], *, learn: bool = True) -> Contestant:
    """Return a contestant that has gone through micro-batches."""
    contestant = make()
    for batch in batches:
        contestant.step(batch, test=False, learn=learn)
    return contestant


def positives(example: Example) -> NDArray[np.intp]:
    """Return the retrieval targets of an example."""
    return np.flatnonzero(np.diff(example.label_offsets))


def alone(example: Example, target: int, future: Sequence[int] = (), item: int | None = None) -> Example:
    """Return an example of one target as it is known at its request, with another label and another future.

    The target may be another item; the user's history stays.
    """
    query, position = int(example.queries[target]), int(example.positions[target])
    kept = [*range(query + 1), position]
    columns = zip(example.keys, example.actions, example.ts_ms, example.kinds, strict=True)
    tokens = [(int(k), int(a), int(t), int(kind)) for k, a, t, kind in columns]
    asked_ms = int(example.request_ms[target])
    later = [(KEYS[other], LIKE, asked_ms + 1 + n, Kind.ACTION) for n, other in enumerate(future)]
    if item is not None:
        tokens[position] = (KEYS[item], *tokens[position][1:])
    made = make_example([*(tokens[i] for i in kept), *later], example.user)
    return with_targets(made, [(query + 1, query, 0, asked_ms, [LIKE])])


def no_look_ahead(
    make: Factory, before: Sequence[Example], asked: Sequence[Example], future: Sequence[int], other: Sequence[Example]
) -> None:
    """A rank depends on what was before the request: not on labels, later tokens, or later examples."""
    ready = after(make, [before])
    wanted = iter(deepcopy(ready).step(asked, test=True, learn=False).tolist())
    for e, example in enumerate(asked):
        for target in positives(example):
            batch = [*asked[:e], alone(example, target, future), *other]
            place = sum(len(positives(each)) for each in asked[:e])
            assert deepcopy(ready).step(batch, test=True, learn=False)[place] == next(wanted)


def the_answer_is_not_known(make: Factory, before: Sequence[Example], asked: Example) -> None:
    """In one situation the items have ranks that form a ranking, whichever of them is the target."""
    ready, target = after(make, [before]), int(positives(asked)[-1])
    batches = [[alone(asked, target, item=item)] for item in range(ITEMS)]
    every = [float(deepcopy(ready).step(batch, test=True, learn=False)[0]) for batch in batches]
    ranks = sorted(rank for rank in every if rank < np.inf)
    assert ranks == [1 + ranks.index(rank) + (ranks.count(rank) - 1) / 2 for rank in ranks]


def candidates_are_live_items(
    make: Factory, before: Sequence[Example], asked: Sequence[Example], withdrawn: Sequence[int]
) -> None:
    """No rank is below what the live items born before the request allow; a target that is none of them is a miss."""
    contestant = after(make, [before])
    contestant.learn_items([Tombstone(KEYS[i], f"item {i}", START_MS) for i in withdrawn])
    born_ms: dict[int, int] = {}
    for example in before:
        for key, ts_ms in zip(example.keys.tolist(), example.ts_ms.tolist(), strict=True):
            born_ms[key] = min(ts_ms, born_ms.get(key, ts_ms))
    alive = {key: ts_ms for key, ts_ms in born_ms.items() if key not in {KEYS[i] for i in withdrawn}}
    targets = [(example, target) for example in asked for target in positives(example)]
    for rank, (example, target) in zip(contestant.step(asked, test=True, learn=False), targets, strict=True):
        there = {key for key, ts_ms in alive.items() if ts_ms < example.request_ms[target]}
        listed = int(example.keys[example.positions[target]]) in there
        assert 1 <= rank <= len(there) or rank == np.inf if listed else rank == np.inf


def answers_do_not_depend_on_batches(make: Factory, before: Sequence[Example], asked: Sequence[Example]) -> None:
    """Examples tested together have the ranks that each has alone, from the same weights and vocabulary."""
    ready = after(make, [before])
    ready.step(asked, test=False, learn=False)  # so that new ids have their rows in any case
    together = deepcopy(ready).step(asked, test=True, learn=False)
    apart = [deepcopy(ready).step([example], test=True, learn=False) for example in asked]
    assert together.tolist() == np.concatenate(apart).tolist()


def learning_does_not_depend_on_batches(
    make: Factory, before: Sequence[Example], asked: Sequence[Example], split: int
) -> None:
    """What is learned is the same however the examples are split into micro-batches; for baselines only."""
    splits = ([before], [before[:split], before[split:]], [[example] for example in before])
    ranks = [after(make, batches).step(asked, test=True, learn=False).tolist() for batches in splits]
    assert ranks[0] == ranks[1] == ranks[2]


def growth_does_not_matter(
    make: Factory, before: Sequence[Example], asked: Sequence[Example], *, learn: bool = True
) -> None:
    """Items that had rows from the start, born at the end of time, change nothing: candidates are the same."""
    keys = dict.fromkeys(key for example in (*before, *asked) for key in example.keys.tolist())
    early = make_example([(key, NO_KEY, END_OF_TIME_MS, Kind.IMPRESSION) for key in keys])
    ready, grown = make(), make()
    ready.step([early], test=False, learn=False)
    for example in (*before, *asked):
        ranks = [each.step([example], test=True, learn=learn).tolist() for each in (grown, ready)]
        assert ranks[0] == ranks[1]


def is_deterministic(make: Factory, examples: Sequence[Example]) -> None:
    """Two that go through the same micro-batches give the same ranks."""
    one, other = make(), make()
    for example in examples:
        ranks = [each.step([example], test=True, learn=True).tolist() for each in (one, other)]
        assert ranks[0] == ranks[1]


def scores_give_the_ranks(
    make: Callable[[], Counting], before: Sequence[Example], asked: Sequence[Example], withdrawn: Sequence[int]
) -> None:
    """A baseline scores candidates only, and ranks by its scores: equal scores share their mean rank."""
    contestant = make()
    contestant.step(before, test=False, learn=True)
    contestant.learn_items([Tombstone(KEYS[i], f"item {i}", START_MS) for i in withdrawn])
    questions = contestant.ask(asked)
    score_TV, rank_T = contestant.baseline.scores(questions), contestant.baseline.ranks(questions)
    candidate_TV = questions.candidates().tolist()
    assert score_TV.shape == (len(questions), len(questions.born_ms))
    assert (score_TV < np.inf).all()  # and no NaN
    for t, (scores, rank) in enumerate(zip(score_TV.tolist(), rank_T.tolist(), strict=True)):
        assert all(score == -np.inf for score, there in zip(scores, candidate_TV[t], strict=True) if not there)
        own = scores[questions.targets[t]] if questions.possible[t] else -np.inf
        higher, equal = sum(score > own for score in scores), sum(score == own for score in scores)
        assert rank == (np.inf if own == -np.inf else 1 + higher + (equal - 1) / 2)
    assert Baseline.fast_ranks(contestant.baseline, questions).tolist() == rank_T.tolist()


def each_event_counts_at_once(make: Factory, before: Sequence[Example], asked: Sequence[Example]) -> None:
    """Ranks of a micro-batch that is learned as it is ranked are those of its examples one after the other."""
    ready = after(make, [before])
    ready.step(asked, test=False, learn=False)  # so that new ids have their rows in any case
    together = deepcopy(ready).step(asked, test=True, learn=True)
    apart = [ready.step([example], test=True, learn=True) for example in asked]
    assert together.tolist() == np.concatenate(apart).tolist()


def later_events_do_not_matter(make: Factory, before: Sequence[Example], asked: Sequence[Example]) -> None:
    """What comes later in a micro-batch changes no rank, even where the micro-batch is learned as it is ranked."""
    ready = after(make, [before])
    shorter = deepcopy(ready).step(asked[:-1], test=True, learn=True).tolist() if asked[:-1] else []
    assert ready.step(asked, test=True, learn=True).tolist()[: len(shorter)] == shorter


def requests_are_asked_before_they_count(make: Factory, before: Sequence[Example], asked: Example) -> None:
    """In a micro-batch that is learned as it is ranked, the items of a situation still form a ranking."""
    ready, target = after(make, [before]), int(positives(asked)[-1])
    batches = [[alone(asked, target, item=item)] for item in range(ITEMS)]
    every = [float(deepcopy(ready).step(batch, test=True, learn=True)[0]) for batch in batches]
    ranks = sorted(rank for rank in every if rank < np.inf)
    assert ranks == [1 + ranks.index(rank) + (ranks.count(rank) - 1) / 2 for rank in ranks]


def clicks_do_not_look_ahead(
    ready: Neural, asked: Sequence[Example], future: Sequence[int], other: Sequence[Example], *, slate: bool
) -> None:
    """A logit depends on the candidate and what was before the request; with `slate`, on items shown above it too."""
    *_, last = asked
    targets = shown(last)
    logits_NA = deepcopy(ready).logits(asked)[len(targets) * -1 :]
    for target, logit_A in zip(targets.tolist(), logits_NA, strict=True):
        if not slate or last.positions[target] == last.queries[target] + 1:
            found_NA = deepcopy(ready).logits([*other, alone(last, target, future)])
            assert np.allclose(found_NA[-1], logit_A, atol=1e-5)


def clicks_do_not_depend_on_batches(ready: Neural, asked: Sequence[Example]) -> None:
    """Examples asked together have the logits that each has alone, from the same weights."""
    apart = [deepcopy(ready).logits([example]) for example in asked]
    assert np.allclose(deepcopy(ready).logits(asked), np.concatenate(apart), atol=1e-5)


def resumes_to_the_bit(one: Neural, later: Sequence[Example]) -> None:
    """A learner that was saved and restored goes on as one that was not."""
    other = one.resumed()
    for each in (one, other):
        each.step(later, test=True, learn=True)
    assert one.digest() == other.digest()


def shown(example: Example) -> NDArray[np.intp]:
    """Return the ranking targets of an example."""
    return np.flatnonzero(example.kinds[example.positions] == Kind.IMPRESSION)
