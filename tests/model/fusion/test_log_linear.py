import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

import model.fusion.log_linear
from model.counting.neighbours import ITEMS
from model.data.entity_index import EntityIndex, IndexedBatch
from model.data.event_time import DAY_MS
from model.errors import ModelError
from model.fusion.counters import HALF_LIVES_MS, PAIR_HALF_LIFE_MS, REFRESH, Counters
from model.fusion.log_linear import CLASSES, FEATURES, Head, LogLinear, dense
from model.fusion.tables import FADE, LAGS, LISTED, NOISE, RATE, SHRINK, STRENGTH, pairs_of_item
from stream.example import Example
from tests.batches import make_example, with_targets
from tests.laws import REQUEST_MS, START_MS, alone, positives, streams
from tests.model.baselines.asking import Asked, each

HEADS = Head(new_only=False, encoded=False), Head(new_only=True, encoded=True)


class Naive:
    """The features by their definitions, from lists of what happened. Items are keys."""

    def __init__(self) -> None:
        self.learned: list[Asked] = []
        self.popularity: dict[int, list[float]] = {}

    def count(self, asked: Asked) -> None:
        """Count an event; its item's popularity features are as of now."""
        self.learned.append(asked)
        own, total = ([self._sum(item, life_ms) for life_ms in HALF_LIVES_MS] for item in (asked.target, None))
        scale = 10 * len({event.target for event in self.learned})
        self.popularity[asked.target] = [math.log1p(scale * a / b) for a, b in zip(own, total, strict=True)]

    def _sum(self, item: int | None, life_ms: int) -> float:
        now_ms = max(event.request_ms for event in self.learned)
        return math.fsum(
            2.0 ** ((event.request_ms - now_ms) / life_ms) for event in self.learned if item in (None, event.target)
        )

    def features(self, asked: Asked, item: int, hidden: float) -> list[float]:
        """Return all features of an item for a question."""
        distinct = max(1, len({event.target for event in self.learned}))
        counts = self.together(asked), self.following(asked), *_own(asked), self.neighbours(asked)
        shares = [self._share(each, item) for each in counts]
        counted = [math.log1p(10 * distinct * share) for share in shares]
        return [hidden, *self.popularity.get(item, [0.0] * len(HALF_LIVES_MS)), *counted]

    @staticmethod
    def _share(counts: dict[int, float], item: int) -> float:
        return counts.get(item, 0.0) / (math.fsum(counts.values()) or 1.0)

    def together(self, asked: Asked) -> dict[int, float]:
        """Return the faded sum of cosines of each item with the user's last ones."""
        pairs: Counter[tuple[int, int]] = Counter()
        totals: Counter[int] = Counter()
        for event in self.learned:
            weight = 2.0 ** ((event.request_ms - asked.request_ms) / PAIR_HALF_LIFE_MS)
            for lag, other in enumerate(event.seen[::-1][:LAGS]):
                for i, j in ((other, event.target), (event.target, other)):
                    pairs[i, j] += weight * FADE**lag  # type: ignore[assignment]
                    totals[i] += weight * FADE**lag  # type: ignore[assignment]
        found: Counter[int] = Counter()
        for lag, i in enumerate(asked.seen[::-1][:LAGS]):
            for j in {j for a, j in pairs if a == i}:
                found[j] += FADE**lag * pairs[i, j] / (math.sqrt(totals[i] * totals[j]) + SHRINK)  # type: ignore[assignment]
        return dict(found)  # type: ignore[arg-type]

    def following(self, asked: Asked) -> dict[int, float]:
        """Return the share of each item among what followed the last item that anything followed; rest under -1."""
        for i in asked.seen[::-1][:LAGS]:
            found: dict[int, float] = {}
            for event in self.learned:
                if event.seen and event.seen[-1] == i:
                    weight = 2.0 ** ((event.request_ms - asked.request_ms) / PAIR_HALF_LIFE_MS)
                    found[event.target] = found.get(event.target, 0.0) + weight
            if found:
                return {**found, -1: STRENGTH}
        return {}

    def neighbours(self, asked: Asked) -> dict[int, float]:
        """Return the similarity of the users who have each item that this one has not; few enough that all are near."""
        last = asked.history[::-1][:ITEMS]
        found: dict[int, float] = {}
        for user in {event.user for event in self.learned}:
            has = {event.target for event in self.learned if event.user == user}
            similar = sum(FADE ** last.index(i) for i in has & set(last)) / math.sqrt(len(has))
            for item in has - set(asked.history) if similar else ():
                found[item] = found.get(item, 0.0) + similar
        return found


