"""What every baseline is: it scores the candidates of questions, and then learns the answers.

T questions, V rows of the item vocabulary. A baseline is a class in a file of this folder, with a name, a title, and
`scores` and `learn`; nothing else is to be edited (model/baselines/__init__.py finds it). tests/laws.py applies to it.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from model.data.candidates import Questions, unseen

_CELLS: Final = 1 << 22  # scores held at once, 32 MiB


class Baseline(ABC):
    """A rival that counts.

    Args:
        half_life_ms: of event time, in which what it counts fades to half; one that counts nothing has no use for it.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def __init__(self, half_life_ms: int) -> None: ...

    @abstractmethod
    def scores(self, questions: Questions) -> NDArray[np.float64]:
        """Give the score of every item, [T, V]; -inf for one that is no candidate or would not be recommended at all.

        Higher is better, within a question; what questions have in common may be left out.
        """

    @abstractmethod
    def learn(self, questions: Questions) -> None:
        """Learn the answers, after admission: `targets` and `rows` are of the vocabulary that knows all of them."""

    def ranks(self, questions: Questions) -> NDArray[np.float64]:
        """Give the rank of each target, 1 the best, [T]; equal scores share their mean rank, a miss has inf."""
        return np.concatenate([np.empty(0), *(_ranks(self.scores(part), part) for part in _parts(questions))])

    def ranks_unseen(self, questions: Questions) -> NDArray[np.float64]:
        """Give the ranks where the items of a user's own history are no candidates, a target among them a miss."""
        found = [np.empty(0)]
        for part in _parts(questions):
            asked, question_n, row_n = unseen(part)
            score_TV = self.scores(asked)
            score_TV[question_n, row_n] = -np.inf
            found.append(_ranks(score_TV, asked))
        return np.concatenate(found)


def _parts(questions: Questions) -> list[Questions]:
    size = max(1, _CELLS // max(1, len(questions.born_ms)))
    return [questions.part(slice(start, start + size)) for start in range(0, len(questions), size)]


def candidates(questions: Questions) -> NDArray[np.bool_]:
    """Say which items could have been recommended to whom, [T, V]."""
    found_TV: NDArray[np.bool_] = questions.live & (questions.born_ms < questions.request_ms[:, None])
    return found_TV


def among_candidates(score: NDArray[np.float64], questions: Questions) -> NDArray[np.float64]:
    """Give scores, [T, V] or of all questions [V], as [T, V] with -inf where an item is no candidate."""
    return np.where(candidates(questions), score, -np.inf)


def _ranks(score_TV: NDArray[np.float64], questions: Questions) -> NDArray[np.float64]:
    if not score_TV.size:
        return np.full(len(questions), np.inf)
    own_T1 = np.take_along_axis(score_TV, np.maximum(questions.targets, 0)[:, None], 1)
    above_T, level_T = (score_TV > own_T1).sum(1), (score_TV == own_T1).sum(1)
    found_T = questions.possible & (own_T1[:, 0] > -np.inf)
    return np.where(found_T, 1 + above_T + (level_T - 1) / 2, np.inf)
