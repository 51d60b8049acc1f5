"""Explanations, similar items, histories, filters and diversity, on a model that has counts."""

import numpy as np
import pytest
import torch

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import Catalogue, ItemRecord
from model.learning.learner import Learner
from model.serving.answerer import Answerer
from model.serving.filters import Filters, diverse
from model.serving.responses import QueryError, UnknownError
from stream.example import TOKEN_DTYPE, Kind, id_key
from tests.factories import START_MS
from tests.model.learning import test_learner_lives as lives
from tests.model.learning.test_learner import batches, stream
from tests.served import HISTORY, NOW_MS, USERS, Memory, answerer, model_arrays, snapshot_of, tokens_of

SHAPE = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))


@pytest.fixture(scope="module")
def learned() -> tuple[Answerer, Memory]:
    """Return an answerer whose counts matter, and the histories of its users u0, u1, …"""
    learner = Learner(SHAPE, TrainSettings(negatives=16, device="cpu"))
    examples = stream(seed=2, users=30, items=60, count=300)
    for batch in batches(examples):
        learner.step(batch)
    arrays = {
        name: array.numpy() if isinstance(array, torch.Tensor) else np.array(array)
        for name, array in learner.snapshot_arrays(START_MS).items()
    }
    users = {}
    for number, example in enumerate(examples[-5:]):
        users[f"u{number}"] = np.zeros(len(example.keys), TOKEN_DTYPE)
        for name, column in (("key", "keys"), ("action", "actions"), ("ts_ms", "ts_ms"), ("kind", "kinds")):
            users[f"u{number}"][name] = getattr(example, column)
    memory = Memory(users)
    return Answerer(snapshot_of(arrays, SHAPE), memory), memory


@pytest.mark.parametrize("include_seen", [False, True])
def test_an_explanation_adds_up_and_is_exact(learned: tuple[Answerer, Memory], include_seen: bool) -> None:
    """The parts add up to topk's score; an event's change is what topk loses when the store lacks that event."""
    ours, memory = learned
    for user in [user for user, tokens in memory.users.items() if len(tokens) > 3][:2]:
        top = ours.topk(user, 4, START_MS, include_seen=include_seen)
        wanted = {item.item_id: item.score for item in top.items}
        found = ours.explain(user, list(wanted), START_MS, include_seen=include_seen, newest=3)
        assert found.now_ms == top.now_ms
        assert [item.item_id for item in found.items] == list(wanted)
        for item in found.items:
            assert item.score == pytest.approx(wanted[item.item_id], abs=1e-4)
            assert item.encoder + sum(item.counts.values()) == pytest.approx(item.score)
        assert any(any(item.counts.values()) for item in found.items)
        tokens = memory.users[user][-SHAPE.max_len :]
        for place, event in enumerate(found.events):
            memory.users["less"] = np.delete(tokens, len(tokens) - 1 - place)
            assert event.ts_ms == tokens["ts_ms"][len(tokens) - 1 - place]
            less = ours.explain("less", list(wanted), top.now_ms, include_seen=include_seen, newest=0)
            for item, without in zip(found.items, less.items, strict=True):
                assert item.changes[place] == pytest.approx(item.score - without.score, abs=1e-5)


def test_what_is_explained_to_strangers() -> None:
    """By popularity where the model does not answer; unknown and withdrawn items are left out; limits hold."""
    ours = answerer(withdrawn=[6])
    found = ours.explain("nobody", ["i3", "i6", "x", "i3"])
    assert (found.source, found.reason, found.events) == ("popularity", "user unknown", [])
    assert [(item.item_id, item.score, item.counts, item.changes) for item in found.items] == [
        ("i3", 3.0, {"popularity": 3.0}, [])
    ]
    for newest in (0, 3):
        nothing = ours.explain("ada", ["i6", "x"], newest=newest)
        assert (nothing.source, nothing.items, len(nothing.events)) == ("model", [], newest)
    only = answerer({"one": HISTORY[1:2]}).explain("one", ["i5"])
    assert len(only.items[0].changes) == len(only.events) == 1
    for items, newest, sentence in (
        (["i1"], 101, "newest is 101; give a number of events from 0 to 100."),
        ([f"i{i}" for i in range(101)], 5, "items has 101 item ids; give at most 100."),
    ):
        with pytest.raises(QueryError, match=sentence):
            ours.explain("ada", items, newest=newest)


