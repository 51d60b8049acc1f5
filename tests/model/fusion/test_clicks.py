"""Click probabilities by counts: the features and steps of their definition, and what they may depend on."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from model.data.catalogue import Features, ItemRecord
from model.data.entity_index import EntityIndex
from model.data.item_features import ItemFeatures
from model.errors import ModelError
from model.fusion.click_tables import (
    DRIFT,
    FEATURES,
    LAGS,
    LEAST,
    PRIOR,
    SHRINK,
    TOWER,
    VARIANCE,
    Impressions,
    ItemValues,
    whats,
)
from model.fusion.clicks import HALF_LIFE_MS, Clicks
from stream.example import NO_KEY, Example, Kind, id_key
from tests.batches import make_example, with_targets
from tests.laws import KEYS as ITEM_KEYS, streams

ACTIONS = ("click", "like")
KEYS = np.array([id_key(action) for action in ACTIONS], np.uint64)
SAID: dict[int, Features] = {  # of every item but the first, of which the catalogue says nothing
    key: {"colour": "red", "tags": [f"t{n % 3}", f"t{n % 2}", "all"]} if n % 2 else {"colour": f"c{n % 4}"}
    for n, key in enumerate(ITEM_KEYS)
    if n
}


class Side:
    """Click probabilities over an index of their own; the tower of a target is a function of its item."""

    def __init__(self, said: dict[int, Features] = SAID) -> None:
        self.index, self.clicks = EntityIndex(ACTIONS, item_features=["*"]), Clicks(len(ACTIONS), [True, False])
        self.index.learn_items([ItemRecord(key, str(key), None, features, 0) for key, features in said.items()])

    def step(self, batch: Sequence[Example], *, learn: bool = True) -> NDArray[np.float64]:
        """Return the logits, [H, T, A]."""
        taken = self.index.take_in(batch).batch
        tokens, shown = taken.tokens, taken.targets.shown
        position_T, start_T = tokens.positions[shown], tokens.offsets[tokens.owners[shown]]
        query_T, row_T = np.maximum(tokens.queries[shown], start_T - 1), taken.rows.items[position_T]
        asked = Impressions(
            *(row_T, tokens.requests[shown], start_T, query_T, position_T - query_T - 1, taken.targets.labels),
            towers=np.stack((row_T / 10.0, -row_T / 5.0), 1),
            rows=taken.rows.items,
            whats=whats(tokens.kinds, tokens.actions, KEYS),
        )
        self.clicks.grow(len(self.index.items), len(self.index.features))
        values = ItemValues(**self.index.item_features.state())
        return self.clicks.step(asked, tokens.request_ms[shown], values, learn=learn)


class Shown(NamedTuple):
    """An impression, by keys."""

    item: int
    request_ms: int
    place: int
    history: list[tuple[int, int, int]]  # key, action, kind, oldest first
    labels: list[int]


def impressions(example: Example) -> list[list[Shown]]:
    """Return the impressions of an example by request."""
    found: dict[int, list[Shown]] = {}
    columns = (example.keys.tolist(), example.actions.tolist(), example.kinds.tolist())
    for t, position in enumerate(example.positions.tolist()):
        if example.kinds[position] == Kind.IMPRESSION:
            query = int(example.queries[t])
            history = [token for token in list(zip(*columns, strict=True))[: query + 1] if token[2] != Kind.ATTRIBUTE]
            labels = example.labels[example.label_offsets[t] : example.label_offsets[t + 1]].tolist()
            shown = Shown(columns[0][position], int(example.request_ms[t]), position - query - 1, history, labels)
            found.setdefault(int(example.requests[t]), []).append(shown)
    return list(found.values())


class Naive:
    """The features by their definitions, from a list of what happened."""

    def __init__(self) -> None:
        self.seen: list[Shown] = []
        self.rows: dict[int, int] = {}
        self.weights = np.zeros((2, len(ACTIONS), len(FEATURES)))
        self.weights[:, :, FEATURES.index("item_rate")] = 1.0
        self.weights[0, :, FEATURES.index("tower")] = 0.5
        self.covariances = np.zeros((*self.weights.shape, len(FEATURES))) + VARIANCE * np.eye(len(FEATURES))
        self.covariances[1, :, TOWER, TOWER] = 0

    def step(self, request: list[Shown]) -> list[NDArray[np.float64]]:
        """Return the logits of each impression, [H, A], then learn and count them."""
        asked = [(shown, *self.features(shown)) for shown in request]
        logits = [base_A + (self.weights * x_AF).sum(2) for _, x_AF, base_A in asked]
        for (shown, x_AF, _), logit_HA in zip(asked, logits, strict=True):
            label_A = np.isin(KEYS, np.array(shown.labels, np.uint64))
            for h, a in np.ndindex(logit_HA.shape):
                self.filter(1 / (1 + np.exp(-logit_HA[h, a])), label_A[a], x_AF[a], h, a)
        self.seen += request
        return logits

    def filter(self, rate: float, label: bool, x_F: NDArray[np.float64], h: int, a: int) -> None:
        """Move the weights of an action by an impression."""
        covariance_FF, variance = self.covariances[h, a], rate * (1 - rate)
        moved_F = covariance_FF @ x_F
        self.weights[h, a] += moved_F * (label - rate) / (1 + max(variance, LEAST) * (x_F @ moved_F))
        covariance_FF = covariance_FF - np.outer(moved_F, moved_F) * variance / (1 + variance * (x_F @ moved_F))
        own_F = np.diag(covariance_FF)
        self.covariances[h, a] = covariance_FF + np.diag(((own_F != 0) & (own_F < VARIANCE)) * DRIFT * variance)

    def features(self, shown: Shown) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the features, [A, F], and the logits of the base rates, [A]."""
        viewed = [key for key, _, kind in shown.history if kind == Kind.IMPRESSION]
        acted = [(key, action) for key, action, kind in shown.history if kind == Kind.ACTION and action in KEYS]
        fades = [2.0 ** ((other.request_ms - shown.request_ms) / HALF_LIFE_MS) for other in self.seen]
        views: Counter[int] = Counter()
        for other, fade in zip(self.seen, fades, strict=True):
            views[other.item] += fade  # type: ignore[assignment]
        row = self.rows[shown.item]
        x, base = np.zeros((len(ACTIONS), len(FEATURES))), np.zeros(len(ACTIONS))
        for a, action in enumerate(KEYS.tolist()):
            acts = [fade if action in other.labels else 0.0 for other, fade in zip(self.seen, fades, strict=True)]
            own = [act for act, other in zip(acts, self.seen, strict=True) if other.item == shown.item]
            rate = (sum(acts) + 1) / (sum(fades) + 2)
            mine = [key for key, each in acted if each == action]
            user = odds(len(mine), len(viewed), rate)
            base[a] = math.log(rate / (1 - rate))
            x[a] = (
                1,
                odds(sum(own), views[shown.item], rate),
                user,
                math.log1p(sum(key == shown.item for key, _ in acted)),
                math.log1p(viewed.count(shown.item)),
                math.log((views[shown.item] + 1) / (sum(fades) / max(1, len(views)) + 1)),
                self.lift(shown, viewed, fades, acts=False),
                self.lift(shown, [key for key, _ in acted], fades, acts=True),
                *self.by_values(shown, fades, acts, rate, viewed, [key for key, _ in acted], mine),
                math.log1p(len(viewed) + len(acted)) / 3,
                math.log1p(shown.place),
                (row / 10, -row / 5)[a] - base[a],
            )
        return x, base

    def by_values(
        self, shown: Shown, fades: list[float], acts: list[float], rate: float,
        viewed: list[int], acted: list[int], mine: list[int],
    ) -> NDArray[np.float64]:  # fmt: skip
        """Return what the values of the item say, [3]: a mean over features of means over values."""
        logit = odds(len(mine), len(viewed), rate) + math.log(rate / (1 - rate))
        described = sum(fade for other, fade in zip(self.seen, fades, strict=True) if values_of(other.item))
        tokens = sum(bool(values_of(key)) for key in viewed + acted)
        found, total = np.zeros(3), 0.0
        for value, weight in values_of(shown.item).items():
            has = [value in values_of(other.item) for other in self.seen]
            views = sum(fade for fade, one in zip(fades, has, strict=True) if one)
            liked = sum(act for act, one in zip(acts, has, strict=True) if one)
            own, own_acts = (sum(value in values_of(key) for key in keys) for keys in (viewed, mine))
            seen = own + sum(value in values_of(key) for key in acted)
            chance = tokens * views / described if described else 0
            found += weight * np.array((
                math.log((seen + 1) / (chance + 1)),
                odds(liked, views, rate),
                odds(own_acts, own, 1 / (1 + math.exp(-logit))),
            ))  # fmt: skip
            total += weight
        return found / total if total else found

    def lift(self, shown: Shown, history: list[int], fades: list[float], *, acts: bool) -> float:
        """Return the log of pairs with a history over those by chance."""
        pairs: Counter[tuple[int, int]] = Counter()
        for other, fade in zip(self.seen, fades, strict=True):
            if acts and not set(other.labels) & set(KEYS.tolist()):
                continue
            wanted = [
                key
                for key, action, kind in other.history
                if (kind == Kind.ACTION and action in KEYS if acts else kind == Kind.IMPRESSION)
            ]
            for key in wanted[-LAGS:]:
                pairs[other.item, key] += fade  # type: ignore[assignment]
                pairs[key, other.item] += fade  # type: ignore[assignment]
        total = sum(pairs.values())
        of = {key: sum(n for (i, _), n in pairs.items() if i == key) for key in {shown.item, *history}}
        found = sum(pairs[shown.item, key] for key in history)
        chance = sum(of[key] * of[shown.item] for key in history) / total if total else 0.0
        return math.log((found + SHRINK) / (chance + SHRINK))


