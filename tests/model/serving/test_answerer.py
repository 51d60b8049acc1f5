from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

import model.serving.top_k
from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.fusion import click_loops
from model.learning.forward_pass import ForwardPass
from model.learning.learner import Learner
from model.network.retrieval_loss import unit
from model.serving.answerer import Answerer, open_answerer
from model.serving.responses import MAX_K, Ranking
from model.serving.scorer import Scorer
from model.serving.sequences import NoSequences
from model.storage.snapshot import load_snapshot
from model.user_states.cache import UserStates
from stream.example import TOKEN_DTYPE, Example, Kind, decode, id_key
from tests.factories import make_examples
from tests.served import (
    HISTORY,
    NOW_MS,
    SETTINGS,
    USERS,
    Memory,
    answerer,
    model_arrays,
    snapshot_of,
    tokens_of,
    write_model,
)


def by_hand(arrays: dict[str, Any], tokens: np.ndarray, settings: ModelSettings = SETTINGS) -> tuple[Any, Any, Any]:
    """Run the recommender as the learner does: plain tokens one after the other, the last of them the item shown.

    Returns the scores of all items at the token before it, the probabilities at it, and all keys.
    """
    recommender = Scorer(snapshot_of(arrays, settings))._recommender
    rows = {int(key): row for row, key in enumerate(arrays["items.keys"])}
    features = {int(key): row for row, key in enumerate(arrays["features.keys"])}
    content = [
        arrays["features.weight"][features[int(t["key"])]]
        if t["kind"] == Kind.ATTRIBUTE
        else arrays["items.weight"][rows[int(t["key"])]]
        for t in tokens
    ]
    zeros = np.zeros(settings.dim, np.float32)
    action = [arrays["features.weight"][features[int(t["action"])]] if t["action"] else zeros for t in tokens]
    columns = [torch.from_numpy(np.stack(column)) for column in (content, action)]
    kinds, ts_ms = (torch.from_numpy(tokens[name].astype(np.int64)) for name in ("kind", "ts_ms"))
    y_LD = recommender.encode(*columns, kinds, ts_ms, torch.tensor([0, len(tokens)]))
    where = torch.tensor([len(tokens) - 2]), columns[0], kinds, torch.tensor([0, len(tokens)])
    query_D = recommender.queries(y_LD, *where)[0]
    unit_RD = torch.nn.functional.normalize(torch.from_numpy(arrays["items.weight"]), dim=-1)
    probabilities = recommender.rank_logits(y_LD[-1:], query_D[None], columns[0][-1:]).sigmoid()[0]
    return (unit_RD @ query_D / settings.temperature).numpy(), probabilities.numpy(), rows


def shown_now(history: np.ndarray, item: str) -> np.ndarray:
    """Return the history with one more impression, at NOW_MS."""
    return np.concatenate((history, np.array([(id_key(item), 0, NOW_MS, Kind.IMPRESSION)], TOKEN_DTYPE)))


variants = pytest.mark.parametrize(
    "settings",
    [
        SETTINGS.model_copy(update=changes)
        for changes in ({}, {"attention": "softmax"}, {"bias": "none"}, {"recency_decays": ()})
    ],
)


@variants
def test_scores_are_those_that_the_learner_trains(settings: ModelSettings) -> None:
    """Top-k and ranking have the scores that the model has for the same tokens followed by an impression now."""
    arrays = model_arrays(settings=settings)
    scores_R, probabilities, _ = by_hand(arrays, shown_now(HISTORY, "i9"), settings)
    ours = answerer(settings=settings)
    top = ours.topk("ada", 20, NOW_MS, include_seen=True)
    assert [item.item_id for item in top.items] == [f"i{row}" for row in np.argsort(-scores_R)]
    np.testing.assert_allclose([item.score for item in top.items], np.sort(scores_R)[::-1], rtol=1e-5, atol=1e-5)
    (ranked,) = ours.rank("ada", ["i9"], NOW_MS).items
    np.testing.assert_allclose(list((ranked.probabilities or {}).values()), probabilities, rtol=1e-5)
    assert ranked.score == pytest.approx(scores_R[9], rel=1e-5)


@variants
@pytest.mark.parametrize("length", [0, 1, 31, 32, 50])
def test_ranking_in_one_pass_equals_one_by_one(settings: ModelSettings, length: int) -> None:
    """No candidate sees another: each has the same scores among others as alone, however long the history."""
    history = tokens_of(*[f"i{i % 20}" if i % 3 else f"i{i % 20} click" for i in range(length)])
    ours = answerer({"ada": history, "bob": tokens_of("country=NO")}, settings=settings)
    user = "ada" if length else "bob"
    items = [f"i{i}" for i in range(20)]
    together = {item.item_id: item for item in ours.rank(user, items, NOW_MS).items}
    for item in items:
        (alone,) = ours.rank(user, [item], NOW_MS).items
        assert alone.score == pytest.approx(together[item].score, abs=1e-5)
        assert alone.probabilities == pytest.approx(together[item].probabilities, abs=1e-5)


