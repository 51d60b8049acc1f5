"""What a learner knows of the world by name: both vocabularies and the catalogue.

L = tokens of a micro-batch, T = targets. Whoever answers retrieval questions keeps one: first `ask`, then `admit`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.arrays.state import prefixed, under
from model.data.candidates import Questions, ask
from model.data.catalogue import Catalogue, ItemRecord, Tombstone
from model.data.item_age import age_slice
from model.data.labels import Targets
from model.data.micro_batch import Jagged
from model.data.vocabulary import Vocabulary
from stream.example import NO_KEY, Example, Kind


class TokenRows(NamedTuple):
    """Table rows of a micro-batch's tokens, each [L]."""

    items: NDArray[np.int64]  # -1 for attributes
    attributes: NDArray[np.int64]  # of the feature table, -1 for all but attributes
    actions: NDArray[np.int64]  # of the feature table, -1 where there is none


class AgedQuestions(NamedTuple):
    """A micro-batch's questions as they are before its ids are admitted."""

    questions: Questions
    slices: NDArray[np.intp]  # [P] age of each retrieval target, index into item_age.SLICES
    rank_slices: NDArray[np.intp]  # [N] the same of each ranking target


class EntityIndex:
    """Items and features by row, and the catalogue."""

    def __init__(self) -> None:
        self.items, self.features = Vocabulary(), Vocabulary()
        self.catalogue = Catalogue()

    def ask(self, batch: Jagged, targets: Targets) -> AgedQuestions:
        """Put the questions of a micro-batch, before admission."""
        row_L = self.items.rows(batch.keys)
        asked = ask(batch, row_L, targets.positive, self.items)
        shown = ask(batch, row_L, targets.shown, self.items)
        fixed = replace(asked, born_ms=asked.born_ms.copy())  # admission may move births back
        return AgedQuestions(fixed, _ages(asked), _ages(shown))

    def admit(self, batch: Jagged, examples: Sequence[Example]) -> TokenRows:
        """Give every token its rows, new ones where ids are new, and learn the texts that came along."""
        attribute_L, acted_L = batch.kinds == Kind.ATTRIBUTE, batch.actions != NO_KEY
        rows = TokenRows(*(np.full(len(batch.keys), -1, np.int64) for _ in TokenRows._fields))
        rows.items[~attribute_L] = self.items.admit(batch.keys[~attribute_L], batch.ts_ms[~attribute_L])
        rows.attributes[attribute_L] = self.features.admit(batch.keys[attribute_L], batch.ts_ms[attribute_L])
        rows.actions[acted_L] = self.features.admit(batch.actions[acted_L], batch.ts_ms[acted_L])
        for example in examples:
            keys = example.text_keys.tolist()
            self.items.learn_texts(keys, example.texts)
            self.features.learn_texts(keys, example.texts)
        return rows

    def learn_items(self, records: Sequence[ItemRecord | Tombstone]) -> None:
        """Take in what the catalogue says; a withdrawn item is no candidate and no negative until it comes back."""
        for record in records:
            if not self.catalogue.apply(record):
                continue
            if isinstance(record, Tombstone):
                self.items.withdraw(record.key, record.ts_ms)
            else:
                self.items.restore(record.key)

    def state(self) -> dict[str, NDArray[Any]]:
        """Give all of it as arrays, for a checkpoint."""
        return {
            **prefixed("items.", self.items.state()),
            **prefixed("features.", self.features.state()),
            **prefixed("catalogue.", self.catalogue.state()),
        }

    def load_state(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Become what gave this state."""
        self.items = Vocabulary.from_state(under("items.", arrays))
        self.features = Vocabulary.from_state(under("features.", arrays))
        self.catalogue = Catalogue.from_state(under("catalogue.", arrays))


def _ages(questions: Questions) -> NDArray[np.intp]:
    return age_slice(questions.target_born_ms, questions.request_ms)