def odds(acts: float, views: float, rate: float) -> float:
    """Return the log of the odds over those of a rate."""
    passed = max(0.0, views - acts)
    return math.log((acts + PRIOR * rate) / (passed + PRIOR * (1 - rate))) - math.log(rate / (1 - rate))


def values_of(item: int) -> dict[int, float]:
    """Return the values of an item, with their weights."""
    keys, weights = ItemFeatures(["*"]).values(SAID.get(item, {}))
    return dict(zip(keys.tolist(), weights.tolist(), strict=True))


@given(examples=streams(2))
@settings(max_examples=15, deadline=None)
def test_logits_and_steps_are_those_of_the_definitions(examples: list[Example]) -> None:
    """Request by request, both heads."""
    side, naive = Side(), Naive()
    for example in examples:
        logits_HTA = side.step([example])
        naive.rows = {key: row for row, key in enumerate(side.index.items.keys.tolist())}
        wanted = [logit_HA for request in impressions(example) for logit_HA in naive.step(request)]
        assert logits_HTA.shape[1] == len(wanted)
        for t, logit_HA in enumerate(wanted):
            assert logits_HTA[:, t] == pytest.approx(logit_HA, abs=1e-9)


@given(examples=streams(3))
@settings(max_examples=15, deadline=None)
def test_bits_do_not_depend_on_micro_batches_or_resumes(examples: list[Example]) -> None:
    """All at once, one by one, and by one that goes on from a state: the same logits, to the bit."""
    together, apart = Side(), Side()
    for side in (together, apart):
        side.index.take_in(examples)  # so that rows are the same
    wanted = together.step(examples)
    found = [apart.step(examples[:1])]
    state = {name: np.array(array) for name, array in apart.clicks.state().items()}
    apart.clicks = Clicks(len(ACTIONS), [True, False])
    apart.clicks.load_state(state)
    found += [apart.step([example]) for example in examples[1:]]
    assert np.concatenate(found, 1).tolist() == wanted.tolist()
    assert all(np.array_equal(array, together.clicks.state()[name]) for name, array in apart.clicks.state().items())