@pytest.mark.parametrize("block", [1, 3, 7, 64])
def test_top_k_is_the_same_in_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of a block, the best are the same; a k beyond the catalogue returns all of it."""
    whole = answerer(withdrawn=[5]).topk("ada", MAX_K, NOW_MS)
    monkeypatch.setattr(model.serving.top_k, "ROWS", block)
    for k in (1, 4, 30):
        found = answerer(withdrawn=[5]).topk("ada", k, NOW_MS).items
        assert [item.item_id for item in found] == [item.item_id for item in whole.items[:k]]
        assert [item.score for item in found] == pytest.approx([item.score for item in whole.items[:k]], rel=1e-5)
    assert len(whole.items) == 20 - 1 - 3


item_sets = st.sets(st.integers(0, 19), max_size=20)
words = st.sampled_from(["country=NO", "x9", *[f"i{i}" for i in range(20)], *[f"i{i} click" for i in range(20)]])


@hypothesis_settings(max_examples=60, deadline=None)
@given(withdrawn=item_sets, texts=st.lists(words, max_size=40), k=st.integers(1, 25), include_seen=st.booleans())
def test_withdrawn_items_are_never_returned(withdrawn: set[int], texts: list[str], k: int, include_seen: bool) -> None:
    """For any user, sequence and k: as many live, distinct items as there are, in order of their scores."""
    history = tokens_of(*texts)
    ours = answerer({"ada": history}, withdrawn)
    acted = {text.split()[0] for text in texts if " " in text}
    live = {f"i{i}" for i in range(20) if i not in withdrawn}
    answers = [(ours.topk("ada", k, NOW_MS, include_seen=include_seen), live - (set() if include_seen else acted))]
    answers.append((ours.topk("nobody", k, NOW_MS), live))
    if acted:
        answers.append(
            (ours.topk_sequence(sorted(acted), k, include_seen=include_seen), live - (set() if include_seen else acted))
        )
    for answer, allowed in answers:
        found = [item.item_id for item in answer.items]
        assert set(found) <= allowed
        assert len(found) == len(set(found)) == min(k, len(allowed))
        assert [item.score for item in answer.items] == sorted([item.score for item in answer.items], reverse=True)


def test_what_the_user_acted_on_is_left_out_by_default() -> None:
    """Items that were only shown may be recommended again."""
    seen = {item.item_id for item in answerer().topk("ada", 20, NOW_MS, include_seen=True).items}
    fresh = {item.item_id for item in answerer().topk("ada", 20, NOW_MS).items}
    assert seen - fresh == {"i1", "i3", "i4"}
    assert "i2" in fresh


def test_what_was_acted_on_before_the_tokens_that_the_model_reads_is_left_out_too() -> None:
    """The store keeps more than max_len tokens; only the scores come from the last max_len alone."""
    ours = answerer({"ada": tokens_of("i5 click", *[f"i{k % 4}" for k in range(40)])})
    everything = ours.topk("ada", 20, NOW_MS, include_seen=True)
    fresh = ours.topk("ada", 20, NOW_MS)
    assert fresh.items == [item for item in everything.items if item.item_id != "i5"]


def test_answers_say_where_they_come_from() -> None:
    """Snapshot, name, alias, age by the wall clock, event time; texts and titles of the items."""
    for answer in (answerer().topk("ada", 2), answerer().rank("ada", ["i2"]), answerer().topk_sequence(["i2"], 1)):
        assert answer.snapshot.model_dump() == {
            "id": "00000001-0",
            "name": "silu",
            "alias": "latest",
            "age_s": 10.0,
            "watermark_ms": NOW_MS - 60_000,
            "step": 1,
        }
        assert answer.source == "model"
        assert answer.reason is None
        assert all(item.title == f"Item {item.item_id[1:]}" for item in answer.items)


def test_tokens_unknown_to_the_snapshot_are_ignored() -> None:
    """Newer items in a sequence change nothing until a snapshot has them; an unknown action counts as none."""
    mixed = tokens_of("country=NO", "i1", "x7", "i2 click", "pet=cat", "i3 wave", "x8 click")
    kept = mixed[[0, 1, 3, 5]].copy()
    kept[3]["action"] = 0
    ours = answerer({"mixed": mixed, "kept": kept})
    assert ours.topk("mixed", 20, NOW_MS).items == ours.topk("kept", 20, NOW_MS).items
    assert ours.topk("mixed", 5, NOW_MS).tokens == 4


def test_of_a_long_sequence_only_the_last_tokens_count() -> None:
    """The store is asked for max_len tokens, and any more would change nothing."""
    long = tokens_of(*[f"i{i % 20} click" for i in range(90)])
    memory = Memory({"long": long, "end": long[-32:]})
    ours = Answerer(snapshot_of(model_arrays()), memory)
    assert ours.topk("long", 9, NOW_MS, include_seen=True).items == ours.topk("end", 9, NOW_MS, include_seen=True).items
    assert ours.topk("long", 9, NOW_MS, include_seen=True).tokens == 32
    assert ours.rank("long", ["i1"], NOW_MS).tokens == 31
    assert {last for _, last in memory.asked} == {32}


def test_a_given_sequence_is_one_of_actions_a_second_apart() -> None:
    """topk_sequence equals topk of a user who clicked these items, the last a second ago."""
    tokens = tokens_of("i3 click", "i5 click")
    tokens["ts_ms"] = [NOW_MS - 3000, NOW_MS - 1000]  # the unknown x stood between
    ours = answerer({"ada": tokens})
    by_user, given = ours.topk("ada", 9, NOW_MS), ours.topk_sequence(["i3", "x", "i5"], 9, NOW_MS)
    assert given.items == by_user.items
    assert (given.user, given.unknown, by_user.unknown) == (None, ["x"], [])
    unknown = ours.topk_sequence(["x"], 2)
    assert (unknown.source, unknown.reason) == ("popularity", "the snapshot knows none of the sequence's items")


def test_ranking_says_by_what_it_is_ordered() -> None:
    """By the mean probability once the towers were trained on targets; until then by the retrieval score."""
    items = [f"i{i}" for i in range(20)]
    trained, fresh = answerer().rank("ada", items), answerer(rank_targets=0).rank("ada", items)
    means = [np.mean(list((item.probabilities or {}).values())) for item in trained.items]
    assert trained.ordered_by == "mean_action_probability"
    assert means == sorted(means, reverse=True)
    assert set(trained.items[0].probabilities or {}) == {"click", "like"}
    scores = [item.score or 0 for item in fresh.items]
    assert fresh.ordered_by == "retrieval_score"
    assert (trained.reason, fresh.source) == (None, "model")
    assert "no shown item has been trained on yet, so there are no probabilities" in (fresh.reason or "")
    assert all(item.probabilities is None for item in fresh.items)
    assert scores == sorted(scores, reverse=True)
    assert {item.item_id for item in fresh.items} == set(items)


def test_towers_without_a_positive_order_nothing() -> None:
    """A log of other actions than rank_actions trains them on zeros alone; one positive of any action is enough."""

    def ranked(likes: int) -> Ranking:
        figures = {action: {"all": {"positives": count}} for action, count in (("click", 0), ("like", likes))}
        return answerer(metrics={"ranking": {"hstu": {"total": figures}}}).rank("ada", ["i1", "i2", "i3"])

    assert ranked(1).ordered_by == "mean_action_probability"
    none = ranked(0)
    scores = [item.score or 0 for item in none.items]
    assert (none.ordered_by, scores) == ("retrieval_score", sorted(scores, reverse=True))
    assert all(item.probabilities is None for item in none.items)
    assert "no action of model.rank_actions has had a positive" in (none.reason or "")


def test_unknown_and_withdrawn_candidates_come_last_without_scores() -> None:
    """They are listed, not refused: first the withdrawn, then the unknown; an item named twice is ranked once."""
    ranking = answerer(withdrawn=[6]).rank("ada", ["x", "i2", "i6", "i2", "y", "i1"])
    assert {item.item_id for item in ranking.items[:2]} == {"i1", "i2"}
    assert [item.item_id for item in ranking.items[2:]] == ["i6", "x", "y"]
    rest = [(item.known, item.withdrawn, item.score, item.probabilities) for item in ranking.items[2:]]
    assert rest == [(True, True, None, None), *[(False, False, None, None)] * 2]
    nothing = answerer().rank("ada", ["x"])
    assert [item.known for item in nothing.items] == [False]


def test_the_time_of_the_request_matters() -> None:
    """An hour later the same user gets other scores."""
    now, later = (answerer().topk("ada", 20, NOW_MS + h * 3_600_000, include_seen=True) for h in (0, 1))
    assert [item.score for item in now.items] != [item.score for item in later.items]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"items.keys": None}, "'keys' is missing"),
        ({"items.weight": None}, "'items.weight' is missing"),
        ({"items.weight": np.zeros((20, 8), np.float32)}, r"shape \(20, 8\) where \(20, 16\) is wanted"),
        ({"recommender.pos_emb": None}, r"Missing key\(s\) in state_dict: \"pos_emb\""),
        ({"recommender.surplus": np.zeros(1, np.float32)}, "Unexpected key"),
    ],
)
def test_arrays_that_are_no_model_are_refused(change: dict[str, Any], sentence: str) -> None:
    """For a snapshot that is whole but of another model, the sentence says what is wrong."""
    arrays = {name: array for name, array in {**model_arrays(), **change}.items() if array is not None}
    with pytest.raises(ModelError, match=rf"The snapshot of-tests cannot answer: .*{sentence}.*another snapshot"):
        Answerer(snapshot_of(arrays), Memory())


def test_settings_of_a_newer_model_are_refused() -> None:
    """A setting that this version does not have means another model."""
    snapshot = snapshot_of(model_arrays())
    snapshot.manifest.settings["model"]["depth"] = 3
    with pytest.raises(ModelError, match=r"cannot answer: .*depth.*Extra inputs"):
        Answerer(snapshot, Memory())


def test_an_empty_model_answers_nothing() -> None:
    """The first snapshot may hold no item at all."""
    ours = Answerer(snapshot_of(model_arrays(items=0)), Memory(USERS))
    assert ours.topk("ada").items == []
    assert ours.topk("nobody").items == []
    assert [item.known for item in ours.rank("ada", ["i1"]).items] == [False]


def test_from_the_disk_by_alias_or_id(tmp_path: Path) -> None:
    """Opened by its alias an answer names the alias, opened by its id it names none."""
    path = write_model(tmp_path, 7)
    assert open_answerer(tmp_path, "latest", NoSequences()).topk("ada").snapshot.alias == "latest"
    by_id = open_answerer(tmp_path, path.name, NoSequences())
    assert by_id.topk("ada").snapshot.alias is None
    assert by_id.topk_sequence(["i1"]).items == Answerer(load_snapshot(path), Memory()).topk_sequence(["i1"]).items


def test_answers_of_a_trained_model_are_what_its_learner_would_say() -> None:
    """At every request of a stream: tokens up to it, asked at its time, give the learner's own scores and logits."""
    train, examples = TrainSettings(negatives=16, fuse_counts=False), []  # what is fused: test_scorer_fused.py
    learner = Learner(SETTINGS.model_copy(update={"max_len": 64}), train)
    for record in make_examples(seed=5, items=12, partitions=1)[0]:
        message = decode(record.value or b"")
        examples += [message] if isinstance(message, Example) else []
    for start in range(0, len(examples), 8):
        learner.step(examples[start : start + 8])
    ours = Answerer(snapshot_of(learner.snapshot_arrays(examples[-1].final_ms), learner.model), memory := Memory())
    items_RD, compared = unit(learner.weights.items.rows), 0
    for example in examples[-12:]:
        read = learner._take_in([example]).batch
        batch, targets = read.tokens, read.targets
        forward = ForwardPass(learner.weights, read)
        tokens = np.zeros(len(batch.keys), TOKEN_DTYPE)
        tokens["key"], tokens["action"], tokens["ts_ms"], tokens["kind"] = (
            batch.keys,
            batch.actions,
            batch.ts_ms,
            batch.kinds,
        )
        for query_D, target in zip(forward.queries_PD, targets.positive, strict=True):
            memory.users["ada"] = tokens[: batch.queries[target] + 1]
            answer = ours.topk("ada", 99, int(batch.request_ms[target]), include_seen=True)
            if answer.source == "model":
                best = (items_RD @ query_D / SETTINGS.temperature).sort(descending=True).values.tolist()
                assert [item.score for item in answer.items] == pytest.approx(best, abs=1e-4)
                compared += 1
        for logits_A, target in zip(forward.logits_NA, targets.shown, strict=True):
            at = batch.positions[target]
            if at != batch.queries[target] + 1:  # shown below another item, which a query does not know
                continue
            memory.users["ada"] = tokens[:at]
            item = learner.items.texts[learner.items.rows(batch.keys[at : at + 1])[0]]
            (ranked,) = ours.rank("ada", [item], int(batch.request_ms[target])).items
            assert list((ranked.probabilities or {}).values()) == pytest.approx(logits_A.sigmoid().tolist(), abs=1e-5)
            compared += 1
    assert compared > 20


def test_the_first_answers_compile_nothing() -> None:
    """What a server does before a snapshot answers compiles the loops for any number of candidates, users known."""
    ours = Answerer(snapshot_of(model_arrays()), Memory(USERS), states=UserStates(1 << 20))
    ours.warm_up()
    before = len(click_loops.run.signatures)
    for items in (["i1"], ["i1", "i2"], ["i1", "i2", "i3", "i4"]):
        ours.rank("ada", items)
    assert len(click_loops.run.signatures) == before
