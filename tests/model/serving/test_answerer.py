from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st

import model.serving.top_k
from model.config import ModelSettings, TrainSettings
from model.errors import ModelError
from model.learning.forward_pass import ForwardPass
from model.learning.learner import Learner
from model.network.retrieval_loss import unit
from model.serving.answerer import Answerer, NoSequences, event_time_ms, open_answerer
from model.serving.responses import MAX_ITEMS, MAX_K, QueryError
from model.serving.scorer import Scorer
from model.storage.snapshot import Manifest, Snapshot, load_snapshot
from model.trainer.merge import BEGINNING_MS
from stream.example import END_OF_TIME_MS, TOKEN_DTYPE, Example, Kind, decode, id_key
from tests.factories import make_examples
from tests.served import NOW_MS, SETTINGS, Memory, model_arrays, tokens_of, write_model

HISTORY = tokens_of("country=NO", "i1", "i2", "i1 click", "i3", "i3 like", "i4 click")
USERS = {"ada": HISTORY, "new": HISTORY[:0], "stranger": tokens_of("x1", "x2 click", "pet=cat")}


def snapshot_of(arrays: dict[str, Any], settings: ModelSettings = SETTINGS, **fields: Any) -> Snapshot:
    """Give a snapshot that was never on disk."""
    manifest = {"step": 1, "created": NOW_MS / 1000, "watermark_ms": NOW_MS - 60_000, "rank_targets": 9, **fields}
    tables = {"model": settings.model_dump(mode="json")}
    numpy = {name: array.numpy() if isinstance(array, torch.Tensor) else array for name, array in arrays.items()}
    return Snapshot(Path("of-tests"), Manifest(id="00000001-0", name="silu", settings=tables, **manifest), numpy)


def answerer(
    users: dict[str, Any] = USERS, withdrawn: Iterable[int] = (), settings: ModelSettings = SETTINGS, **fields: Any
) -> Answerer:
    """Give an answerer over items i0 to i19, ten seconds after its snapshot was made."""
    arrays = model_arrays(withdrawn=withdrawn, settings=settings)
    wall_s = NOW_MS / 1000 + 10
    return Answerer(snapshot_of(arrays, settings, **fields), Memory(users), alias="latest", wall=lambda: wall_s)


