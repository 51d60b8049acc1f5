import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord, Tombstone
from model.data.item_age import SLICES
from model.errors import ModelError
from model.learning.learner import Learner, StepReport
from model.network.retrieval_loss import unit
from stream.example import NO_KEY, Example, Kind, decode, id_key
from tests.factories import START_MS, make_examples

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, window_targets=1000)
HALF_LIFE_MS = TRAIN.popularity_half_life_d * 86_400_000


def stream(**size: Any) -> list[Example]:
    """Return the factory's examples in their order."""
    [log] = make_examples(**{"partitions": 1, **size})
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def batches(examples: list[Example], size: int = 8) -> list[list[Example]]:
    return [examples[i : i + size] for i in range(0, len(examples), size)]


def trained(examples: list[Example], model: ModelSettings = MODEL, **train: Any) -> tuple[Learner, list[StepReport]]:
    learner = Learner(model, TRAIN.model_copy(update=train))
    return learner, [learner.step(batch) for batch in batches(examples)]


class Naive:
    """Births, withdrawals, counts and ranks by dictionaries and loops."""

    def __init__(self) -> None:
        self.born: dict[int, int] = {}
        self.dead: set[int] = set()
        self.seen: list[tuple[int, int]] = []  # (item, request time) of every positive

    def questions(self, batch: list[Example]) -> list[tuple[Example, int, int]]:
        """Return (example, target, item) of every positive."""
        negative = {id_key(action) for action in TRAIN.negative_actions}
        return [
            (example, t, int(example.keys[example.positions[t]]))
            for example in batch
            for t in range(len(example.positions))
            if {*example.labels[example.label_offsets[t] : example.label_offsets[t + 1]].tolist()} - negative
        ]

    def candidates(self, request_ms: int) -> set[int]:
        return {item for item, born in self.born.items() if born < request_ms and item not in self.dead}

    def rank(self, score: dict[int, float], item: int, candidates: set[int]) -> float:
        if item not in candidates:
            return np.inf
        above = sum(score[other] > score[item] for other in candidates)
        equal = sum(score[other] == score[item] for other in candidates if other != item)
        return 1 + above + equal / 2

    def popularity(self, candidates: set[int]) -> dict[int, float]:
        newest = max((ts_ms for _, ts_ms in self.seen), default=0)
        counts = dict.fromkeys(candidates, 0.0)
        for item, ts_ms in self.seen:
            if item in counts:
                counts[item] += 2 ** ((ts_ms - newest) / HALF_LIFE_MS)
        return {item: float(np.float32(count)) for item, count in counts.items()}  # sums in another order stay equal

    def last_items(self, example: Example, query: int, item: int, candidates: set[int]) -> float:
        recent = [
            int(key)
            for key, kind in zip(example.keys[: query + 1], example.kinds[: query + 1], strict=True)
            if kind == Kind.ACTION and int(key) in candidates
        ]
        distinct = list(dict.fromkeys(reversed(recent)))
        return distinct.index(item) + 1 if item in distinct and item in candidates else np.inf

    def learn(self, batch: list[Example]) -> None:
        for example in batch:
            for key, kind, ts_ms in zip(example.keys, example.kinds, example.ts_ms, strict=True):
                if kind != Kind.ATTRIBUTE:
                    self.born[int(key)] = min(self.born.get(int(key), 2**62), int(ts_ms))
        self.seen += [(item, int(example.request_ms[t])) for example, t, item in self.questions(batch)]


def by_loops(learner: Learner, example: Example, query: int) -> dict[int, float]:
    """Score every known item for one user with the learner's weights, without a batch."""
    weights, width = learner.weights, learner.model.dim
    content, action = torch.zeros(len(example.keys), width), torch.zeros(len(example.keys), width)
    for i, (key, kind) in enumerate(zip(example.keys, example.kinds, strict=True)):
        table, ids = (weights.features, learner.features) if kind == Kind.ATTRIBUTE else (weights.items, learner.items)
        content[i] = table.rows[int(ids.rows(np.array([key]))[0])]
        if example.actions[i] != NO_KEY:
            action[i] = weights.features.rows[int(learner.features.rows(example.actions[i : i + 1])[0])]
    kinds, ts_ms = torch.from_numpy(example.kinds.copy()), torch.from_numpy(example.ts_ms.copy())
    with torch.no_grad():
        bounds = torch.tensor([0, len(kinds)])
        y = weights.recommender.encode(content, action, kinds, ts_ms, bounds)
        query_D = weights.recommender.queries(y, torch.tensor([query]), content, kinds, bounds)[0]
        scores = unit(weights.items.rows) @ query_D
    return dict(zip(learner.items.keys.tolist(), scores.tolist(), strict=True))


