"""What a run knows by name: both vocabularies and the catalogue. It turns a micro-batch of examples into rows.

L = tokens of a micro-batch, P = retrieval targets, N = ranking targets, V = rows of the item vocabulary. Every
recommender keeps one index, and takes each micro-batch in by one call: its questions are over the vocabulary as it was,
then its new ids are admitted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import prefixed, under
from model.data.candidates import Questions
from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.item_age import UNBORN, age_slice
from model.data.labels import Targets, TargetSelector
from model.data.micro_batch import PackedBatch, collate
from model.data.stochastic_length import shortened
from model.data.vocabulary import Vocabulary
from stream.example import NO_KEY, Example, Kind


class TokenRows(NamedTuple):
    """Table rows of a micro-batch's tokens, each [L]."""

    items: NDArray[np.int64]  # -1 for attributes
    attributes: NDArray[np.int64]  # of the feature table, -1 for all but attributes
    actions: NDArray[np.int64]  # of the feature table, -1 where there is none


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """A micro-batch by rows: what a model reads."""

    tokens: PackedBatch
    targets: Targets
    rows: TokenRows

    def positives(self) -> NDArray[np.int64]:
        """Return the item row of each retrieval target, [P]."""
        return self.rows.items[self.tokens.positions[self.targets.positive]]

    def shortened(self, kept_L: NDArray[np.bool_]) -> "RowBatch":
        """Return the batch with the kept tokens only, which must include those that its targets point at."""
        rows = TokenRows(*(column[kept_L] for column in self.rows))
        return RowBatch(shortened(self.tokens, kept_L), self.targets, rows)


@dataclass(frozen=True, slots=True, eq=False)
class IndexedBatch:
    """A micro-batch that was taken in."""

    batch: RowBatch
    questions: Questions  # P, over the vocabulary before admission: to be answered
    answered: Questions  # the same over the vocabulary after it: to be learned from
    slices: NDArray[np.intp]  # [P] age of each retrieval target before admission, index into item_age.SLICES
    rank_slices: NDArray[np.intp]  # [N] the same of each ranking target


class EntityIndex:
    """Items and features by row, and the catalogue.

    Args:
        rank_actions: Actions with a ranking tower.
        negative_actions: Actions that do not make their target a retrieval target.
    """

    def __init__(self, rank_actions: Sequence[str] = (), negative_actions: Sequence[str] = ()) -> None:
        self.items, self.features = Vocabulary(), Vocabulary()
        self.catalogue = Catalogue()
        self._selector = TargetSelector(rank_actions, negative_actions)

    def ask(self, examples: Sequence[Example]) -> Questions:
        """Return the retrieval questions of a micro-batch, and admit nothing."""
        tokens = collate(examples)
        return self._questions(tokens).part(self._selector.select(tokens).positive)

    def take_in(self, examples: Sequence[Example]) -> IndexedBatch:
        """Ask the questions of a micro-batch, then admit its ids and learn its texts."""
        tokens = collate(examples)
        targets = self._selector.select(tokens)
        every = self._questions(tokens)
        questions, age_T = every.part(targets.positive), age_slice(every.target_born_ms, every.request_ms)
        batch = RowBatch(tokens, targets, self._admit(tokens))
        for example in examples:
            keys = example.text_keys.tolist()
            self.items.learn_texts(keys, example.texts)
            self.features.learn_texts(keys, example.texts)
        answered = self._answered(questions, batch)
        return IndexedBatch(batch, questions, answered, age_T[targets.positive], age_T[targets.shown])

    def known(self, examples: Sequence[Example]) -> RowBatch:
        """Return examples that were taken in before, by rows."""
        tokens = collate(examples)
        attribute_L = tokens.kinds == Kind.ATTRIBUTE
        items, attributes = self.items.rows(tokens.keys), self.features.rows(tokens.keys)
        rows = TokenRows(
            items=np.where(attribute_L, -1, items),
            attributes=np.where(attribute_L, attributes, -1),
            actions=self.features.rows(tokens.actions),  # NO_KEY is in no vocabulary
        )
        return RowBatch(tokens, self._selector.select(tokens), rows)

    def _questions(self, tokens: PackedBatch) -> Questions:
        """Return a question for every target, over the vocabulary as it is."""
        row_L = np.where(tokens.kinds == Kind.ATTRIBUTE, -1, self.items.rows(tokens.keys))
        target_T = row_L[tokens.positions]
        known_T, live_V = target_T >= 0, ~self.items.withdrawn
        born_ms_T = np.full(len(target_T), UNBORN)
        born_ms_T[known_T] = self.items.born_ms[target_T[known_T]]
        possible_T = born_ms_T < tokens.request_ms
        possible_T[known_T] &= live_V[target_T[known_T]]
        return Questions(
            targets=target_T,
            request_ms=tokens.request_ms,
            target_born_ms=born_ms_T,
            users=tokens.users[tokens.owners],
            possible=possible_T,
            starts=tokens.offsets[tokens.owners],
            queries=tokens.queries,
            rows=np.where(tokens.kinds == Kind.ACTION, row_L, -1),
            keys=self.items.keys,
            born_ms=self.items.born_ms.copy(),  # admission may move births back
            live=live_V,
            catalogue=self.catalogue,
        )

    def _admit(self, tokens: PackedBatch) -> TokenRows:
        attribute_L, acted_L = tokens.kinds == Kind.ATTRIBUTE, tokens.actions != NO_KEY
        rows = TokenRows(*(np.full(len(tokens.keys), -1, np.int64) for _ in TokenRows._fields))
        rows.items[~attribute_L] = self.items.admit(tokens.keys[~attribute_L], tokens.ts_ms[~attribute_L])
        rows.attributes[attribute_L] = self.features.admit(tokens.keys[attribute_L], tokens.ts_ms[attribute_L])
        rows.actions[acted_L] = self.features.admit(tokens.actions[acted_L], tokens.ts_ms[acted_L])
        return rows

    def _answered(self, questions: Questions, batch: RowBatch) -> Questions:
        """Return the questions over the vocabulary as it is after admission."""
        return replace(
            questions,
            targets=batch.positives(),
            rows=np.where(batch.tokens.kinds == Kind.ACTION, batch.rows.items, -1),
            keys=self.items.keys,
            born_ms=self.items.born_ms,
            live=~self.items.withdrawn,
        )

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take catalogue records in; a withdrawn item is no candidate and no negative until it comes back."""
        for record in records:
            if not self.catalogue.apply(record):
                continue
            if isinstance(record, Tombstone):
                self.items.withdraw(record.key, record.ts_ms)
            else:
                self.items.restore(record.key)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        return {
            **prefixed("items.", self.items.state()),
            **prefixed("features.", self.features.state()),
            **prefixed("catalogue.", self.catalogue.state()),
        }

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace everything by what a state holds."""
        self.items = Vocabulary.from_state(under("items.", arrays))
        self.features = Vocabulary.from_state(under("features.", arrays))
        self.catalogue = Catalogue.from_state(under("catalogue.", arrays))
