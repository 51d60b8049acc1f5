"""Joining rules: windows, labels, organic actions, gathering, attributes, and what is forgotten."""

from collections import Counter

import pytest
from hypothesis import given, settings as hypothesis_settings

from stream.example import content, encode_example
from stream.schema.ids import id_key, partition_of
from stream.schema.tokens import Kind
from stream.store import layout
from tests.oracles import Wire, join
from tests.strategies import event_sets, tries
from tests.stream.join.play import SETTINGS, play, stored_tokens, the_examples
from tests.wire import action, impression


@pytest.mark.parametrize("gather_s", [0.0, 1.0, 600.0])
@hypothesis_settings(max_examples=tries(40), deadline=None)
@given(events=event_sets(40))
def test_settings_of_gathering_agree_with_the_oracle(gather_s: float, events: dict[str, list[Wire]]) -> None:
    """Targets leave by count and by time as the settings say; long histories are cut to example_tokens."""
    settings = SETTINGS.model_copy(update={"gather_s": gather_s, "gather_targets": 5, "action_window_s": 3})
    expected = [content(encode_example(e)) for e in join(events, settings, 0).examples]
    assert list(play(events, settings)[1].examples().values()) == expected


@hypothesis_settings(max_examples=tries(60), deadline=None)
@given(event_sets())
def test_every_target_leaves_exactly_once(events: dict[str, list[Wire]]) -> None:
    """Each shown item is a target once, and so is each organic action."""
    _, kafka, store = play(events)
    seen: Counter[tuple[int, int]] = Counter()
    for example in the_examples(kafka):
        seen.update((example.user, example.first + int(position)) for position in example.positions)
    assert not seen or max(seen.values()) == 1
    shown = {(u, i) for u, ts in stored_tokens(store).items() for i, t in enumerate(ts) if t.kind == Kind.IMPRESSION}
    assert shown <= set(seen)


def test_a_label_is_final_early_when_all_items_were_acted_on() -> None:
    """A slate of one, clicked, is gathered at the click and not at the window's end."""
    _, kafka, _ = play({"impressions": [impression("u", "r", 1000, "a")], "actions": [action("u", "a", 1500)]})
    (example,) = the_examples(kafka)
    assert example.final_ms == 1500 + 2000
    assert example.labels.tolist() == [id_key("click")]


def test_an_action_after_the_window_is_a_late_label_if_it_names_its_request() -> None:
    """It stays a token, is counted, and trains nothing; without a request it is organic."""
    shown = [impression("u", "r", 1000, "a")]
    partition, kafka, store = play({"impressions": shown, "actions": [action("u", "a", 9000, request_id="r")]})
    assert partition.counters.late_labels == 1
    assert [len(e.positions) for e in the_examples(kafka)] == [1]
    assert len(stored_tokens(store)[id_key("u")]) == 2
    partition, kafka, _ = play({"impressions": shown, "actions": [action("u", "a", 9000)]})
    assert partition.counters.late_labels == 0
    assert sum(len(e.positions) for e in the_examples(kafka)) == 2


def test_the_window_is_half_open() -> None:
    """An action at exactly the end of the window is no label; one millisecond earlier it is."""
    for ts, labels in ((1000 + 6000, 0), (1000 + 5999, 1)):
        shown = [impression("u", "r", 1000, "a", "b")]
        _, kafka, _ = play({"impressions": shown, "actions": [action("u", "a", ts, request_id="r")]})
        assert len(the_examples(kafka)[0].labels) == labels


def test_a_user_without_history_has_the_query_minus_one() -> None:
    """The first organic action has nothing before it, the second the first."""
    _, kafka, _ = play({"actions": [action("u", "a", 1000), action("u", "b", 1001)]})
    assert the_examples(kafka)[0].queries.tolist() == [-1, 0]


def test_an_attribute_is_appended_when_its_value_changes() -> None:
    """The first of each run is kept."""
    values = ["NO", "NO", "SE", "SE", "NO"]
    told = [{"user_id": "u", "name": "country", "value": v, "ts": 1000 + i} for i, v in enumerate(values)]
    _, _, store = play({"attributes": told})
    assert [t.key for t in stored_tokens(store)[id_key("u")]] == [id_key(f"country={v}") for v in ("NO", "SE", "NO")]


def test_two_texts_with_one_key_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The later one goes to dead-letters, whether it is an item or a user; nothing is merged."""
    same = {"b": 1, "a": 1, "v": 2, "u": 2}
    monkeypatch.setattr("stream.schema.events.keyed", lambda raw: (same.get(raw) or id_key(raw), raw))
    clicks = [action("u", "a", 1000), action("u", "b", 1001), action("v", "c", 1002), action("u", "a", 1003)]
    partition, kafka, _ = play({"actions": clicks})
    assert [letter["reason"] for letter in kafka.dead_letters()] == ["collision", "collision"]
    assert [letter["offset"] for letter in kafka.dead_letters()] == ["1", "2"]
    assert partition.counters.tokens == 2


def test_users_that_live_elsewhere_are_counted() -> None:
    """A producer with another partitioner splits users; the worker says so."""
    settings = SETTINGS.model_copy(update={"partitions": 7})
    partition, _, _ = play({"actions": [action(f"u{i}", "a", 1000) for i in range(50)]}, settings)
    assert 25 < partition.counters.misrouted < 50


def test_a_user_that_lives_elsewhere_is_counted_once() -> None:
    """However many events its first instant brings."""
    settings = SETTINGS.model_copy(update={"partitions": 7})
    stranger = next(user for user in map(str, range(50)) if partition_of(user.encode(), 7))
    clicks = [action(stranger, f"i{i}", 1000 + i // 30) for i in range(50)]
    partition, _, _ = play({"actions": clicks}, settings)
    assert (partition.counters.misrouted, partition.counters.tokens) == (1, 50)


def test_old_blocks_are_dropped_by_length_and_age() -> None:
    """History is capped in whole blocks, and never below what it promises to keep."""
    day_ms = 86_400_000
    clicks = [action("u", f"i{i}", 1000 + i * day_ms) for i in range(400)]
    settings = SETTINGS.model_copy(update={"history_tokens": 100})
    _, _, store = play({"actions": clicks}, settings)
    kept = stored_tokens(store)[id_key("u")]
    assert 100 <= len(kept) < 100 + 2 * layout.BLOCK
    assert kept[-1].ts_ms == clicks[-1]["ts"]
    settings = SETTINGS.model_copy(update={"history_days": 70.0})
    _, _, store = play({"actions": clicks}, settings)
    kept = stored_tokens(store)[id_key("u")]
    assert 70 <= len(kept) <= 70 + 2 * layout.BLOCK


def test_age_counts_whatever_the_size_of_slates() -> None:
    """Old blocks go when a block is begun, also where no slate ever ends at a block's edge."""
    shown = [impression("u", f"r{i}", 1000 + i * 86_400_000, *(f"{i}-{n}" for n in range(6))) for i in range(200)]
    attribute = {"user_id": "u", "name": "n", "value": "v", "ts": 1}
    settings = SETTINGS.model_copy(update={"history_days": 10.0, "max_slate": 6})
    _, _, store = play({"impressions": shown, "attributes": [attribute]}, settings)
    kept = stored_tokens(store)[id_key("u")]
    assert 60 <= len(kept) <= 60 + 2 * layout.BLOCK
