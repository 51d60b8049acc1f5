"""What a run knows by name: both vocabularies and the catalogue. It turns a micro-batch of examples into rows.

L = tokens of a micro-batch, P = retrieval targets, N = ranking targets. A recommender keeps one index and takes each
micro-batch in by two calls: `ask` returns its questions over the vocabulary as it is, `admit` adds its new ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import prefixed, under
from model.data.candidates import Questions, ask
from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.item_age import age_slice
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
class AskedBatch:
    """A micro-batch with its retrieval questions, before its ids are admitted."""

    examples: Sequence[Example]
    tokens: PackedBatch
    targets: Targets
    questions: Questions  # P of them
    slices: NDArray[np.intp]  # [P] age of each retrieval target, index into item_age.SLICES
    rank_slices: NDArray[np.intp]  # [N] age of each ranking target


@dataclass(frozen=True, slots=True, eq=False)
class AdmittedBatch:
    """A micro-batch by rows: what a model reads."""

    tokens: PackedBatch
    targets: Targets
    rows: TokenRows

    def positives(self) -> NDArray[np.int64]:
        """Return the item row of each retrieval target, [P]."""
        return self.rows.items[self.tokens.positions[self.targets.positive]]

    def shortened(self, kept_L: NDArray[np.bool_]) -> "AdmittedBatch":
        """Return the batch with the kept tokens only, which must include those that its targets point at."""
        rows = TokenRows(*(column[kept_L] for column in self.rows))
        return AdmittedBatch(shortened(self.tokens, kept_L), self.targets, rows)


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

    def ask(self, examples: Sequence[Example]) -> AskedBatch:
        """Return the questions of a micro-batch; nothing is admitted."""
        tokens = collate(examples)
        targets = self._selector.select(tokens)
        every = ask(tokens, self.items, self.catalogue)
        age_T = age_slice(every.target_born_ms, every.request_ms)
        questions = every.part(targets.positive)
        return AskedBatch(examples, tokens, targets, questions, age_T[targets.positive], age_T[targets.shown])

    def admit(self, asked: AskedBatch) -> tuple[AdmittedBatch, Questions]:
        """Add rows for new ids and learn texts; return the batch by rows, and its answered questions.

        The answered questions are over the vocabulary after admission: what a baseline learns from.
        """
        tokens = asked.tokens
        attribute_L, acted_L = tokens.kinds == Kind.ATTRIBUTE, tokens.actions != NO_KEY
        rows = TokenRows(*(np.full(len(tokens.keys), -1, np.int64) for _ in TokenRows._fields))
        rows.items[~attribute_L] = self.items.admit(tokens.keys[~attribute_L], tokens.ts_ms[~attribute_L])
        rows.attributes[attribute_L] = self.features.admit(tokens.keys[attribute_L], tokens.ts_ms[attribute_L])
        rows.actions[acted_L] = self.features.admit(tokens.actions[acted_L], tokens.ts_ms[acted_L])
        for example in asked.examples:
            keys = example.text_keys.tolist()
            self.items.learn_texts(keys, example.texts)
            self.features.learn_texts(keys, example.texts)
        batch = AdmittedBatch(tokens, asked.targets, rows)
        return batch, self._answered(asked.questions, batch)

    def _answered(self, questions: Questions, batch: AdmittedBatch) -> Questions:
        return replace(
            questions,
            targets=batch.positives(),
            rows=batch.rows.items,
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
