"""What a run knows by name: both vocabularies and the catalogue. It turns a micro-batch of examples into rows.

L = tokens of a micro-batch, P = retrieval targets, N = ranking targets, V = rows of the item vocabulary. Every
recommender keeps one index, and takes each micro-batch in by one call: items whose time is over leave, its questions
are over the vocabulary as it is then, and last its new ids are admitted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import prefixed, under
from model.data.candidates import Questions
from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.item_age import UNBORN, age_slice
from model.data.item_features import ItemFeatures
from model.data.labels import Targets, TargetSelector
from model.data.micro_batch import PackedBatch, collate
from model.data.stand_ins import StandIns
from model.data.stochastic_length import shortened
from model.data.vocabulary import Vocabulary
from model.keys.frozen_vectors import FrozenVectors
from model.keys.lives import NO_LIMITS, Limits, Lives
from model.keys.waiting_texts import WaitingTexts
from stream.example import END_OF_TIME_MS, NO_KEY, Example, Kind

_NONE: Final = np.empty(0, np.int64)
VectorsOf = Callable[[NDArray[np.int64]], NDArray[np.float32]]  # of items by row, [n] to [n, D]


class TokenRows(NamedTuple):
    """Table rows of a micro-batch's tokens, each [L]."""

    items: NDArray[np.int64]  # -1 for attributes, and for items that have no row
    attributes: NDArray[np.int64]  # of the feature table: attributes, and what stands in for such items; else -1
    actions: NDArray[np.int64]  # of the feature table, -1 where there is none
    frozen: NDArray[np.int64]  # of RowBatch.frozen: items that have died, whose vectors are kept; else -1


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """A micro-batch by rows: what a model reads."""

    tokens: PackedBatch
    targets: Targets
    rows: TokenRows
    frozen: NDArray[np.float32] | None = None  # [F, D] vectors of dead items, one a token; None: none are kept

    def positives(self) -> NDArray[np.int64]:
        """Return the item row of each retrieval target, [P]; -1 for an item without one."""
        return self.rows.items[self.tokens.positions[self.targets.positive]]

    def part(self, start: int, stop: int) -> "RowBatch":
        """Return the examples from one to before another."""
        tokens, targets = self.tokens.part(start, stop), self.tokens.targets_of(start, stop)
        rows = TokenRows(*(column[self.tokens.offsets[start] : self.tokens.offsets[stop]] for column in self.rows))
        return RowBatch(tokens, self.targets.part(targets), rows, self.frozen)

    def shortened(self, kept_L: NDArray[np.bool_]) -> "RowBatch":
        """Return the batch with the kept tokens only, which must include its targets."""
        rows = TokenRows(*(column[kept_L] for column in self.rows))
        return RowBatch(shortened(self.tokens, kept_L), self.targets, rows, self.frozen)


@dataclass(frozen=True, slots=True, eq=False)
class IndexedBatch:
    """A micro-batch that was taken in."""

    batch: RowBatch
    questions: Questions  # P, over the vocabulary before admission: to be answered
    answered: Questions  # the same over the vocabulary after it: to be learned from
    slices: NDArray[np.intp]  # [P] age of each retrieval target before admission, index into item_age.SLICES
    rank_slices: NDArray[np.intp]  # [N] the same of each ranking target
    died: NDArray[np.int64]  # item rows that were freed before the questions
    renewed: NDArray[np.int64]  # free item rows that were taken by new items after the questions
    hits: int  # targets whose item had a row before admission


