"""Items that die, and rows that live again, in a learner."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.config import ModelSettings, TrainSettings
from model.counting.pair_counts import PairCounts
from model.data.catalogue import ItemRecord, Tombstone
from model.errors import ModelError
from model.learning.forward_pass import ForwardPass
from model.learning.learner import Learner
from model.serving.answerer import Answerer
from model.serving.scorer import Scorer
from model.serving.sequences import NoSequences
from model.storage.patch import difference, patched, state_digest
from model.storage.snapshot import Manifest, Snapshot, as_numpy, load_snapshot, write_snapshot
from stream.example import NO_KEY, TOKEN_DTYPE, Example, Kind, decode, id_key
from tests.factories import GAP_MS, START_MS, make_examples

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, window_targets=1000)
LATER_MS = 10 * 86_400_000
TTL = {"item_ttl_d": 1.0}
SMALL = {"item_ttl_d": 10 * GAP_MS / 86_400_000, "max_items": 32, "evict": "both"}


def stream(seed: int = 0, items: int = 40, count: int = 48, prefix: str = "", later_ms: int = 0) -> list[Example]:
    """Return the factory's examples, of other items under another prefix."""
    [log] = make_examples(seed, items=items, count=count, partitions=1)
    found = [message for record in log if isinstance(message := decode(record.value or b""), Example)]
    keys = {id_key(f"item {i}"): id_key(f"{prefix}item {i}") for i in range(items)}
    return [
        replace(
            example,
            user=example.user + len(prefix),
            keys=np.array([keys.get(key, key) for key in example.keys.tolist()], np.uint64),
            ts_ms=example.ts_ms + later_ms,
            request_ms=example.request_ms + later_ms,
            final_ms=example.final_ms + later_ms,
            text_keys=np.array([keys.get(key, key) for key in example.text_keys.tolist()], np.uint64),
            texts=tuple(prefix + text if text.startswith("item") else text for text in example.texts),
        )
        for example in found
    ]


def trained(examples: list[Example], model: ModelSettings = MODEL, **train: Any) -> Learner:
    learner = Learner(model, TRAIN.model_copy(update=train))
    step(learner, examples)
    return learner


def step(learner: Learner, examples: list[Example], size: int = 8) -> list[NDArray[np.float64]]:
    reports = [learner.step(examples[i : i + size]) for i in range(0, len(examples), size)]
    return [report.outcome.ranks["hstu"] for report in reports if report.outcome]


def written(learner: Learner, folder: Path) -> Snapshot:
    """Return a snapshot of a learner, which was written and read."""
    settings = {"model": MODEL.model_dump(mode="json"), "train": learner.train.model_dump(mode="json")}
    manifest = Manifest(name="t", step=1, created=0.0, watermark_ms=0, settings=settings)
    return load_snapshot(write_snapshot(folder, arrays=learner.snapshot_arrays(0), manifest=manifest))


def of_row(learner: Learner, row: int) -> dict[str, Any]:
    """Return all that the learner knows of an item by its row, but for the time it was born."""
    found: dict[str, Any] = {"text": learner.items.texts[row], "live": bool(learner.items.live_mask()[row])}
    size = len(learner.items)
    counters = learner._fusion._linear.counters  # type: ignore[union-attr]
    counters.grow(size)
    clicks = learner._clicks._clicks
    assert clicks is not None
    clicks.grow(size)
    places = "weights.item_table.", "items.", "popularity.", "fusion.counts.", "clicks.counts.", "lives."
    for name, array in learner.state().items():
        if name.startswith(places) and array.ndim and len(array) == size and "dead" not in name:
            found[name] = array[row].tolist()
    for name, pairs in (*vars(counters).items(), *vars(clicks).items()):
        if not isinstance(pairs, PairCounts):
            continue
        owners, columns, _ = pairs.entries(np.arange(size))
        found[name] = (owners == row).sum() + (columns == row).sum()
    found["root"], found["unit"] = counters._together_roots[row], learner.weights.unit_items(size)[row].tolist()
    return found


