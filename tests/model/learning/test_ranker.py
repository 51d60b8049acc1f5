import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from model.config import ModelSettings, TrainSettings
from model.learning.ranker import Ranker
from model.network.retrieval_loss import unit
from model.optim.parameters import Parameters
from tests.batches import Quiz, quizzes

MODEL, TRAIN = ModelSettings(dim=8, layers=1, heads=2, max_len=16), TrainSettings(device="cpu")
WEIGHTS = Parameters(MODEL, TRAIN)
WEIGHTS.grow(np.arange(4, dtype=np.uint64), 0)


def by_hand(scores: list[float], quiz: Quiz, t: int, *, exclude_seen: bool) -> list[int]:
    """Return question t's candidates, the best first."""
    left = quiz.candidates(t) - (set(quiz.histories[t]) if exclude_seen else set())
    return sorted(left, key=lambda v: -scores[v])


@given(quizzes(), st.booleans())
@settings(deadline=None)
def test_targets_have_their_place_among_the_candidates(quiz: Quiz, exclude_seen: bool) -> None:
    """Ranks are by cosine, and leave the cosines as they were; what is no candidate is a miss."""
    queries_PD = unit(torch.randn(len(quiz.targets), MODEL.dim, generator=torch.Generator().manual_seed(1)))
    score_PV = (queries_PD @ unit(WEIGHTS.items.rows).T).tolist()
    side = Ranker(WEIGHTS, exclude_seen=exclude_seen)
    cosine_PV = side.cosines(queries_PD, len(WEIGHTS.items))
    kept_PV = cosine_PV.clone()
    ranks = side.ranks(cosine_PV, quiz.questions).tolist()
    assert torch.equal(cosine_PV, kept_PV)
    for t, target in enumerate(quiz.targets):
        order = by_hand(score_PV[t], quiz, t, exclude_seen=exclude_seen)
        assert ranks[t] == (order.index(target) + 1 if target in order else np.inf)
