import doctest
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

import model.keys.lives
from model.data.catalogue import ItemRecord, Tombstone
from model.data.entity_index import EntityIndex, RowBatch
from model.keys.frozen_vectors import FrozenVectors
from model.keys.lives import HALF_LIFE_MS, SPARE, SWEEPS, Limits, Lives, least
from stream.example import NO_KEY, Example, Kind
from tests.batches import make_example, with_targets
from tests.laws import ITEMS, KEYS, REQUEST_MS, START_MS, streams
from tests.strategies import tries

FROZEN = 3  # deaths whose vectors are kept
bounds = st.builds(
    Limits,
    admit_after=st.integers(1, 3),
    ttl_ms=st.just(0) | st.integers(REQUEST_MS // 2, 6 * REQUEST_MS),
    max_rows=st.just(0) | st.integers(3, ITEMS),
    evict=st.sampled_from(["recent", "frequent", "both"]),
)


@dataclass
class Item:
    row: int
    born_ms: int
    last_ms: int
    seen: int = 0
    withdrawn: bool = False


@dataclass
class Oracle:
    """The rules by dictionaries, token by token."""

    limits: Limits
    items: dict[int, Item] = field(default_factory=dict)
    withdrawn: set[int] = field(default_factory=set)
    dead: dict[int, int] = field(default_factory=dict)
    waiting: Counter[int] = field(default_factory=Counter)
    rows: int = 0
    now_ms: int = 0
    swept: int = 0
    evicted_ms: int = -1
    died: int = 0
    batches: int = 0
    leaving: list[tuple[int, int]] = field(default_factory=list)  # rows and keys
    frozen: dict[int, tuple[int, float]] = field(default_factory=dict)  # key: number of its death, vector

    def take_in(self, examples: list[Example]) -> int:
        """Take a micro-batch in; return how many of its targets have a row before it."""
        self.now_ms = max(self.now_ms, min(int(example.request_ms.min()) for example in examples))
        self.expire()
        self.evict()
        self.freeze()
        tokens = [token for example in examples for token in self.tokens(example)]
        hits = sum(own and key in self.items for key, _, own in tokens)
        entered = {key for key, ts_ms, own in tokens if own and self.counted(key, ts_ms)}
        may = [self.may_enter(*token, entered) for token in tokens]
        for (key, ts_ms, _), enters in zip(tokens, may, strict=True):
            if enters and key not in self.items and self.has_room():
                free = sorted({*range(self.rows)} - {item.row for item in self.items.values()})
                row = free[0] if free else self.rows
                self.rows = max(self.rows, row + 1)
                self.items[key] = Item(row, ts_ms, 0)
                self.waiting.pop(key, None)
                self.dead.pop(key, None)
                self.frozen.pop(key, None)
            if enters and key in self.items:
                self.items[key].born_ms = min(self.items[key].born_ms, ts_ms)
        for key, ts_ms, own in tokens:
            if key in self.items:
                self.items[key].last_ms = max(self.items[key].last_ms, ts_ms)
                self.items[key].seen += own
        self.batches += 1
        return hits

    @staticmethod
    def tokens(example: Example) -> list[tuple[int, int, bool]]:
        own = {*example.positions.tolist()}
        columns = zip(example.keys.tolist(), example.ts_ms.tolist(), example.kinds.tolist(), strict=True)
        return [(key, ts_ms, n in own) for n, (key, ts_ms, kind) in enumerate(columns) if kind != Kind.ATTRIBUTE]

    def fresh(self, ts_ms: int) -> bool:
        return not self.limits.ttl_ms or ts_ms >= self.now_ms - self.limits.ttl_ms

    def counted(self, key: int, ts_ms: int) -> bool:
        """Count an occurrence of an id that has no row; whether it is admitted, by the end of the micro-batch."""
        if self.limits.admit_after == 1 or key in self.items or not self.fresh(ts_ms):
            return False
        self.waiting[key] += 1
        return self.waiting[key] >= self.limits.admit_after

    def may_enter(self, key: int, ts_ms: int, own: bool, entered: set[int]) -> bool:
        if not self.fresh(ts_ms):
            return False
        if self.limits.admit_after == 1:
            return own or ts_ms > self.evicted_ms
        return ts_ms > self.evicted_ms if key in self.items else own and key in entered

    def has_room(self) -> bool:
        return not self.limits.max_rows or len(self.items) < self.limits.max_rows

    def expire(self) -> None:
        if not self.limits.ttl_ms or self.now_ms * SWEEPS // self.limits.ttl_ms == self.swept:
            return
        self.swept = self.now_ms * SWEEPS // self.limits.ttl_ms
        for key in [key for key, item in self.items.items() if item.last_ms < self.now_ms - self.limits.ttl_ms]:
            self.bury(key)

    def evict(self) -> None:
        most, spare = self.limits.max_rows, -(-self.limits.max_rows // SPARE)
        if not most or len(self.items) <= most - spare:
            return
        order = sorted(self.items, key=self.value)
        for key in order[: len(order) - (most - 2 * spare)]:
            self.evicted_ms = max(self.evicted_ms, self.items[key].last_ms)
            self.bury(key)

    def value(self, key: int) -> tuple[float, ...]:
        item = self.items[key]
        both = np.log2(item.seen + 1) + item.last_ms / HALF_LIFE_MS
        first = {"recent": item.last_ms, "frequent": item.seen, "both": both}[self.limits.evict]
        return key not in self.withdrawn, first, item.last_ms, item.row

    def bury(self, key: int) -> None:
        self.leaving.append((self.items.pop(key).row, key))
        self.dead[key] = self.now_ms

    def freeze(self) -> None:
        for row, key in sorted(self.leaving):
            self.died += 1
            self.frozen[key] = self.died, float(self.vectors_of(np.array([row]))[0, 0])
        self.leaving = []

    def vectors_of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what stands for the vectors of rows as this micro-batch finds them, [n, 1]."""
        return (rows[:, None] + 100 * self.batches).astype(np.float32)

    def kept(self) -> dict[int, float]:
        return {key: vector for key, (number, vector) in self.frozen.items() if number > self.died - FROZEN}


def agree(index: EntityIndex, oracle: Oracle) -> None:
    lives, items = index.lives, index.items
    assert lives is not None
    assert items.rows(np.array(KEYS, np.uint64)).tolist() == [
        oracle.items[key].row if key in oracle.items else -1 for key in KEYS
    ]
    for key, item in oracle.items.items():
        row = item.row
        assert (items.keys[row], items.born_ms[row]) == (key, item.born_ms)
        assert (lives.state()["last_ms"][row], lives.state()["seen"][row]) == (item.last_ms, item.seen)
        assert items.withdrawn[row] == (key in oracle.withdrawn)
        assert (row in items.live()) == (key not in oracle.withdrawn)
    assert items.known == len(oracle.items) == items.used_mask().sum()
    assert lives.dead == oracle.dead
    assert lives.counts["expired"] + lives.counts["evicted"] == oracle.died
    assert lives.counts["born"] == items.known + oracle.died


def frozen_of(batch: RowBatch) -> dict[int, float]:
    """Return the vectors of dead items that a micro-batch has, after checking that its tokens have nothing else."""
    has_L = batch.rows.frozen >= 0
    if batch.frozen is None:  # nothing has died yet
        assert not has_L.any()
        return {}
    assert (batch.rows.items[has_L] == -1).all()
    assert (batch.rows.attributes[has_L] == -1).all()
    return dict(zip(batch.tokens.keys[has_L].tolist(), batch.frozen[batch.rows.frozen[has_L], 0].tolist(), strict=True))


def test_a_mass_death_gathers_the_vectors_that_are_kept_alone() -> None:
    """Of the last FROZEN deaths, however many there are."""
    index = EntityIndex(limits=Limits(ttl_ms=1000), frozen=FrozenVectors(1, FROZEN))
    tokens = [(key, NO_KEY, START_MS, Kind.ACTION) for key in KEYS]
    index.take_in([with_targets(make_example(tokens), [(len(KEYS) - 1, 0, 0, START_MS, [])])])
    asked = list[NDArray[np.int64]]()

    def vectors_of(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.append(rows)
        return rows[:, None].astype(np.float32)

    later_ms = START_MS + 5000
    one = make_example([(KEYS[0], NO_KEY, later_ms, Kind.ACTION)])
    died = index.take_in([with_targets(one, [(0, -1, 0, later_ms, [])])], vectors_of=vectors_of).died
    assert len(died) == len(KEYS) > FROZEN
    assert [rows.tolist() for rows in asked] == [died[-FROZEN:].tolist()]


@settings(max_examples=tries(300))
@given(bounds.filter(lambda limits: not limits.none), streams(3), st.data())
def test_births_and_deaths_agree_with_dictionaries(
    limits: Limits, examples: list[Example], data: st.DataObject
) -> None:
    """Any bounds, gaps of time, micro-batches, withdrawals, and checkpoints, after which the cap may be another."""
    index, oracle = EntityIndex(limits=limits, frozen=FrozenVectors(1, FROZEN)), Oracle(limits)
    shift_ms = 0
    while examples:
        size = data.draw(st.integers(1, 3))
        batch, examples = examples[:size], examples[size:]
        shift_ms += data.draw(st.sampled_from([0, 0, REQUEST_MS, 5 * REQUEST_MS]))
        batch = [later(example, shift_ms) for example in batch]
        for key in data.draw(st.lists(st.sampled_from(KEYS), max_size=2)):
            withdrawn = key not in oracle.withdrawn
            oracle.withdrawn ^= {key}
            now_ms = START_MS + len(oracle.dead)
            record = Tombstone(key, str(key), now_ms) if withdrawn else ItemRecord(key, str(key), None, {}, 2**42)
            index.catalogue._entries.pop(key, None)
            index.learn_items([record])
        taken = index.take_in(batch, vectors_of=oracle.vectors_of)
        assert taken.hits == oracle.take_in(batch)
        agree(index, oracle)
        kept, shown = oracle.kept(), {key for example in batch for key, *_ in oracle.tokens(example)}
        for read in (taken.batch, index.known(batch)):
            assert frozen_of(read) == {key: kept[key] for key in kept.keys() & shown}
        if data.draw(st.booleans()):
            state = {name: array.copy() for name, array in index.state().items()}
            if limits.max_rows:
                limits = limits._replace(max_rows=data.draw(st.integers(max(3, index.items.known), 2 * ITEMS)))
                oracle.limits = limits
            index = EntityIndex(limits=limits, frozen=FrozenVectors(1, FROZEN))
            index.load_state(state)


def later(example: Example, shift_ms: int) -> Example:
    return replace(example, ts_ms=example.ts_ms + shift_ms, request_ms=example.request_ms + shift_ms)


def test_an_id_that_comes_back_is_counted() -> None:
    """It is among the dead until it has a row again."""
    lives = Lives(Limits(ttl_ms=10))
    lives.enter(np.array([7], np.uint64))
    lives.bury(np.array([], np.int64), np.array([7], np.uint64), np.array([0]))
    lives.enter(np.array([7, 7, 8], np.uint64))
    assert (lives.counts["readmitted"], lives.counts["born"], lives.dead) == (1, 3, {})


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12), st.integers(0, 14))
def test_the_least_are_those_of_a_sort(pairs: list[tuple[int, int]], count: int) -> None:
    """By the first column, then the second, then the place."""
    columns = [np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1)]
    order = sorted(range(len(pairs)), key=lambda place: (*pairs[place], place))
    assert least(columns, count).tolist() == sorted(order[:count])


@pytest.mark.parametrize("limits", [Limits(), Limits(evict="both")])
def test_without_bounds_nothing_is_kept(limits: Limits) -> None:
    """A vocabulary without bounds has no lives, whatever would be evicted first."""
    assert EntityIndex(limits=limits).lives is None


def test_the_docstring_is_true() -> None:
    """Its example prints what it says."""
    assert doctest.testmod(model.keys.lives).failed == 0