def by_hand(arrays: dict[str, Any], tokens: np.ndarray, settings: ModelSettings = SETTINGS) -> tuple[Any, Any, Any]:
    """Run the recommender as the learner does: plain tokens one after the other, the last of them the item shown.

    Gives scores of all items at the token before it, the probabilities at it, and all keys.
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
    query_D = recommender.queries(y_LD, torch.tensor([len(tokens) - 2]))[0]
    unit_RD = torch.nn.functional.normalize(torch.from_numpy(arrays["items.weight"]), dim=-1)
    probabilities = recommender.rank_logits(y_LD[-1:]).sigmoid()[0]
    return (unit_RD @ query_D / settings.temperature).numpy(), probabilities.numpy(), rows


def shown_now(history: np.ndarray, item: str) -> np.ndarray:
    """Give the history with one more impression, at NOW_MS."""
    return np.concatenate((history, np.array([(id_key(item), 0, NOW_MS, Kind.IMPRESSION)], TOKEN_DTYPE)))


variants = pytest.mark.parametrize(
    "settings",
    [SETTINGS, SETTINGS.model_copy(update={"attention": "softmax"}), SETTINGS.model_copy(update={"bias": "none"})],
)


@variants
def test_scores_are_those_that_the_learner_trains(settings: ModelSettings) -> None:
    """Top-k and ranking give what the model gives to the same tokens followed by an impression now."""
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
    """No candidate sees another: all at once give what each gives alone, however long the history."""
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
    """However the catalogue is cut, the best are the best; k beyond the catalogue gives all of it."""
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


def test_what_the_user_acted_on_is_left_out_unless_asked_for() -> None:
    """Items that were only shown may be recommended again."""
    seen = {item.item_id for item in answerer().topk("ada", 20, NOW_MS, include_seen=True).items}
    fresh = {item.item_id for item in answerer().topk("ada", 20, NOW_MS).items}
    assert seen - fresh == {"i1", "i3", "i4"}
    assert "i2" in fresh


def test_what_was_acted_on_before_all_that_the_model_reads_is_left_out_too() -> None:
    """Slates soon fill max_len tokens, but the store keeps more; the scores are those of the last tokens alone."""
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


@pytest.mark.parametrize(
    ("user", "reason"),
    [("nobody", "user unknown"), ("new", "user unknown"), ("stranger", "the snapshot knows none of the user's tokens")],
)
def test_an_unknown_user_gets_what_is_popular(user: str, reason: str) -> None:
    """The most counted live items, best first, and the answer says why."""
    answer = answerer(withdrawn=[18]).topk(user, 3)
    assert [(item.item_id, item.score) for item in answer.items] == [("i19", 19.0), ("i17", 17.0), ("i16", 16.0)]
    assert (answer.source, answer.reason, answer.tokens) == ("popularity", reason, 0)
    ranking = answerer().rank(user, ["i1", "x", "i7", "i2"])
    assert [(item.item_id, item.score) for item in ranking.items] == [
        ("i7", 7.0),
        ("i2", 2.0),
        ("i1", 1.0),
        ("x", None),
    ]
    assert (ranking.source, ranking.reason, ranking.ordered_by) == ("popularity", reason, "popularity")
    assert all(item.probabilities is None for item in ranking.items)


def test_tokens_unknown_to_the_snapshot_are_passed_over() -> None:
    """Newer items in a sequence change nothing until a snapshot knows them; an unknown action is no action."""
    mixed = tokens_of("country=NO", "i1", "x7", "i2 click", "pet=cat", "i3 wave", "x8 click")
    kept = mixed[[0, 1, 3, 5]].copy()
    kept[3]["action"] = 0
    ours = answerer({"mixed": mixed, "kept": kept})
    assert ours.topk("mixed", 20, NOW_MS).items == ours.topk("kept", 20, NOW_MS).items
    assert ours.topk("mixed", 5, NOW_MS).tokens == 4


def test_a_long_sequence_counts_by_its_last_tokens() -> None:
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
    assert given.user is None
    unknown = ours.topk_sequence(["x"], 2)
    assert (unknown.source, unknown.reason) == ("popularity", "the snapshot knows none of the sequence's items")


def test_ranking_says_by_what_it_is_ordered() -> None:
    """By the mean probability once the towers have learnt from targets; until then by the retrieval score alone."""
    items = [f"i{i}" for i in range(20)]
    trained, fresh = answerer().rank("ada", items), answerer(rank_targets=0).rank("ada", items)
    means = [np.mean(list((item.probabilities or {}).values())) for item in trained.items]
    assert trained.ordered_by == "mean_action_probability"
    assert means == sorted(means, reverse=True)
    assert set(trained.items[0].probabilities or {}) == {"click", "like"}
    scores = [item.score or 0 for item in fresh.items]
    assert fresh.ordered_by == "retrieval_score"
    assert all(item.probabilities is None for item in fresh.items)
    assert scores == sorted(scores, reverse=True)
    assert {item.item_id for item in fresh.items} == set(items)


def test_unknown_and_withdrawn_candidates_stand_at_the_end_without_scores() -> None:
    """They are named, not refused: first the withdrawn, then the unknown; an item named twice is ranked once."""
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
    ("watermark_ms", "expected_ms"),
    [
        (NOW_MS - 60_000, NOW_MS + 10_000),
        (NOW_MS - 86_400_001, NOW_MS - 86_400_001 + 10_000),
        (900_000_000_000, 900_000_010_000),
        (END_OF_TIME_MS - 30_000, 77),
        (BEGINNING_MS, 0),
    ],
    ids=["live", "just replayed", "replayed", "log ended", "nothing seen"],
)
def test_now_is_the_wall_clock_or_the_replayed_logs(watermark_ms: int, expected_ms: int) -> None:
    """A replayed log's time goes on from its snapshot, or stands where it ended; never before the user's last token."""
    manifest = snapshot_of({}, watermark_ms=watermark_ms).manifest
    assert event_time_ms(manifest, NOW_MS / 1000 + 10, learnt_ms=77) == expected_ms
    answer = answerer(watermark_ms=watermark_ms).topk("ada", 1)
    assert answer.now_ms == max(NOW_MS if expected_ms == 77 else expected_ms, int(HISTORY["ts_ms"].max()))
    assert answerer(watermark_ms=watermark_ms).topk("ada", 1, 5).now_ms == 5


def test_an_ended_log_is_asked_at_the_time_of_its_last_example() -> None:
    """Also where no user's token tells the time."""
    assert answerer(watermark_ms=END_OF_TIME_MS - 30_000).topk("nobody", 1).now_ms == NOW_MS


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda a: a.topk("", 1), "user is empty"),
        (lambda a: a.rank("", ["i1"]), "user is empty"),
        (lambda a: a.topk("ada", 0), "k is 0; give a number of items from 1 to 1,000"),
        (lambda a: a.topk("ada", MAX_K + 1), "k is 1001; give"),
        (lambda a: a.topk_sequence(["i1"], -1), "k is -1; give"),
        (lambda a: a.rank("ada", []), "items has 0 item ids; give 1 to 2,000"),
        (lambda a: a.rank("ada", ["i1"] * (MAX_ITEMS + 1)), "items has 2,001 item ids"),
        (lambda a: a.rank("ada", ["i1", ""]), "items holds an empty item id, in place 1"),
        (lambda a: a.topk_sequence([]), "sequence has 0 item ids"),
    ],
)
def test_questions_that_make_no_sense_are_sentences(ask: Any, sentence: str) -> None:
    """Each says what was given and what is allowed."""
    with pytest.raises(QueryError, match=sentence):
        ask(answerer())


def test_a_store_that_cannot_be_read_is_a_sentence() -> None:
    """Whatever the store raises, the answer is a ModelError that names the user."""

    class Broken:
        def tokens(self, user: str, last: int) -> None:
            raise OSError("disk on fire")

    with pytest.raises(ModelError, match="The sequence of user 'ada' cannot be read: disk on fire"):
        Answerer(snapshot_of(model_arrays()), Broken()).topk("ada")


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
    """A snapshot whole on disk but of another model says what is amiss."""
    arrays = {name: array for name, array in {**model_arrays(), **change}.items() if array is not None}
    with pytest.raises(ModelError, match=rf"The snapshot of-tests cannot answer: .*{sentence}.*another snapshot"):
        Answerer(snapshot_of(arrays), Memory())


def test_settings_of_a_newer_model_are_refused() -> None:
    """A setting that this version does not know means another model."""
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
    learner, examples = Learner(SETTINGS.model_copy(update={"max_len": 64}), TrainSettings(negatives=16)), []
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
            memory.users["ada"] = tokens[:at]
            item = learner.items.texts[learner.items.rows(batch.keys[at : at + 1])[0]]
            (ranked,) = ours.rank("ada", [item], int(batch.request_ms[target])).items
            assert list((ranked.probabilities or {}).values()) == pytest.approx(logits_A.sigmoid().tolist(), abs=1e-5)
            compared += 1
    assert compared > 20
