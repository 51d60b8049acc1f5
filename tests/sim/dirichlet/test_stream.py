"""The Dirichlet stream: the same from anywhere, its law, and what it refuses."""

import json
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from xxhash import xxh3_64_hexdigest

from sim.dirichlet.stream import BLOCK, START_MS, STEP_MS, DirichletSettings, DirichletStream, whole_records
from sim.errors import SimError
from stream.config import StreamSettings
from stream.schema.events import Event, decode_event
from stream.schema.topics import SourceTopic

SMALL = DirichletSettings(records=2500, length=12, items=300, categories=10)
BIG = DirichletStream(DirichletSettings(records=40_000, items=20_000))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, SMALL.records), max_size=8), st.integers(0, 3), st.sampled_from([0.0, 1.0]))
def test_the_stream_is_the_same_however_it_is_cut(cuts: list[int], seed: int, zipf: float) -> None:
    """Any pieces, read in any order, together are the whole."""
    small = DirichletSettings(seed=seed, records=2500, length=12, items=300, categories=10, zipf=zipf)
    whole = DirichletStream(small).records(0, small.records)
    edges = sorted({0, small.records, *cuts})
    stream = DirichletStream(small)
    parts = {pair: stream.records(*pair) for pair in reversed(list(pairwise(edges)))}
    for field in ("items", "categories"):
        joined = np.concatenate([getattr(parts[pair], field) for pair in pairwise(edges)])
        np.testing.assert_array_equal(joined, getattr(whole, field))


def test_seeds_make_different_streams() -> None:
    """One seed makes one stream."""
    streams = [DirichletStream(DirichletSettings(seed=seed, records=8)) for seed in (0, 0, 1)]
    first, again, other = (stream.records(0, 8).items for stream in streams)
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.9
    assert streams[0].fingerprint == streams[1].fingerprint != streams[2].fingerprint


@pytest.mark.parametrize(
    ("chosen", "start", "digest", "fingerprint"),
    [
        (DirichletSettings(), 500_000, "c3f0b76ec8bc417e", "905e7811fc7708a1790af458d5853551"),
        (
            DirichletSettings(seed=7, records=3000, length=20, items=500, categories=12),
            1000,
            "0d47bce19b3b4468",
            "afc136bffa7240b0b296767e7d56e5d7",
        ),
    ],
)
def test_the_uniform_stream_is_that_of_the_first_version(
    chosen: DirichletSettings, start: int, digest: str, fingerprint: str
) -> None:
    """To the bit, and by name: later options must change neither, or replays could not continue."""
    stream = DirichletStream(chosen)
    made = stream.records(start, start + 100)
    assert xxh3_64_hexdigest(made.items.tobytes() + made.categories.tobytes()) == digest
    assert stream.fingerprint == fingerprint


def test_other_laws_have_other_names() -> None:
    """Every option that changes the stream is part of its fingerprint."""
    others = [{}, {"zipf": 1.0}, {"zipf": 1.5}, {"slots": 4}, {"alpha_low": 90.0}, {"alpha_high": 9.0}]
    streams = [DirichletStream(DirichletSettings(**(_fields(SMALL) | other))) for other in others]
    assert len({stream.fingerprint for stream in streams}) == len(others)
    assert len({stream.records(0, 500).items.tobytes() for stream in streams}) == len(others)


