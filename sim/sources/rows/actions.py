"""What a row says of its item: the name of an action, a label of 0 or 1, a rating, or that it was only shown."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import polars as pl

from sim.sources.tables.cells import (
    NEGATIVE_LABELS,
    NO_VALUES,
    POSITIVE_LABELS,
    SHOWN_ACTIONS,
    Fault,
    are_labels,
    id_faults,
    numbers_of,
    texts_of,
)

_PAIRS: Final = (  # labels beside those of 0 and 1: not clicked, clicked
    ("-1", "1"),
    ("-1.0", "1.0"),
    ("nein", "ja"),
    ("non", "oui"),
    ("no", "si"),
    ("no_click", "click"),
    ("noclick", "click"),
    ("not_clicked", "clicked"),
    ("none", "click"),
    ("none", "clicked"),
)
_NEGATIONS: Final = (*NEGATIVE_LABELS, *(no for no, _ in _PAIRS), "-1", "no_action", "not_click", "unclicked")


NO_LABEL: Final = "is no label, 0 or 1, as the first rows have"


class Actions(NamedTuple):
    """What rows say, [rows]."""

    names: pl.Series
    """Name of the action, null where there is none."""
    values: pl.Series
    """f64, a rating, or null."""
    shown: pl.Series
    """Whether the row says that its item was shown."""
    faults: list[Fault]


class ActionReader:
    """Reads what rows say of their items.

    Args:
        action: Column of actions or labels, or None.
        rating: Column of ratings, or None.
        positive_from: Least rating that is a `like`.
        low: Name of lower ones; None: they are no action.
        sample: The first cells of `action`, where labels are understood.
    """

    def __init__(
        self,
        action: str | None,
        rating: str | None,
        positive_from: float | None,
        low: str | None,
        sample: Sequence[pl.Series],
    ) -> None:
        self._action, self._rating, self._positive_from, self._low = action, rating, positive_from, low
        self.named = action is not None or rating is not None
        """Whether a column says what was done."""
        self.yes = "1"
        """The label of what was clicked, for people."""
        self._negative: tuple[str, ...] = NEGATIVE_LABELS
        self._positive: tuple[str, ...] = POSITIVE_LABELS
        self.by_label = self.blank_is_no = False
        if sample:
            self._decide(_as_label(pl.concat([texts_of(cells) for cells in sample])))

    def _decide(self, names: pl.Series) -> None:
        given = names.filter(~_is_missing(names))
        words = set(names.filter(~_is_missing(names) | (names == "none")).unique())
        pair = next((pair for pair in _PAIRS if set(pair) == words), None)
        if pair is not None:
            self._negative, self._positive, self.yes = (pair[0],), (pair[1],), pair[1]
        self.by_label = pair is not None or are_labels(names)
        self.blank_is_no = self.by_label and len(given) < len(names) and not given.is_in(self._negative).any()

    def read(self, frame: pl.DataFrame) -> Actions:
        """Return what the rows of a batch say."""
        nothing = pl.repeat(None, len(frame), dtype=pl.Float64, eager=True)
        no = pl.repeat(False, len(frame), dtype=pl.Boolean, eager=True)
        if self._rating is not None:
            values, faults = numbers_of(frame[self._rating])
            names = self._of_ratings(values)
            return Actions(names, values, names.is_null(), faults)
        if self._action is None:
            return Actions(pl.repeat("click", len(frame), eager=True), nothing, no, [])
        texts = texts_of(frame[self._action]).str.strip_chars()
        missing = _is_missing(texts)
        if not self.by_label:
            shown = _small(texts).is_in(SHOWN_ACTIONS).fill_null(False)
            _, long, _, *odd = id_faults(texts)
            return Actions(texts.set(missing | shown, None), nothing, shown, [long, *odd])
        small = _as_label(texts)
        clicked = small.is_in(self._positive).fill_null(False)
        labelled = clicked | small.is_in(self._negative).fill_null(False) | (missing if self.blank_is_no else no)
        names = pl.select(pl.when(clicked).then(pl.lit("click"))).to_series()
        fault = Fault(~labelled & ~missing, self._action, NO_LABEL)
        return Actions(names, nothing, labelled, [fault])

    def _of_ratings(self, rating: pl.Series) -> pl.Series:
        if self._positive_from is None:
            return pl.repeat("rate", len(rating), eager=True)
        liked = pl.when(rating >= self._positive_from).then(pl.lit("like")).otherwise(pl.lit(self._low, pl.String))
        return pl.select(liked).to_series()


def negations(names: Sequence[str]) -> list[str]:
    """Return the names of actions that read like none at all: 0, no_click, nein …"""
    return [
        name
        for name, small in zip(names, _as_label(pl.Series(names, dtype=pl.String)), strict=True)
        if small in _NEGATIONS
    ]


def _small(texts: pl.Series) -> pl.Series:
    return texts.str.to_lowercase().str.strip_chars()


def _as_label(texts: pl.Series) -> pl.Series:
    """Return texts in small letters, with _ between their words."""
    return _small(texts).str.replace_all(r"([a-z])[- ]+([a-z])", "${1}_$2")


def _is_missing(texts: pl.Series) -> pl.Series:
    return texts.is_null() | _small(texts).is_in(NO_VALUES).fill_null(False)