def _own(asked: Asked) -> tuple[dict[int, float], dict[int, float]]:
    """Return the faded counts of the user's own items, and of what followed the last one there."""
    own: dict[int, float] = {}
    for lag, item in enumerate(asked.seen[::-1]):
        own[item] = own.get(item, 0.0) + FADE**lag
    followed: dict[int, float] = {}
    for i, j in zip(asked.seen, asked.seen[1:], strict=False):
        if i == asked.seen[-1]:
            followed[j] = followed.get(j, 0.0) + 1.0
    return own, followed


def test_room_for_pairs_is_not_made_anew_with_each_event() -> None:
    """It doubles, so that it is seldom full."""
    counters = Counters()
    counters.grow(100)
    rooms = set()
    for _ in range(200):
        counters.make_ready(1)
        counters._together.used += 4 * LAGS
        rooms.add(len(counters.view().together.columns))
    assert len(rooms) <= 8
    assert max(rooms) >= counters._together.used


def taken_in(index: EntityIndex, examples: Sequence[Example]) -> IndexedBatch:
    index.take_in(examples)
    return index.take_in(examples)


def encoded(questions: int, items: int) -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(questions, items)).astype(np.float32)


def history_class(asked: Asked) -> int:
    return sum(len(asked.seen) >= least for least in CLASSES)


@given(streams(3))
@settings(max_examples=40, deadline=None)
def test_scores_are_those_of_the_formula(examples: list[Example]) -> None:
    """Weights times features, by class of history length; popularity as of an item's last event."""
    index, naive, linear = EntityIndex(), Naive(), LogLinear(HEADS)
    for example in examples:
        taken = taken_in(index, [example])
        score_TV = linear.scores(taken.questions, 0)
        weights = linear.state()["weights"][0]
        keys = index.items.keys.tolist()
        for asked, scores in zip(each([example]), score_TV.tolist(), strict=True):
            for item, score in zip(keys, scores, strict=True):
                if score > -math.inf:
                    features = naive.features(asked, item, 0.0)
                    assert score == pytest.approx(float(weights[history_class(asked)] @ features), rel=1e-5, abs=1e-6)
        linear.step(taken.questions, taken.answered)
        for asked in each([example]):
            naive.count(asked)


@given(streams(3))
@settings(max_examples=40, deadline=None)
def test_weights_follow_the_likelihood(examples: list[Example]) -> None:
    """Each head takes Adagrad's step by the gradient of the log likelihood over its own candidates."""
    index, naive, linear = EntityIndex(), Naive(), LogLinear(HEADS)
    for example in examples:
        for each_alone in _requests(example):
            taken = taken_in(index, [each_alone])
            before = {name: array.copy() for name, array in linear.state().items()}
            hidden_TV = encoded(len(taken.answered), len(taken.answered.born_ms))
            linear.step(taken.questions, taken.answered, encoded=dense(hidden_TV))
            for asked, hidden in zip(each([each_alone]), hidden_TV.tolist(), strict=True):
                for h, head in enumerate(HEADS):
                    _check_step(h, head, asked, naive, taken, hidden, before, linear.state())
                naive.count(asked)


def _requests(example: Example) -> list[Example]:
    """Return examples of one target each."""
    return [alone(example, int(target)) for target in positives(example)]


def _check_step(h, head, asked, naive, taken, hidden, before, after) -> None:  # type: ignore[no-untyped-def]
    keys, born_ms = taken.answered.keys.tolist(), taken.answered.born_ms.tolist()
    own = set(asked.history) if head.new_only else set()
    among = [v for v, key in enumerate(keys) if born_ms[v] < asked.request_ms and key not in own]
    weights = before["weights"][h, history_class(asked)]
    moved = after["squares"][h, history_class(asked)] - before["squares"][h, history_class(asked)]
    if asked.target not in [keys[v] for v in among]:
        assert not moved.any()
        return
    features = {keys[v]: np.array(naive.features(asked, keys[v], hidden[v])) for v in among}
    masses = {key: math.exp(weights @ own_features) for key, own_features in features.items()}
    share = masses[asked.target] / math.fsum(masses.values())
    by_chance = NOISE / max(1, len({event.target for event in naive.learned}))
    mean = sum(masses[key] * features[key] for key in features) / math.fsum(masses.values())
    slope = share / (share + by_chance) * (features[asked.target] - mean)
    if not head.encoded:
        slope[0] = 0.0
    assert moved == pytest.approx(slope**2, rel=1e-3, abs=1e-9)
    there = slope != 0
    step = after["weights"][h, history_class(asked)] - weights
    assert (np.sign(step[there & (np.abs(slope) > 1e-6)]) == np.sign(slope[there & (np.abs(slope) > 1e-6)])).all()
    assert (np.abs(step) <= RATE + 1e-12).all()