def test_events_have_names() -> None:
    """Newest first: titles and actions of what the snapshot knows, keys in hex of what it does not."""
    found = answerer().history("ada", 3).events
    assert [(event.kind, event.id, event.title, event.action) for event in found] == [
        ("action", "i4", "Item 4", "click"),
        ("action", "i3", "Item 3", "like"),
        ("impression", "i3", "Item 3", None),
    ]
    assert answerer().history("ada").events[-1].id == "country=NO"
    strange = answerer().history("stranger").events
    assert all(event.id.startswith("key ") for event in strange)
    assert answerer().history("nobody").events == []
    with pytest.raises(QueryError, match="last is 0; give a number of events from 1 to 1,000"):
        answerer().history("ada", 0)


def test_similar_items_are_the_nearest_by_cosine() -> None:
    """Against numpy; the item itself and withdrawn ones are left out; unknown ones are refused."""
    found = answerer(withdrawn=[6]).similar("i2", 5)
    vectors = model_arrays()["items.weight"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit[2]
    cosine[[2, 6]] = -2
    best = np.argsort(-cosine)[:5]
    assert [item.item_id for item in found.items] == [f"i{row}" for row in best]
    assert [item.similarity for item in found.items] == pytest.approx(cosine[best].tolist(), abs=1e-5)
    with pytest.raises(QueryError, match="does not know the item 'x'"):
        answerer().similar("x")


def test_filters_leave_the_other_scores_as_they_are(learned: tuple[Answerer, Memory]) -> None:
    """Allowed, denied: the rest keeps its order and its scores, for known and unknown users."""
    ours, _ = learned
    for user in ("u0", "nobody"):
        everything = [(item.item_id, item.score) for item in ours.topk(user, 1000).items]
        some = {item for item, _ in everything[1::2]}
        allowed = ours.topk(user, 1000, filters=Filters(allow=[*some, "x"])).items
        assert [(item.item_id, item.score) for item in allowed] == everything[1::2]
        rest = ours.topk(user, 1000, filters=Filters(deny=sorted(some))).items
        assert [(item.item_id, item.score) for item in rest] == everything[::2]


def test_a_feature_of_the_catalogue_filters() -> None:
    """Values of any scalar kind, one of a list; several features all have to hold."""
    arrays, catalogue = model_arrays(), Catalogue()
    for i in range(20):
        features = {"genre": ["Drama", "War"] if i % 2 else "Drama", "year": 1990 + i % 3, "new": i < 5}
        catalogue.apply(ItemRecord(id_key(f"i{i}"), f"i{i}", None, features, 0))
    arrays |= {f"catalogue.{name}": array for name, array in catalogue.state().items()}
    ours = Answerer(snapshot_of(arrays), Memory({"ada": HISTORY}))

    def found(*features: str) -> set[int]:
        items = ours.topk("ada", 99, NOW_MS, include_seen=True, filters=Filters(features=features)).items
        return {int(item.item_id[1:]) for item in items}

    assert found("genre=Drama") == set(range(20))
    assert found("genre=War", "year=1991") == {i for i in range(20) if i % 2 and i % 3 == 1}
    assert found("new=true") == set(range(5))
    assert found("genre=Nothing") == set()
    for wrong in ("genre", "=War", "genre="):
        with pytest.raises(QueryError, match="give name=value, such as genre=Drama"):
            Filters(features=[wrong])


def test_diversity_takes_the_unlike_first() -> None:
    """Of two nearly equal vectors only one comes early; 0 keeps the order of the scores; more than there are: all."""
    scores = np.array([3.0, 2.9, 2.0, 1.0])
    vectors = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    assert diverse(scores, vectors, 4, 0.0).tolist() == [0, 1, 2, 3]
    assert diverse(scores, vectors, 3, 0.5).tolist() == [0, 2, 3]
    assert diverse(scores[:0], vectors[:0], 3, 0.5).tolist() == []
    ours = answerer()
    plain = ours.topk("ada", 5, NOW_MS)
    assert ours.topk("ada", 5, NOW_MS, filters=Filters(diversity=0.0)) == plain
    diverse_ids = [item.item_id for item in ours.topk("ada", 5, NOW_MS, filters=Filters(diversity=0.9)).items]
    assert diverse_ids[0] == plain.items[0].item_id
    assert diverse_ids != [item.item_id for item in plain.items]
    with pytest.raises(QueryError, match="diversity is 2; give a number from 0 to 1"):
        Filters(diversity=2)


def test_freshness_is_event_time_behind() -> None:
    """From the watermark to the time of a request; unknown where the log is replayed, or has ended."""
    fresh = answerer().freshness()
    assert (fresh.snapshot.age_s, fresh.behind_s) == (10, 70)
    replayed = answerer(watermark_ms=900_000_000_000).freshness()
    assert (replayed.snapshot.age_s, replayed.now_ms, replayed.behind_s) == (10, 900_000_010_000, None)
    assert answerer(watermark_ms=2**53 - 1).freshness().behind_s is None


def test_kinds_of_events_are_those_of_tokens() -> None:
    """Each kind of token has a word."""
    assert {event.kind for event in answerer().history("ada").events} == {kind.name.lower() for kind in Kind}


def test_where_no_item_is_live_nothing_is_answered_and_nothing_fails() -> None:
    """All are withdrawn, or all have left: a server warms up, and each query has its empty answer."""
    learner = Learner(SHAPE, TrainSettings(negatives=16, device="cpu", item_ttl_d=1.0, admit_after=2))
    for batch in batches(stream(items=20, count=16)):
        learner.step(batch)
    texts = [learner.items.texts[row] for row in learner.items.live()]
    history = tokens_of(*["x click"] * 5)
    history["key"] = [id_key(text) for text in texts[:5]]
    for live in (texts, []):
        for text in texts if not live else []:
            learner.items.withdraw(id_key(text), NOW_MS)
        _check_answers(learner, Memory(USERS | {"ada": history}), texts, live, "withdrawn")
    learner.step(lives.stream(count=1, prefix="new ", later_ms=lives.LATER_MS))
    assert len(learner.items)
    assert not learner.items.known
    _check_answers(learner, Memory(USERS | {"ada": history}), texts, [], "left the vocabulary")


def _check_answers(learner: Learner, memory: Memory, texts: list[str], live: list[str], why: str) -> None:
    ours = Answerer(snapshot_of(learner.snapshot_arrays(START_MS), SHAPE), memory)
    ours.warm_up()
    unscored = [text for text in texts if text not in live]
    for user in ("ada", "new", "nobody"):
        assert len(ours.topk(user, 99, NOW_MS, include_seen=True).items) == len(live)
        ranked = ours.rank(user, [*texts, "never"], NOW_MS).items
        assert [item.item_id for item in ranked if item.score is None] == [*unscored, "never"]
        assert {(item.known, item.left) for item in ranked[len(live) : -1]} <= {
            (why == "withdrawn", why != "withdrawn")
        }
        assert (ranked[-1].known, ranked[-1].left) == (False, False)
        explained = ours.explain(user, [*texts, "never"], NOW_MS)
        assert [item.item_id for item in explained.items] == live
        assert explained.unscored == dict.fromkeys(unscored, why) | {"never": "unknown"}
    assert len(ours.topk_sequence(texts[:3], 99, include_seen=True).items) == len(live)
    assert len(ours.topk("ada", 5, NOW_MS, filters=Filters(diversity=0.5)).items) == min(5, max(0, len(live) - 5))
    if why == "withdrawn":
        assert len(ours.similar(texts[0], 99).items) == max(0, len(live) - 1)
    else:
        with pytest.raises(UnknownError, match=r"it has left the vocabulary \(train.item_ttl_d or"):
            ours.similar(texts[0])
        assert [event.id for event in ours.history("ada", 1).events] == [
            f"key {id_key(texts[4]):016x}, left the vocabulary"
        ]
    with pytest.raises(UnknownError, match="no event has shown it yet"):
        ours.similar("never")