def test_bounds_that_nothing_reaches_move_no_bit() -> None:
    """A time-to-live of ten years and room for a million items: all arrays are those of a learner without bounds."""
    bounded, free = trained(stream(), item_ttl_d=3650.0, max_items=10**6), trained(stream())
    state = bounded.state()
    assert all(np.array_equal(array, state[name]) for name, array in free.state().items())
    assert bounded.digest() != free.digest()  # it goes on otherwise


def test_a_row_that_lives_again_cannot_be_told_from_a_fresh_one() -> None:
    """All that is known by row is as for a learner that never knew the dead: at its birth."""
    used = trained(stream(), **TTL)
    assert np.count_nonzero(used.weights.items.state()["steps"]) > 20
    new = stream(seed=5, prefix="new ", later_ms=LATER_MS)
    used._take_in(new[:8])
    born = used.items.rows(np.unique(np.concatenate([example.keys for example in new[:8]])))
    blank = Learner(MODEL, TRAIN.model_copy(update=TTL))
    blank._take_in(new[:8])
    assert len(born[born >= 0]) == blank.items.known == used.items.known > 8
    assert used.index.lives is not None
    assert used.index.lives.counts["expired"] >= used.items.known
    for row in born[born >= 0].tolist():
        blank_row = int(blank.items.rows(used.items.keys[row : row + 1])[0])
        assert row == blank_row
        assert of_row(used, row) == of_row(blank, blank_row)