@given(examples=streams(2))
@settings(max_examples=15, deadline=None)
def test_a_request_is_asked_before_its_labels_are_known(examples: list[Example]) -> None:
    """Other labels of the last request leave its logits as they were; without learning nothing moves."""
    ready = Side()
    ready.step(examples[:-1])
    last = examples[-1]
    request = last.requests == last.requests[-1]
    labels = last.label_offsets[:-1][request][0]
    altered = [make_with_labels(last, int(labels), id_key("like"))]
    kept = ("weights", "covariances", "counts.totals", "counts.distinct", "counts.shown.sums", "counts.described")
    before = {name: np.array(ready.clicks.state()[name]) for name in kept}
    one, other = (ready.step(batch, learn=False) for batch in ([last], altered))
    assert one.tolist() == other.tolist()
    assert all(np.array_equal(ready.clicks.state()[name], array) for name, array in before.items())


def make_with_labels(example: Example, first: int, label: int) -> Example:
    """Return an example whose labels from number `first` on are another."""
    tokens = zip(
        *(column.tolist() for column in (example.keys, example.actions, example.ts_ms, example.kinds)), strict=True
    )
    columns = (example.positions, example.queries, example.requests, example.request_ms)
    targets = []
    for t, target in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
        own = range(int(example.label_offsets[t]), int(example.label_offsets[t + 1]))
        targets.append((*target, [label if n >= first else int(example.labels[n]) for n in own]))
    return with_targets(make_example(list(tokens), example.user), targets)