def test_every_rank_is_the_one_counted_by_hand() -> None:
    """Encoder, popularity and last items rank each target among the items alive then, as loops over dictionaries do.

    The model's weights are those before the step; tombstoned items are no candidates, and one comes back.
    """
    learner, naive = Learner(MODEL, TRAIN), Naive()
    dead = [id_key(f"item {i}") for i in (1, 2, 5)]
    unseen = seen = gone = 0
    for number, batch in enumerate(batches(stream(seed=1, users=6, items=30, count=120))):
        if number == 6:
            learner.learn_items([Tombstone(key, f"item {i}", START_MS) for key, i in zip(dead, (1, 2, 5), strict=True)])
            naive.dead |= {*dead}
        if number == 10:
            learner.learn_items([ItemRecord(dead[0], "item 1", "back", {}, START_MS + 1)])
            naive.dead -= {dead[0]}
        before = copy.deepcopy(learner)
        outcome = learner.step(batch).outcome
        before._take_in(batch)
        for i, (example, t, item) in enumerate(naive.questions(batch)):
            query, candidates = int(example.queries[t]), naive.candidates(int(example.request_ms[t]))
            scores = by_loops(before, example, query)
            assert outcome.ranks["encoder"][i] == naive.rank(scores, item, candidates)
            assert outcome.ranks["popularity"][i] == naive.rank(naive.popularity(candidates), item, candidates)
            assert outcome.ranks["last_items"][i] == naive.last_items(example, query, item, candidates)
            born = naive.born.get(item)
            late = born is None or born >= example.request_ms[t]
            assert (SLICES[outcome.slices[i]] == "unseen") == late
            unseen, seen, gone = unseen + late, seen + (item in candidates), gone + (item in naive.dead)
        naive.learn(batch)
    assert min(unseen, seen, gone) > 0


def test_what_comes_later_does_not_show_earlier() -> None:
    """Other labels and tokens in a later micro-batch leave every earlier score as it was, to the bit."""
    examples = stream(count=64)
    altered = [
        replace(example, labels=np.full_like(example.labels, id_key("like")), keys=example.keys[::-1].copy())
        for example in examples[40:]
    ]
    _, one = trained(examples)
    _, other = trained(examples[:40] + altered)
    for a, b in zip(one[:5], other[:5], strict=True):
        np.testing.assert_equal(a.outcome.logits, b.outcome.logits)
        for scorer, ranks in a.outcome.ranks.items():
            np.testing.assert_array_equal(ranks, b.outcome.ranks[scorer])
        assert a.loss == b.loss


def test_a_label_does_not_show_in_its_own_test() -> None:
    """Within a micro-batch another positive action changes what is learned, and not one rank or logit before that."""
    examples = stream(count=48)
    relabelled = [
        replace(e, labels=np.where(e.labels == id_key("click"), id_key("like"), e.labels)) for e in examples[40:]
    ]
    _, one = trained(examples)
    _, other = trained(examples[:40] + relabelled)
    np.testing.assert_array_equal(one[-1].outcome.logits["encoder"], other[-1].outcome.logits["encoder"])
    ours, theirs = (run[-1].outcome.logits["hstu"] for run in (one, other))
    np.testing.assert_array_equal(ours[0], theirs[0])  # later ones know the labels of requests before theirs
    np.testing.assert_array_equal(one[-1].outcome.ranks["hstu"], other[-1].outcome.ranks["hstu"])
    assert one[-1].loss != other[-1].loss