def test_it_goes_on_as_if_the_dead_had_never_had_the_row() -> None:
    """With rows of its own, drawn alike, each new item gets the same ranks and weights as with those of the dead."""
    reusing = trained(stream(), **TTL)
    new = stream(seed=5, prefix="new ", later_ms=LATER_MS)
    apart = copy.deepcopy(reusing)
    size = len(apart.items)
    bury = apart.items.bury

    def leave_free(rows: NDArray[np.int64]) -> None:
        bury(rows)
        apart.items._free = np.empty(0, np.int64)

    apart.index.items.bury = leave_free  # type: ignore[method-assign]
    grow = apart.weights.grow

    def grow_alike(keys: NDArray[np.uint64], features: int) -> None:
        before = len(apart.weights.items)
        grow(keys, features)
        first = apart.weights.items._draw(0)
        for row in range(before, len(keys)):
            apart.weights.items.weight[row] = reusing.weights.items.weight.new_tensor(first[row - size])

    apart.weights.grow = grow_alike  # type: ignore[method-assign]
    assert [ranks.tolist() for ranks in step(reusing, new)] == [ranks.tolist() for ranks in step(apart, new)]
    known = reusing.items.keys[reusing.items.live()]
    weights = [
        learner.weights.item_weights()[learner.items.rows(known)].detach().numpy() for learner in (reusing, apart)
    ]
    np.testing.assert_allclose(*weights, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("unknown_items", ["stand_in", "dropped", "frozen"])
def test_the_dead_are_no_answers_no_negatives_and_no_candidates(unknown_items: str) -> None:
    """A target that died is a miss; nothing dead is drawn or recommended; histories that hold it are trained on."""
    learner = trained(stream(count=40), **TTL, unknown_items=unknown_items)
    dead = learner.items.keys.copy()
    step(learner, stream(seed=5, count=24, prefix="new ", later_ms=LATER_MS))
    assert (learner.items.rows(dead) == -1).all()
    live = learner.items.live()
    assert not np.isin(learner.items.keys[live], dead).any()
    drawn = learner._negatives(START_MS + LATER_MS, np.random.default_rng(0))
    assert drawn is not None
    assert np.isin(drawn.rows, live).all()
    back = [replace(example, request_ms=example.request_ms + LATER_MS) for example in stream(count=41)[40:]]
    questions = learner.index.ask(back)
    assert not questions.possible.any()
    assert set(np.flatnonzero(questions.candidates().any(0))) <= {*live.tolist()}
    assert np.isin(learner.recommend(back, 5), [-1, *live]).all()


def test_one_that_comes_back_begins_anew_and_says_so() -> None:
    """Its birth is its first token after its death, though its user's history holds older ones."""
    learner = trained(stream(count=40), **TTL)
    assert learner.index.lives is not None
    step(learner, stream(seed=5, count=8, prefix="new ", later_ms=LATER_MS))
    [back] = stream(count=41)[40:]
    moved = back.ts_ms.copy()
    moved[back.positions] += 2 * LATER_MS
    back = replace(back, ts_ms=moved, request_ms=back.request_ms + 2 * LATER_MS, final_ms=back.final_ms + 2 * LATER_MS)
    learner.step([back])
    rows = learner.items.rows(back.keys[back.positions])
    assert (learner.items.born_ms[rows] >= START_MS + 2 * LATER_MS).all()
    assert learner.index.lives.counts["readmitted"] == len(np.unique(rows))
    assert learner.items.known == len(np.unique(rows))


def test_an_id_is_admitted_after_its_occurrences() -> None:
    """Until then a row stands in for it, and its targets are misses that teach the encoder's history alone."""
    learner = trained(stream(), admit_after=3)
    every = trained(stream())
    counts: dict[int, int] = {}
    for example in stream():
        for key in example.keys[example.positions].tolist():
            counts[key] = counts.get(key, 0) + 1
    assert {*learner.items.keys.tolist()} == {key for key, count in counts.items() if count >= 3}
    assert 0 < learner.items.known < every.items.known
    [stand_in] = learner.features.rows(learner.index._stand_ins.keys)
    assert learner.weights.features.state()["steps"][stand_in] > 3


def test_the_vocabulary_stays_below_its_cap() -> None:
    """However many items come, and the best of its metrics goes on."""
    learner = Learner(MODEL, TRAIN.model_copy(update={"max_items": 32}))
    for example in stream(items=90, count=120):
        learner.step([example])
        assert learner.items.known <= 32
    assert len(learner.items) <= 32
    assert learner.index.lives is not None
    assert learner.index.lives.counts["evicted"] > 20


@pytest.mark.parametrize(
    "bounds",
    [
        TTL,
        SMALL,
        SMALL | {"evict": "recent", "unknown_items": "stand_in"},
        SMALL | {"admit_after": 2, "unknown_items": "dropped"},
    ],
)
def test_it_goes_on_from_its_state(bounds: dict[str, Any]) -> None:
    """A learner that took another's state in mid-stream ends with the same digest."""
    examples = stream(items=90, count=96)
    whole, half = trained(examples, **bounds), trained(examples[:48], **bounds)
    other = Learner(MODEL, TRAIN.model_copy(update=bounds))
    other.load_state({name: np.array(array) for name, array in half.state().items()})
    assert other.digest() == half.digest()
    step(other, examples[48:])
    assert other.digest() == whole.digest()
    lives = whole.index.lives
    assert lives is not None
    assert bounds is TTL or lives.counts["expired"] + lives.counts["evicted"] > 10


def test_a_withdrawn_item_leaves_first_and_is_withdrawn_when_it_comes_back() -> None:
    """A tombstone outlives the row."""
    learner = trained(stream(items=90, count=24), max_items=32, evict="frequent")
    [key] = learner.items.keys[[int(learner.items.rows(stream(items=90, count=24)[-1].keys[-1:])[0])]].tolist()
    learner.learn_items([Tombstone(key, "it", START_MS)])
    step(learner, stream(items=90, count=60)[24:])
    assert (
        learner.items.rows(np.array([key], np.uint64))[0] == -1
        or not learner.items.live_mask()[learner.items.rows(np.array([key], np.uint64))[0]]
    )
    assert NO_KEY not in learner.items.keys[learner.items.live()]


def test_rows_that_are_shared_cannot_be_reset() -> None:
    """Both settings are named, and nothing has begun."""
    with pytest.raises(ModelError, match=r"model.item_rows makes items share rows.*train.item_ttl_d"):
        Learner(MODEL.model_copy(update={"item_rows": 5}), TRAIN.model_copy(update=TTL))


@pytest.mark.parametrize("unknown_items", ["stand_in", "dropped"])
def test_a_snapshot_answers_as_the_learner_does(unknown_items: str, tmp_path: Path) -> None:
    """It lists the dead; none is an answer; a history of them has what stood in for them in training, or nothing."""
    learner = Learner(MODEL, TRAIN.model_copy(update={**TTL, "unknown_items": unknown_items}))
    described = [f"item {i}" for i in range(0, 40, 2)]
    learner.learn_items([ItemRecord(id_key(name), name, None, {"genre": "a"}, START_MS) for name in described])
    step(learner, stream(count=40))
    dead = learner.items.keys.copy()
    step(learner, stream(seed=5, count=24, prefix="new ", later_ms=LATER_MS))
    snapshot = written(learner, tmp_path)
    bounds = {name for name in snapshot.arrays if name.startswith(("lives.", "waiting."))}
    assert bounds == {"lives.dead_keys", "lives.dead_ms"}  # not what decides who lives, a sketch of 16 MiB among it
    assert {*snapshot.arrays["lives.dead_keys"].tolist()} == {*dead.tolist()}
    assert (snapshot.arrays["lives.dead_ms"] >= START_MS + LATER_MS).all()
    scorer = Scorer(snapshot)
    assert scorer.live_V.tolist() == learner.items.live().tolist()
    tokens = np.zeros(len(dead), TOKEN_DTYPE)
    tokens["key"], tokens["kind"] = dead, Kind.ACTION
    history = scorer.history(tokens)
    keys, _ = learner.index.item_features.values({"genre": "a"})
    [shared, genre] = learner.features.rows(np.concatenate((learner.index._stand_ins.keys, keys))).tolist()
    of_genre = np.isin(dead, [id_key(name) for name in described])
    stand_ins = [] if unknown_items == "dropped" else np.where(of_genre, genre, shared).tolist()
    assert history.features_n.tolist() == stand_ins
    assert scorer.read_as(["item 0", "never"]) == dict.fromkeys(["item 0", "never"] * bool(stand_ins), "stand_in")
    assert 3 < of_genre.sum() < len(dead) - 3
    past = learner.index.known(stream(count=40))
    unknown = (past.rows.items < 0) & (past.tokens.kinds != Kind.ATTRIBUTE)
    trained_on = np.where(np.isin(past.tokens.keys[unknown], dead[of_genre]), genre, shared)
    assert past.rows.attributes[unknown].tolist() == trained_on.tolist()
    rows, _ = scorer.topk(history, START_MS + LATER_MS, 1000, np.empty(0, np.int64))
    assert sorted(rows.tolist()) == learner.items.live().tolist()


def test_frozen_vectors_are_those_of_the_moment_of_death(tmp_path: Path) -> None:
    """Own row and features, moved by no step; answers have them as training has, and a delta has the new ones alone."""
    learner = Learner(MODEL, TRAIN.model_copy(update={**TTL, "unknown_items": "frozen"}))
    described = [f"item {i}" for i in range(0, 40, 2)]
    learner.learn_items([ItemRecord(id_key(name), name, None, {"genre": "a"}, START_MS) for name in described])
    step(learner, stream(count=40))
    keys = learner.items.keys.copy()
    vectors = dict(zip(keys.tolist(), learner.weights.vectors(np.arange(len(keys))), strict=True))
    new = stream(seed=5, count=24, prefix="new ", later_ms=LATER_MS)
    step(learner, new)
    past = learner.index.known(stream(count=40))
    at = np.flatnonzero(past.tokens.kinds != Kind.ATTRIBUTE)
    forward = ForwardPass(learner.weights, past)
    content_nD = forward._matrix.detach().numpy()[forward._content_at_L[at]]
    assert np.array_equal(content_nD, [vectors[key] for key in past.tokens.keys[at].tolist()])
    snapshot = written(learner, tmp_path)
    scorer, tokens = Scorer(snapshot), np.zeros(len(keys), TOKEN_DTYPE)
    tokens["key"], tokens["kind"] = keys, Kind.ACTION
    history = scorer.history(tokens)
    content_nD = scorer._encoder.content(history.items_n, history.features_n).numpy()
    assert np.array_equal(content_nD, [*vectors.values()])
    given = Answerer(snapshot, NoSequences()).topk_sequence(["item 0", "never"], 3)
    assert given.unknown == ["item 0", "never"]
    assert given.read_as == {"item 0": "frozen", "never": "stand_in"}
    assert given.source == "model"
    known = [learner.items.texts[int(learner.items.live()[0])]] * scorer.settings.max_len
    long = Answerer(snapshot, NoSequences()).topk_sequence(["item 0", *known[2:], "never"], 3)
    assert (long.unknown, list(long.read_as)) == (["item 0", "never"], ["item 0", "never"])
    long = Answerer(snapshot, NoSequences()).topk_sequence(["item 0", *known, "never"], 3)
    assert (long.unknown, list(long.read_as)) == (["item 0", "never"], ["never"])
    died = learner.items.known
    step(learner, [replace(example, request_ms=example.request_ms + LATER_MS) for example in new[:1]])
    after = as_numpy(learner.snapshot_arrays(0))
    patch, parts = difference(snapshot.arrays, after)
    assert len(parts["frozen.vectors/rows"]) == died > 8
    assert state_digest(patched(snapshot.arrays, patch, parts)) == state_digest(after)


def test_one_that_comes_back_is_frozen_no_more() -> None:
    """It has its fresh row in histories, and nothing is left of its vector; the others keep theirs."""
    learner = trained(stream(count=40), **TTL, unknown_items="frozen")
    step(learner, stream(seed=5, count=8, prefix="new ", later_ms=LATER_MS))
    dead = learner.index.known(stream(count=40))
    step(learner, stream(count=48, later_ms=LATER_MS)[44:])
    alive = learner.index.known(stream(count=40))
    back_L = (dead.rows.frozen >= 0) & (alive.rows.items >= 0)
    assert 0 < back_L.sum() < (dead.rows.frozen >= 0).sum()
    assert (alive.rows.frozen[back_L] == -1).all()
    kept = learner.state()["frozen.keys"]
    assert not np.isin(learner.items.keys[learner.items.live()], kept).any()
    assert dead.frozen is not None
    assert alive.frozen is not None
    same_L = alive.rows.frozen >= 0
    assert np.array_equal(alive.frozen[alive.rows.frozen[same_L]], dead.frozen[dead.rows.frozen[same_L]])


def test_the_vocabulary_of_frozen_weights_grows_on() -> None:
    """Who is admitted, dies and is evicted is as if it learned; what is asked before it is learned counts once."""
    bounds: dict[str, Any] = {"admit_after": 2, "item_ttl_d": 5.0, "max_items": 60}
    examples = stream(items=90, count=96)
    learning, frozen, asked = (trained(examples[:40], **bounds) for _ in range(3))
    for start in range(40, 96, 8):
        batch = examples[start : start + 8]
        asked.step(batch, learn=False, count=False)
        for learner in (learning, asked):
            learner.step(batch)
        frozen.step(batch, learn=False)
    assert learning.items.known > trained(examples[:40], **bounds).items.known
    assert frozen.items.keys.tolist() == asked.items.keys.tolist() == learning.items.keys.tolist()


YEAR_MS = 365 * 86_400_000


@pytest.mark.parametrize(
    ("settings", "forth_ms", "back_ms"),
    [
        ({"popularity_half_life_d": 1 / 24}, 50 * 86_400_000, 0),
        ({"popularity_half_life_d": 1 / 24, "negatives_power": 2.0}, 25 * 86_400_000, 0),
        ({}, 77 * YEAR_MS, YEAR_MS),
        ({"popularity_half_life_d": 1e-5, "max_items": 60}, 77 * YEAR_MS, YEAR_MS),
    ],
)
def test_event_time_may_jump_and_go_back(settings: dict[str, Any], forth_ms: int, back_ms: int) -> None:
    """By any number of half-lives of popularity, from which negatives are drawn: losses and weights stay finite."""
    learner = trained(stream(count=40), **{"negatives": 8, **settings})
    losses = [learner.step([each]).loss for each in stream(seed=5, count=8, prefix="n ", later_ms=forth_ms)]
    losses += [learner.step([each]).loss for each in stream(seed=7, count=8, later_ms=back_ms)]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(array).all() for array in learner.state().values() if array.dtype.kind == "f")