def test_a_place_that_is_clicked_more_often_gets_higher_probabilities() -> None:
    """Of slates of two the first item is always clicked; items and users say nothing."""
    side, rng = Side(), np.random.default_rng(0)
    for n in range(300):
        keys = (1 + rng.permutation(20)[:2]).tolist()
        slate = make_example([(key, NO_KEY, n * 1000, Kind.IMPRESSION) for key in keys], user=n)
        targets = [(0, -1, 0, n * 1000, [int(KEYS[0])]), (1, -1, 0, n * 1000, [])]
        logits_TA = side.step([with_targets(slate, targets)])[1]
    assert logits_TA[0, 0] > logits_TA[1, 0] + 1


def test_users_who_saw_one_value_get_higher_probabilities_for_it_on_items_nobody_has_seen() -> None:
    """Each user is shown one of two genres, and clicks on it where it is shown among both."""
    said: dict[int, Features] = {key: {"genre": str(key % 2)} for key in range(1, 10_000)}
    side, plain, logits = Side(said), Side({}), {}
    for n in range(200):
        own = n % 2
        shown = [1 + 40 * n + 2 * k + own for k in range(8)]
        last = [1 + 40 * n + 30 + own, 1 + 40 * n + 31 + own][:: 1 if n % 4 < 2 else -1]
        tokens = [(key, NO_KEY, n * 1000, Kind.IMPRESSION) for key in (*shown, *last)]
        targets = [(8 + k, 7, 0, n * 1000, [int(KEYS[0])] if key % 2 != own else []) for k, key in enumerate(last)]
        batch = [with_targets(make_example(tokens, user=n), targets)]
        logits = {each: each.step(batch)[1, :, 0] for each in (side, plain)}
    assert logits[side][1] > logits[side][0] + 1
    assert abs(logits[plain][1] - logits[plain][0]) < 1


def test_deaths_leave_what_their_values_have_counted() -> None:
    """The shares of values stay shares, and the next item of a row is known by its own values alone."""
    said: dict[int, Features] = {key: {"genre": str(key % 2)} for key in range(1, 9)}
    side = Side(said)
    slate = make_example([(key, NO_KEY, 0, Kind.IMPRESSION) for key in range(1, 9)])
    side.step([with_targets(slate, [(at, -1, 0, 0, [int(KEYS[0])]) for at in range(8)])])
    before = {name: np.array(array) for name, array in side.clicks.state().items()}
    side.clicks.forget(side.index.items.rows(np.arange(1, 8, dtype=np.uint64)))
    after = side.clicks.state()
    for name in ("counts.value_views", "counts.value_acts", "counts.described"):
        assert np.array_equal(after[name], before[name])
    assert after["counts.described"] == after["counts.value_views"].sum() == 8
    assert after["counts.views"].sum() == 1


def test_what_is_no_number_is_refused() -> None:
    """A tower that diverged makes no probability."""
    clicks = Clicks(1, [True])
    clicks.grow(1)
    zero, none = np.zeros(1, np.int64), np.empty(0, np.int64)
    asked = Impressions(
        zero, zero, zero, zero - 1, zero, np.zeros((1, 1), np.bool_), np.full((1, 1), np.nan), none, none
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"diverged.*click probability"):
        clicks.step(asked, zero, learn=True)


def test_a_time_long_before_all_that_was_acted_on_has_probabilities() -> None:
    """As of then the counts are huge, and an action on everything shown would have infinite odds."""
    side = Side()
    for years in (100, 101, 0, 1, 102, 0):
        ts_ms = years * 365 * 86_400_000
        slate = make_example([(key, NO_KEY, ts_ms, Kind.IMPRESSION) for key in (1, 2)], user=years)
        targets = [(at, -1, 0, ts_ms, [int(KEYS[0])]) for at in (0, 1)]
        assert np.isfinite(side.step([with_targets(slate, targets)])).all()