@given(st.integers(0, 2500 * 12), st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_events_can_begin_anywhere(start: int, count: int) -> None:
    """Event n of the whole is the first of those from n on; their number is `len`."""
    stream = DirichletStream(SMALL)
    assert list(islice(stream.events(start), count)) == list(islice(stream.events(), start, start + count))


def test_a_limit_cuts_the_stream() -> None:
    """In the middle of a record too; the events before it do not change."""
    whole, cut = DirichletStream(SMALL), DirichletStream(DirichletSettings(**(_fields(SMALL) | {"limit": 101})))
    assert list(cut.events()) == list(islice(whole.events(), 101))
    assert (len(cut), len(whole)) == (101, 2500 * 12)


def _fields(chosen: DirichletSettings) -> dict[str, Any]:
    return {name: getattr(chosen, name) for name in chosen.__dataclass_fields__}


def test_a_record_is_a_user_whose_organic_clicks_come_a_second_apart() -> None:
    """Records follow one another in time, and the workers take every event."""
    stream = DirichletStream(SMALL)
    items = stream.records(0, 3).items
    for n, event in enumerate(islice(stream.events(), 36)):
        record, place = divmod(n, 12)
        expected = {"user_id": str(record), "item_id": str(items[record, place]), "action": "click"}
        assert json.loads(event.value or b"") == expected | {"ts": START_MS + n * STEP_MS}
        assert (event.key, event.ts_ms, event.topic) == (str(record).encode(), START_MS + n * STEP_MS, "actions")
        assert isinstance(decode_event(SourceTopic.ACTIONS, event.value, max_slate=1, now_ms=None), Event)


def test_ids_become_available_linearly() -> None:
    """40 % at first, all at the end; no record shows an id before its time, and the newest are shown."""
    records = np.array([0, 20_000, 39_999])
    np.testing.assert_array_equal(BIG.available(records), [8_000, 14_000, 19_999])
    for start in (0, 20_000, 39_000):
        items = BIG.records(start, start + 1000).items
        available = BIG.available(np.arange(start, start + 1000))
        assert (items < available[:, None]).all()
        assert items.max() > 0.995 * available[-1]
        assert items.min() < 50


def test_items_are_uniform_in_their_category() -> None:
    """Over many records the deciles of the available ids are shown about equally often."""
    items = BIG.records(0, 4 * BLOCK).items
    shares, _ = np.histogram(items, bins=10, range=(0, 8000))
    assert np.abs(shares / shares.sum() - 0.1).max() < 0.01


def test_zipf_gives_the_items_of_a_category_their_weights() -> None:
    """k^-zipf, k being a place in the category, which any id may have; among the available ones, by proportion."""
    stream = DirichletStream(DirichletSettings(records=40_000, items=600, categories=5, zipf=1.0))
    for category in range(5):
        weights = stream.weight_I[stream.category_I == category]
        np.testing.assert_allclose(np.sort(weights)[::-1], 1 / np.arange(1, len(weights) + 1))
        assert abs(np.corrcoef(weights, np.arange(len(weights)))[0, 1]) < 0.3
    for start in (0, 36_000):
        made = stream.records(start, start + 2 * BLOCK)
        available = int(stream.available(np.array([start]))[0])
        for category in range(5):
            there = np.flatnonzero((stream.category_I == category) & (np.arange(600) < available))
            shown = np.bincount(made.items[made.categories == category], minlength=600)[there]
            share = stream.weight_I[there] / stream.weight_I[there].sum()
            assert np.abs(shown / shown.sum() - share).max() < 0.02
            assert shown.min() > 0


def test_a_steep_law_shows_the_favourite_alone() -> None:
    """Rounding lets no other category and no unavailable id in."""
    stream = DirichletStream(DirichletSettings(records=50, length=30, items=400, categories=10, zipf=10.0))
    made = stream.records(0, 50)
    np.testing.assert_array_equal(stream.category_I[made.items], made.categories)
    assert (made.items < stream.available(np.arange(50))[:, None]).all()
    for category in range(10):
        there = np.flatnonzero((stream.category_I == category) & (np.arange(400) < stream.available(np.array([0]))[0]))
        favourite = there[stream.weight_I[there].argmax()]
        assert (made.items[:5][made.categories[:5] == category] == favourite).mean() > 0.5


def test_slots_and_alpha_are_options() -> None:
    """One slot: one category a record. A tiny alpha: the first category comes again."""
    single = DirichletStream(DirichletSettings(**(_fields(SMALL) | {"slots": 1}))).records(0, 100).categories
    assert (single == single[:, :1]).all()
    copied = DirichletStream(DirichletSettings(**(_fields(SMALL) | {"alpha_low": 1e-9, "alpha_high": 1e-9})))
    assert (np.diff(copied.records(0, 100).categories, axis=1) == 0).all()
    many = DirichletStream(DirichletSettings(**(_fields(SMALL) | {"slots": 200}))).records(0, 100).categories
    assert max(len(set(row)) for row in many.tolist()) > 5


def test_categories_are_those_of_the_items_and_at_most_five() -> None:
    """Each record stays within the categories it has drawn."""
    records = BIG.records(0, 2 * BLOCK)
    np.testing.assert_array_equal(BIG.category_I[records.items], records.categories)
    distinct = [len(set(row)) for row in records.categories.tolist()]
    assert max(distinct) == 5
    assert min(distinct) >= 1


def test_two_events_share_a_category_as_often_as_the_law_says() -> None:
    """An urn is exchangeable: for any two events, near or far, the probability is the same.

    The prior over 5 slots has an expected sum of squares of 2/6; other slots have one category with probability 1/100;
    event 2 copies event 1 with probability 1/(alpha+1), averaged over alpha in U(1, 500).
    """
    records = BIG.records(0, 16 * BLOCK).categories
    prior = 1 / 3 + 2 / 3 / 100
    copied = np.log(501 / 2) / 499
    for left, right in ((0, 1), (0, 127), (63, 64), (126, 127), (20, 100)):
        share = (records[:, left] == records[:, right]).mean()
        assert abs(share - (copied + (1 - copied) * prior)) < 4 * 0.5 / np.sqrt(len(records)), (left, right)


def test_a_record_clings_to_its_categories_as_the_paper_words_it() -> None:
    """The largest category's share is that of a simulation event by event, with counts."""
    records = BIG.records(0, 8 * BLOCK).categories
    rng = np.random.default_rng(0)
    by_hand = np.array([_record_by_hand(rng, 64) for _ in range(1500)])
    ours, theirs = (np.mean([np.bincount(row[:64]).max() / 64 for row in table]) for table in (records, by_hand))
    assert abs(ours - theirs) < 0.02


def _record_by_hand(rng: np.random.Generator, length: int) -> list[int]:
    """Draw one record's categories as in the paper: by the counts so far, one event after the other."""
    drawn, prior, alpha = rng.integers(100, size=5), rng.dirichlet(np.ones(5)), rng.uniform(1, 500)
    counts = np.zeros(100)
    shown: list[int] = []
    for n in range(1, length + 1):
        if rng.random() < alpha / (alpha + n - 1):
            category = int(drawn[rng.choice(5, p=prior)])
        else:
            category = int(rng.choice(100, p=counts / counts.sum()))
        counts[category] += 1
        shown.append(category)
    return shown


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"seed": -1}, r"seed -1 does not lie in \[0, 2\*\*64\)"),
        ({"records": 0}, "needs records of 1 or more, not 0"),
        ({"items": 100}, "share 0.4 is there at first, which must be as many as the 100 categories"),
        ({"initial": 0.0}, "take more items or fewer categories"),
        ({"slots": 0}, "needs slots of 1 or more, not 0"),
        ({"alpha_low": 9.0, "alpha_high": 3.0}, "alpha cannot lie between 9.0 and 3.0"),
        ({"alpha_low": 0.0}, "its range needs 0 < alpha_low <= alpha_high"),
        ({"zipf": -0.5}, r"zipf is -0.5; it has to lie in \[0, 10\]"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(flags: dict[str, Any], sentence: str) -> None:
    """The error says what to change."""
    with pytest.raises(SimError, match=sentence):
        DirichletSettings(**flags)


def test_every_category_has_an_item_from_the_start() -> None:
    """Even if items are few, so that no draw finds an empty category."""
    stream = DirichletStream(DirichletSettings(records=50, length=20, items=25, categories=10))
    assert set(stream.category_I[:10]) == set(range(10))
    assert (stream.records(0, 50).items < stream.available(np.arange(50))[:, None]).all()


def test_settings_let_each_record_leave_whole() -> None:
    """As many targets as the record is long, within time and tokens."""
    grouped = whole_records(StreamSettings(), 600)
    assert (grouped.gather_targets, grouped.gather_s, grouped.example_tokens) == (600, 600.0, 600)
    assert whole_records(StreamSettings(), 128).example_tokens == StreamSettings().example_tokens