@given(streams(2), streams(2))
@settings(max_examples=30, deadline=None)
def test_a_restored_state_goes_on_to_the_same_bits(before: list[Example], then: list[Example]) -> None:
    """Counts, clocks, weights and what the weights' optimizer keeps."""
    index, linear, restored = EntityIndex(), LogLinear(HEADS), LogLinear(HEADS)
    taken = taken_in(index, before)
    linear.step(taken.questions, taken.answered)
    restored.load_state({name: np.array(array) for name, array in linear.state().items()})
    taken = taken_in(index, then)
    for each_of in (linear, restored):
        each_of.step(taken.questions, taken.answered)
    ranks = [each_of.step(taken.questions, taken.answered, ranked=[0, 1]).tolist() for each_of in (linear, restored)]
    assert ranks[0] == ranks[1]
    one, other = linear.state(), restored.state()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_features_are_named_as_they_are_counted() -> None:
    """One weight for the encoder, for each half-life, and for each listed feature."""
    assert len(FEATURES) == 1 + len(HALF_LIVES_MS) + LISTED


def busy_stream(
    events: int, items: int, gap_ms: int = REQUEST_MS, batch: int = 1
) -> tuple[EntityIndex, list[IndexedBatch]]:
    """Return a long stream of events: users take items by a law with a few popular ones."""
    rng, index, taken = np.random.default_rng(0), EntityIndex(), []
    waiting: list[Example] = []
    histories: list[list[tuple[int, int, int, int]]] = [[] for _ in range(40)]
    for n in range(events):
        user, item = int(rng.integers(40)), 1 + int(items * rng.random() ** 3)
        ts_ms = START_MS + n * gap_ms
        tokens = histories[user][-30:]
        example = make_example([*tokens, (item, 5, ts_ms, 2)], user)
        waiting.append(with_targets(example, [(len(tokens), len(tokens) - 1, 0, ts_ms, [5])]))
        histories[user].append((item, 5, ts_ms, 2))
        if len(waiting) == batch:
            taken.append(index.take_in(waiting))
            waiting = []
    return index, taken


@pytest.mark.parametrize("gap_days", [20, 60, 2_000])
def test_counts_stay_finite_over_silent_years(gap_days: int) -> None:
    """Shares of what float64 holds no more are 0; before, they were not numbers, and every target had rank 0.5."""
    linear, ranks = LogLinear(HEADS), []
    for batch in busy_stream(160, 50, gap_days * DAY_MS, batch=16)[1]:
        ranks.append(linear.step(batch.questions, batch.answered, ranked=[0, 1]))
        assert np.isfinite(linear.counters.features).all()
    assert (np.concatenate(ranks, 1) >= 1).all()


def test_a_score_that_is_no_number_is_refused() -> None:
    """It would be neither above nor below the others, and its rank would flatter."""
    (batch,) = busy_stream(4, 3, batch=4)[1]
    hidden_TV = np.full((4, len(batch.answered.born_ms)), np.nan, np.float32)
    with pytest.raises(ModelError, match="is not a number"):
        LogLinear([Head(new_only=False, encoded=True)]).step(
            batch.answered, batch.answered, ranked=[0], learn=False, encoded=dense(hidden_TV)
        )


@pytest.mark.parametrize(("items", "pairs"), [(0, 2048), (2048, 2048), (4096, 1024), (10**6, 256)])
def test_items_share_the_room_for_pairs(items: int, pairs: int) -> None:
    """A small catalogue keeps all pairs that matter, a large one is bounded."""
    assert pairs_of_item(np.array([items])) == pairs


def test_popularity_is_refreshed_and_a_drawn_pool_learns_what_all_items_teach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With more items than POOL the softmax is estimated: the weights end near those of the exact one."""
    _, taken = busy_stream(20 * REFRESH, 300)
    ended = []
    for size in (10_000, 128):
        monkeypatch.setattr(model.fusion.log_linear, "POOL", size)
        linear = LogLinear(HEADS)
        for batch in taken:
            linear.step(batch.questions, batch.answered)
        assert linear.counters.events == len(taken)
        ended.append(linear.state()["weights"][0, -1])
    assert ended[1] == pytest.approx(ended[0], abs=0.15)
    assert np.abs(ended[0] - LogLinear(HEADS).state()["weights"][0, -1]).max() > 0.25


def test_what_has_died_is_in_no_count() -> None:
    """Another item takes the row, and nothing that was counted of the dead one says anything about it."""
    _, taken = busy_stream(200, 20)
    linear = LogLinear(HEADS)
    for batch in taken:
        linear.step(batch.questions, batch.answered)
    linear.counters.forget(np.array([3, 5]))
    state = linear.state()
    for name in ("together.columns", "following.columns", "neighbours.items"):
        assert set(state[f"counts.{name}"].tolist()) & {3, 5} == set()
        assert len(state[f"counts.{name}"])
    assert not state["counts.features"][[3, 5]].any()
