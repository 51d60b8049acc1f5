"""What every baseline is: it scores the candidates of questions, and then learns the answers.

T questions, V rows of the item vocabulary. A baseline is a class in a file of this folder with a name, a title, and the
methods `scores` and `learn`; nothing else is to be edited (model/baselines/__init__.py finds it, `hstu compare` takes
its name). All that it may know is in `Questions`: histories, births, and by `questions.features(row)` the catalogue's
features of any item, old or just admitted. tests/laws.py holds for it.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from model.counting.rank_counts import CELLS
from model.data.candidates import Questions, exclude_seen as without_seen


class Baseline(ABC):
    """A recommender that counts.

    Args:
        half_life_ms: Event time in which a count decays to half; a baseline without counts ignores it.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def __init__(self, half_life_ms: int) -> None: ...

    @abstractmethod
    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Return the score of every item, [T, V]; -inf for one that is no candidate or is never recommended.

        Higher is better. Scores are compared within a question only, so a common factor may be left out.
        """

    @abstractmethod
    def learn(self, questions: Questions) -> None:
        """Learn the answers. The questions are over the vocabulary after admission, so every item has a row."""

    def step(self, questions: Questions, answered: Questions, *, exclude_seen: bool = False) -> NDArray[np.float64]:
        """Return the ranks of a micro-batch, [T], and learn it.

        Override it where an answer may use the requests before its own in the same micro-batch.

        Args:
            questions: The questions over the vocabulary before admission.
            answered: The same over the vocabulary after it.
            exclude_seen: Whether the items of a user's own history are no candidates.
        """
        rank_T = self.ranks(questions, exclude_seen=exclude_seen)
        self.learn(answered)
        return rank_T

    def ranks(self, questions: Questions, *, exclude_seen: bool = False) -> NDArray[np.float64]:
        """Return the rank of each target, 1 the best, inf for a miss, [T]; equal scores share their mean rank.

        With `exclude_seen` the items of a user's own history are no candidates.
        """
        if not exclude_seen:
            return self.fast_ranks(questions)
        found = [np.empty(0)]
        for part in _parts(questions):
            asked, question_n, row_n = without_seen(part)
            score_TV = self.scores(asked)
            score_TV[question_n, row_n] = -np.inf
            found.append(_ranks(score_TV, asked))
        return np.concatenate(found)

    def fast_ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Return the ranks among all candidates, [T]; override it where they are found faster than by `scores`."""
        return np.concatenate([np.empty(0), *(_ranks(self.scores(part), part) for part in _parts(questions))])


def _parts(questions: Questions) -> Iterator[Questions]:
    size = max(1, CELLS // max(1, len(questions.born_ms)))
    for start in range(0, len(questions), size):
        yield questions.part(slice(start, start + size))


def _ranks(score_TV: NDArray[np.float64], questions: Questions) -> NDArray[np.float64]:
    if not score_TV.size:
        return np.full(len(questions), np.inf)
    own_T1 = np.take_along_axis(score_TV, np.maximum(questions.targets, 0)[:, None], 1)
    return questions.ranks((score_TV > own_T1).sum(1), (score_TV == own_T1).sum(1), own_T1[:, 0] > -np.inf)


def among_candidates(score: NDArray[np.float64], questions: Questions) -> NDArray[np.float64]:
    """Return scores, [T, V] or [V] for all questions alike, as [T, V] with -inf where an item is no candidate."""
    return np.where(questions.candidates(), score, -np.inf)