def test_it_learns() -> None:
    """Where the next item follows from the last, the model's hit rate leaves popularity far behind."""
    learner, _ = trained(
        stream(seed=2, users=30, items=60, count=1200),
        MODEL.model_copy(update={"dim": 32}),
        negatives=64,
        learning_rate=3e-3,
        window_targets=300,
    )
    hr = {scorer: window.latest().as_dict()["all"]["hr@10"] for scorer, window in learner.metrics.retrieval.items()}
    assert hr["hstu"] > 2 * hr["popularity"]
    assert hr["hstu"] > 2 * hr["last_items"]


def test_it_learns_which_items_are_clicked() -> None:
    """Where the item decides whether a shown one is clicked, the tower tells them apart before it sees the label."""
    learner, _ = trained(
        [clicked_by_key(example) for example in stream(seed=2, users=30, items=60, count=1200)],
        MODEL.model_copy(update={"dim": 32}),
        negatives=64,
        learning_rate=3e-3,
        window_targets=300,
    )
    for ranker in ("hstu", "encoder"):
        click = learner.metrics.as_dict()["ranking"][ranker]["window"]["click"]["all"]
        assert click["ne"] < 0.7
        assert click["auc"] > 0.9


def clicked_by_key(example: Example) -> Example:
    """Return the example with other labels: shown items with an even key are clicked, the others not."""
    keys, shown = example.keys[example.positions], example.kinds[example.positions] == Kind.IMPRESSION
    clicked = ~shown | (keys % np.uint64(2) == 0)
    return replace(
        example,
        label_offsets=np.cumsum([0, *clicked]).astype("<u4"),
        labels=np.full(int(clicked.sum()), id_key("click"), "<u8"),
    )


def test_equal_runs_have_equal_digests() -> None:
    """The same settings and examples give the same bits; another seed, or one example less, gives others."""
    examples = stream(count=40)
    first = trained(examples)[0].digest()
    assert trained(examples)[0].digest() == first
    assert trained(examples, seed=1)[0].digest() != first
    assert trained(examples[:-1])[0].digest() != first


def test_steps_in_another_thread_give_the_same_bits() -> None:
    """The Kafka trainer steps in another thread, which must compute as a replay in one process does."""
    examples = stream(count=40)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(trained, examples).result()[0].digest() == trained(examples)[0].digest()
        learner = Learner(MODEL, TRAIN)
        for batch in batches(examples):
            thread.submit(learner.step, batch).result()
    assert learner.digest() == trained(examples)[0].digest()


@pytest.mark.parametrize(
    "model", [{"attention": "softmax"}, {"bias": "none"}, {"layers": 2, "heads": 1}, {"item_rows": 5}]
)
def test_every_shape_of_model_goes_on_from_its_state(model: dict[str, Any]) -> None:
    """A learner that took another's state in mid-stream ends with the same digest, metrics and catalogue."""
    shape = MODEL.model_copy(update=model)
    half_way, examples = 24, stream(count=48)
    whole, _ = trained(examples, shape)
    half, _ = trained(examples[:half_way], shape)
    other = Learner(shape, TRAIN)
    other.load_state(half.state())
    assert other.digest() == half.digest()
    for batch in batches(examples[half_way:]):
        other.step(batch)
    assert other.digest() == whole.digest()
    assert other.metrics.as_dict() == whole.metrics.as_dict()


def test_items_that_share_a_row_are_one_to_the_model() -> None:
    """With fewer rows than items the table is bounded, sharers score alike, and snapshots have a row for each item."""
    learner, reports = trained(stream(), MODEL.model_copy(update={"item_rows": 5}))
    assert len(learner.weights.items) == 5 < len(learner.items)
    slots = learner.items.keys % 5
    weights = learner.snapshot_arrays(reports[-1].event_ms)["items.weight"]
    assert weights.shape == (len(learner.items), MODEL.dim)
    for slot in range(5):
        own = weights[torch.from_numpy(slots == slot)]
        assert (own == own[:1]).all()
    ranks = np.concatenate([report.outcome.ranks["hstu"] for report in reports if report.outcome])
    assert (ranks[np.isfinite(ranks)] % 1 == 0.5).any()  # tied with the others of the row


def only(example: Example, kind: Kind, label: str | None) -> Example:
    """Keep the targets of one kind, all with one label or none."""
    kept = np.flatnonzero(example.kinds[example.positions] == kind)
    labels = [] if label is None else [id_key(label)] * len(kept)
    return replace(
        example,
        positions=example.positions[kept],
        queries=example.queries[kept],
        requests=example.requests[kept],
        request_ms=example.request_ms[kept],
        labels=np.array(labels, np.uint64),
        label_offsets=np.arange(len(kept) + 1) * (label is not None),
    )