class EntityIndex:
    """Items and features by row, and the catalogue.

    Args:
        rank_actions: Actions with a ranking tower.
        negative_actions: Actions that do not make their target a retrieval target.
        limits: Bounds of the item vocabulary.
        item_features: Features of the catalogue that an item's vector is made of.
        stand_ins: Rows that stand in for items without one that the catalogue says nothing of.
        drop_unknown: Whether items without a row are left out of histories; else they have a stand-in there.
        frozen: Where the vectors of items that die are kept, which they have in histories; None: nowhere.
    """

    def __init__(
        self,
        rank_actions: Sequence[str] = (),
        negative_actions: Sequence[str] = (),
        limits: Limits = NO_LIMITS,
        *,
        item_features: Sequence[str] = (),
        stand_ins: int = 1,
        drop_unknown: bool = False,
        frozen: FrozenVectors | None = None,
    ) -> None:
        self.items, self.features = Vocabulary(), Vocabulary()
        self.lives = None if limits.none else Lives(limits)
        self._waiting = WaitingTexts()  # texts of items that have no row
        self._stand_ins, self._drop_unknown = StandIns(stand_ins, item_features), drop_unknown
        self._frozen = frozen
        self.catalogue = Catalogue()
        self.item_features = ItemFeatures(item_features)
        self._selector = TargetSelector(rank_actions, negative_actions)

    def ask(self, examples: Sequence[Example]) -> Questions:
        """Return the retrieval questions of a micro-batch, and admit nothing."""
        tokens = collate(examples)
        return self._questions(tokens).part(self._selector.select(tokens).positive)

    def take_in(
        self, examples: Sequence[Example], *, count: bool = True, vectors_of: VectorsOf | None = None
    ) -> IndexedBatch:
        """Let items leave, ask the questions of a micro-batch, then admit its ids and learn its texts.

        Args:
            examples: The micro-batch.
            count: Whether its targets count as occurrences of their items, for who is admitted and who leaves.
            vectors_of: Returns the vectors of items that are about to die, where these are kept.
        """
        tokens = collate(examples)
        died = self._bury(tokens, vectors_of)
        targets = self._selector.select(tokens)
        every = self._questions(tokens)
        questions, age_T = every.part(targets.positive), age_slice(every.target_born_ms, every.request_ms)
        free, rows = np.flatnonzero(~self.items.used_mask()) if self.lives else _NONE, len(self.items)
        batch = self._with_frozen(RowBatch(tokens, targets, self._admit(tokens, count=count)))
        renewed = free[self.items.used_mask()[free]]
        new = np.concatenate((renewed, np.arange(rows, len(self.items))))
        self._describe(new)
        self._learn_texts(examples, tokens, batch.rows)
        self._name(new)
        return IndexedBatch(
            batch=self._without_unknown(batch),
            questions=questions,
            answered=self._answered(questions, batch),
            slices=age_T[targets.positive],
            rank_slices=age_T[targets.shown],
            died=died,
            renewed=renewed,
            hits=int((every.targets >= 0).sum()),
        )

    def _learn_texts(self, examples: Sequence[Example], tokens: PackedBatch, rows: TokenRows) -> None:
        """Learn the texts of rows, and keep those of items without one until they get it."""
        waiting = set(tokens.keys[(tokens.kinds != Kind.ATTRIBUTE) & (rows.items < 0)].tolist())
        for example in examples:
            keys = example.text_keys.tolist()
            self.items.learn_texts(keys, example.texts)
            self.features.learn_texts(keys, example.texts)
            kept = {key: text for key, text in zip(keys, example.texts, strict=True) if key in waiting}
            self.items.collisions += self._waiting.keep(kept.keys(), kept.values())

    def _name(self, rows: NDArray[np.int64]) -> None:
        """Take the ids of new items that came without a text from the catalogue, as far as it has them."""
        keys = [int(self.items.keys[row]) for row in rows.tolist() if not self.items.texts[row]]
        self.items.learn_texts(keys, [self.catalogue.id_of(key) for key in keys])

    def _bury(self, tokens: PackedBatch, vectors_of: VectorsOf | None) -> NDArray[np.int64]:
        """Let items leave as of a micro-batch's first request, and return their rows."""
        first_ms = int(tokens.request_ms.min(initial=END_OF_TIME_MS))
        if self.lives is None or first_ms == END_OF_TIME_MS or not self.lives.due(first_ms, self.items.known):
            return _NONE
        rows = self.lives.leaving(self.items.used_mask(), self.items.withdrawn)
        if self._frozen is not None and vectors_of is not None and len(rows):
            self._frozen.keep(self.items.keys[rows], vectors_of(rows[-self._frozen.most :]))
        self.lives.bury(rows, self.items.keys[rows], self.items.born_ms[rows])
        named = rows[self.items.texts.filled(rows)][-self._waiting.most_buried :]
        self._waiting.keep(self.items.keys[named].tolist(), self.items.texts.of(named))
        self.items.bury(rows)
        if len(rows):
            self.item_features.clear(rows)
            self._admit_stand_ins()
        return rows

    def known(self, examples: Sequence[Example]) -> RowBatch:
        """Return examples that were taken in before, by rows."""
        tokens = collate(examples)
        attribute_L = tokens.kinds == Kind.ATTRIBUTE
        items, attributes = self.items.rows(tokens.keys), self.features.rows(tokens.keys)
        rows = TokenRows(
            items=np.where(attribute_L, -1, items),
            attributes=np.where(attribute_L, attributes, -1),
            actions=self.features.rows(tokens.actions),  # NO_KEY is in no vocabulary
            frozen=np.full(len(tokens.keys), -1),
        )
        if self.lives:
            self._stand_in(tokens, rows)
        batch = self._with_frozen(RowBatch(tokens, self._selector.select(tokens), rows))
        return self._without_unknown(batch)

    def _admit_stand_ins(self) -> None:
        self.features.admit(self._stand_ins.keys, np.full(len(self._stand_ins.keys), END_OF_TIME_MS))

    def _stand_in(self, tokens: PackedBatch, rows: TokenRows) -> None:
        """Let features stand in for items without a row."""
        unknown_L = (tokens.kinds != Kind.ATTRIBUTE) & (rows.items < 0)
        rows.attributes[unknown_L] = self._stand_ins.rows(tokens.keys[unknown_L], self.features, self.catalogue)

    def _with_frozen(self, batch: RowBatch) -> RowBatch:
        """Return a batch in which the dead have the vectors that are kept of them in place of what stands in."""
        if self._frozen is None or not len(self._frozen):
            return batch
        unknown_L = (batch.tokens.kinds != Kind.ATTRIBUTE) & (batch.rows.items < 0)
        place_L = np.where(unknown_L, self._frozen.rows(batch.tokens.keys), -1)
        at = np.flatnonzero(place_L >= 0)
        batch.rows.attributes[at], batch.rows.frozen[at] = -1, np.arange(len(at))
        return replace(batch, frozen=self._frozen.vectors[place_L[at]])

    def _without_unknown(self, batch: RowBatch) -> RowBatch:
        """Return a batch without items that have no row, but for targets, where that is wanted."""
        if self.lives is None or not self._drop_unknown:
            return batch
        kept_L = (batch.rows.items >= 0) | (batch.tokens.kinds == Kind.ATTRIBUTE)
        kept_L[batch.tokens.positions] = True
        return batch if kept_L.all() else batch.shortened(kept_L)

    def _questions(self, tokens: PackedBatch) -> Questions:
        """Return a question for every target, over the vocabulary as it is."""
        row_L = np.where(tokens.kinds == Kind.ATTRIBUTE, -1, self.items.rows(tokens.keys))
        target_T = row_L[tokens.positions]
        known_T, live_V = target_T >= 0, self.items.live_mask()
        born_ms_T = np.full(len(target_T), UNBORN)
        born_ms_T[known_T] = self.items.born_ms[target_T[known_T]]
        possible_T = born_ms_T < tokens.request_ms
        possible_T[known_T] &= live_V[target_T[known_T]]
        return Questions(
            targets=target_T,
            items=tokens.keys[tokens.positions],
            request_ms=tokens.request_ms,
            target_born_ms=born_ms_T,
            users=tokens.users[tokens.owners],
            possible=possible_T,
            starts=tokens.offsets[tokens.owners],
            queries=tokens.queries,
            rows=np.where(tokens.kinds == Kind.ACTION, row_L, -1),
            shown=np.where(tokens.kinds == Kind.IMPRESSION, row_L, -1),
            keys=self.items.keys,
            born_ms=self.items.births(),  # admission may move births back
            live=live_V,
            catalogue=self.catalogue,
        )

    def _admit(self, tokens: PackedBatch, *, count: bool) -> TokenRows:
        attribute_L, acted_L = tokens.kinds == Kind.ATTRIBUTE, tokens.actions != NO_KEY
        rows = TokenRows(*(np.full(len(tokens.keys), -1, np.int64) for _ in TokenRows._fields))
        if self.lives is None:
            rows.items[~attribute_L] = self.items.admit(tokens.keys[~attribute_L], tokens.ts_ms[~attribute_L])
        else:
            rows.items[~attribute_L] = self._admit_items(self.lives, tokens, np.flatnonzero(~attribute_L), count=count)
            if (rows.items[~attribute_L] < 0).any():
                self._admit_stand_ins()
            self._stand_in(tokens, rows)
        rows.attributes[attribute_L] = self.features.admit(tokens.keys[attribute_L], tokens.ts_ms[attribute_L])
        rows.actions[acted_L] = self.features.admit(tokens.actions[acted_L], tokens.ts_ms[acted_L])
        return rows

    def _admit_items(
        self, lives: Lives, tokens: PackedBatch, at_i: NDArray[np.intp], *, count: bool
    ) -> NDArray[np.int64]:
        """Admit the items of some tokens as far as they may enter; return their rows, -1 where there is none."""
        keys_i, ts_ms_i = tokens.keys[at_i], tokens.ts_ms[at_i]
        own_i = np.isin(at_i, tokens.positions)
        before_i = self.items.rows(keys_i)
        enters_i = lives.may_enter(keys_i, ts_ms_i, own_i, before_i, count=count)
        self.items.admit(keys_i[enters_i], ts_ms_i[enters_i], lives.room(self.items.known))
        row_i = self.items.rows(keys_i)
        entered = np.unique(keys_i[(before_i < 0) & (row_i >= 0)])
        lives.enter(entered)
        if self._frozen is not None:
            self._frozen.forget(entered)
        self.items.learn_texts(entered.tolist(), [self._waiting.take(key) for key in entered.tolist()])
        lives.see(row_i, ts_ms_i, own_i, len(self.items), count=count)
        return row_i

    def _answered(self, questions: Questions, batch: RowBatch) -> Questions:
        """Return the questions over the vocabulary as it is after admission."""
        return replace(
            questions,
            targets=batch.positives(),
            rows=np.where(batch.tokens.kinds == Kind.ACTION, batch.rows.items, -1),
            shown=np.where(batch.tokens.kinds == Kind.IMPRESSION, batch.rows.items, -1),
            keys=self.items.keys,
            born_ms=self.items.born_ms,
            live=self.items.live_mask(),
        )

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take catalogue records in; a withdrawn item is no candidate and no negative until it comes back."""
        for record in records:
            if not self.catalogue.apply(record):
                continue
            self.items.learn_texts([record.key], [record.item_id])
            if isinstance(record, Tombstone):
                self.items.withdraw(record.key, record.ts_ms)
            else:
                self.items.restore(record.key)
                self._describe(self.items.rows(np.array([record.key], np.uint64)))

    def _describe(self, rows: NDArray[np.int64]) -> None:
        """Set the values of items as the catalogue has them; a withdrawn item keeps those that it had."""
        if not self.item_features.used:
            return
        for row in rows[rows >= 0].tolist():
            item = self.catalogue.get(int(self.items.keys[row]))
            if item is not None:
                keys_m, weights_m = self.item_features.values(item.features)
                rows_m = self.features.admit(keys_m, np.full(len(keys_m), item.ts_ms))
                self.item_features.put(row, rows_m, weights_m)
        self.item_features.grow(len(self.items))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        return {**self._named(), **self.bounds_state()}

    def snapshot_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what answers need: all but what decides who lives, of which they need the dead alone."""
        if self.lives is None:
            return self._named()
        return {**self._named(), **prefixed("lives.", self.lives.dead_state()), **self._frozen_state()}

    def _frozen_state(self) -> dict[str, NDArray[Any]]:
        return {} if self._frozen is None else prefixed("frozen.", self._frozen.state())

    def _named(self) -> dict[str, NDArray[Any]]:
        return {
            **prefixed("items.", self.items.state()),
            **prefixed("features.", self.features.state()),
            **prefixed("catalogue.", self.catalogue.state()),
            **prefixed("item_features.", self.item_features.state()),
        }

    def bounds_state(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of a bounded vocabulary's lives and of texts that wait; none where it has no bounds."""
        if self.lives is None:
            return {}
        waiting = prefixed("waiting.", self._waiting.state())
        return {**prefixed("lives.", self.lives.state()), **waiting, **self._frozen_state()}

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds, which may have been under other limits, or none."""
        self.items = Vocabulary.from_state(under("items.", arrays))
        self.features = Vocabulary.from_state(under("features.", arrays))
        self.catalogue = Catalogue.from_state(under("catalogue.", arrays))
        self.item_features.load_state(under("item_features.", arrays))
        lives = under("lives.", arrays)
        if lives and self.lives is None:
            self.lives = Lives(NO_LIMITS)  # items that had left are still in histories, and their rows are free
        if self.lives and lives:
            self.lives.load_state(lives)
        elif self.lives:
            self.lives.adopt(self.items.used_mask())
        self._waiting.load_state(under("waiting.", arrays))
        if self._frozen is not None:
            self._frozen.load_state(under("frozen.", arrays))