@pytest.mark.parametrize(
    ("kind", "label", "retrieval", "ranking"),
    [
        (Kind.ACTION, "skip", False, False),
        (Kind.ACTION, "purchase", True, False),
        (Kind.IMPRESSION, None, False, True),
        (Kind.IMPRESSION, "skip", False, True),
        (Kind.IMPRESSION, "never heard of", True, True),
    ],
)
def test_a_micro_batch_may_lack_targets(kind: Kind, label: str | None, retrieval: bool, ranking: bool) -> None:
    """Each kind of target makes the retrieval and ranking targets that it can; without any, nothing moves."""
    learner = Learner(MODEL, TRAIN)
    examples = [e for e in (only(e, kind, label) for e in stream(count=60)) if len(e.positions)][:8]
    moments = learner.weights.dense.state().keys()
    report = learner.step(examples)
    assert report.outcome is not None
    assert report.outcome.ranks.keys() == {"hstu", "encoder", "stack", "popularity", "last_items"}
    assert bool(learner.metrics.targets) == retrieval
    assert bool(learner.metrics.rank_targets) == ranking
    assert np.isnan(report.loss) == (not retrieval and not ranking)
    assert (learner.weights.dense.state().keys() == moments) == (not retrieval and not ranking)
    assert learner.counts["steps"] == 1


def test_a_micro_batch_of_which_no_target_is_drawn_has_no_ranks() -> None:
    """All scorers are there, since readers ask for them by name."""
    learner = Learner(MODEL, TRAIN.model_copy(update={"test_share": 1e-9}))
    outcome = learner.step(stream(count=8)).outcome
    assert outcome is not None
    assert {name: len(ranks) for name, ranks in outcome.ranks.items()} == dict.fromkeys(
        ("hstu", "encoder", "stack", "popularity", "last_items"), 0
    )


def test_without_ranked_actions_there_is_only_retrieval() -> None:
    """No tower is configured: impressions still make retrieval targets."""
    learner, reports = trained(stream(count=16), MODEL.model_copy(update={"rank_actions": ()}))
    assert learner.metrics.targets > 0
    assert learner.metrics.rank_targets == 0
    assert all(np.isfinite(report.loss) for report in reports)


def test_where_every_item_is_withdrawn_ranking_goes_on() -> None:
    """Without a live item there are no negatives and no retrieval loss; ranking is trained as before."""
    learner, _ = trained(stream(count=16, items=5))
    learner.learn_items([Tombstone(id_key(f"item {i}"), f"item {i}", START_MS) for i in range(5)])
    report = learner.step(stream(count=24, items=5)[16:])
    assert np.isinf(report.outcome.ranks["hstu"]).all()
    assert np.isfinite(report.loss)


def test_texts_reach_the_vocabulary_of_their_kind() -> None:
    """Items have their ids as texts, features the names of actions and values of attributes; none is without."""
    learner, _ = trained(stream(count=60))
    assert {text.split()[0] for text in learner.items.texts} == {"item"}
    assert {"click", "country=NO", "country=DE"} <= {*learner.features.texts}
    assert "" not in learner.features.texts


def test_divergence_names_the_step() -> None:
    """A loss that is not finite is not trained on."""
    learner, _ = trained(stream(count=16))
    learner.weights.recommender.start.data.fill_(float("nan"))
    with pytest.raises(
        ModelError, match=r"At step 3 of trainer silu: training has diverged.*lower train.learning_rate"
    ):
        learner.step([replace(e, queries=np.full_like(e.queries, -1)) for e in stream(count=8)])


def test_an_example_longer_than_the_model_is_refused() -> None:
    """Before anything is learned, with both settings that decide it."""
    examples = stream(count=20)
    longest = max(len(example.keys) for example in examples)
    learner = Learner(MODEL.model_copy(update={"max_len": longest - 1}), TRAIN)
    with pytest.raises(ModelError, match=rf"has {longest} tokens, more than model.max_len = {longest - 1}"):
        learner.step(examples)
    assert len(learner.items) == 0
