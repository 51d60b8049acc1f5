import numpy as np
import pytest
import torch

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord
from model.fusion.log_linear import dense
from model.learning.learner import Learner
from model.serving.scorer import Scorer
from stream.example import TOKEN_DTYPE, Example, id_key
from tests.factories import START_MS
from tests.model.learning.test_learner import batches, stream
from tests.served import snapshot_of

SHAPE = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))


def tokens(example: Example, stop: int) -> np.ndarray:
    """Return the first tokens of an example as a store holds them."""
    found = np.zeros(stop, TOKEN_DTYPE)
    for name, column in (("key", "keys"), ("action", "actions"), ("ts_ms", "ts_ms"), ("kind", "kinds")):
        found[name] = getattr(example, column)[:stop]
    return found


@pytest.fixture(scope="module")
def learner() -> Learner:
    learner = Learner(SHAPE, TrainSettings(negatives=16, device="cpu"))
    learner.learn_items([ItemRecord(id_key(f"item {i}"), f"item {i}", None, {"odd": i % 2}, 0) for i in range(60)])
    for batch in batches(stream(seed=2, users=30, items=60, count=400)):
        learner.step(batch)
    return learner


def test_answers_have_the_score_that_was_tested(learner: Learner) -> None:
    """For the same history, time and candidates: in topk, with and without own items, and in rank."""
    arrays = {
        name: array.numpy() if isinstance(array, torch.Tensor) else np.array(array)
        for name, array in learner.snapshot_arrays(START_MS).items()
    }
    scorer, compared = Scorer(snapshot_of(arrays, SHAPE)), 0
    for example in stream(seed=2, users=30, items=60, count=440)[400:]:
        taken = learner.index.take_in([example])
        if not len(taken.questions) or taken.questions.queries[0] < 0:
            continue
        learner.weights.grow(learner.items.keys, len(learner.features))
        queries_PD = learner._forward_to_test(taken.batch).queries_PD[:1]
        logit_1V = (queries_PD @ learner.weights.unit_items(len(taken.questions.born_ms)).T) / SHAPE.temperature
        encoded = dense(np.ascontiguousarray(logit_1V.numpy()))
        asked = taken.questions.part(slice(1))
        history = scorer.history(tokens(example, int(asked.queries[0]) + 1))
        at_ms = int(asked.request_ms[0])
        for head, seen in (
            (0, np.empty(0, np.int64)),
            (1, np.unique(asked.rows[asked.starts[0] : asked.queries[0] + 1])),
        ):
            wanted_V = learner._fusion._linear.scores(asked, head, encoded)[0]
            rows, scores = scorer.topk(history, at_ms, 10, seen[seen >= 0])
            rows, scores = rows[rows < len(wanted_V)], scores[rows < len(wanted_V)]
            assert scores == pytest.approx(wanted_V[rows], abs=1e-4)
            assert scores[0] == pytest.approx(wanted_V.max(), abs=1e-4)
            compared += len(rows)
        ranked = scorer.rank(history, rows, at_ms).retrieval
        assert ranked == pytest.approx(learner._fusion._linear.scores(asked, 0, encoded)[0][rows], abs=1e-4)
    assert compared > 200


def test_answers_have_the_probabilities_that_were_tested(learner: Learner) -> None:
    """For the same history and time, of the item that stands first in its slate."""
    arrays = {
        name: array.numpy() if isinstance(array, torch.Tensor) else np.array(array)
        for name, array in learner.snapshot_arrays(START_MS).items()
    }
    scorer, compared = Scorer(snapshot_of(arrays, SHAPE)), 0
    for example in stream(seed=2, users=30, items=60, count=440)[400:]:
        batch = learner.index.take_in([example]).batch
        learner.weights.grow(learner.items.keys, len(learner.features))
        tested, found = learner._forward_to_test(batch).outputs(), batch.tokens.positions[batch.targets.shown]
        logits_NA = learner._click(tested, batch, learn=False)["hstu"]
        for target, position, logits_A in zip(batch.targets.shown, found, logits_NA, strict=True):
            if batch.tokens.queries[target] != position - 1 or position == 0:
                continue
            history = scorer.history(tokens(example, position))
            at_ms, row = int(batch.tokens.request_ms[target]), batch.rows.items[position : position + 1]
            if row[0] < len(scorer.items):
                answered = scorer.rank(history, row, at_ms).probabilities[0]
                assert answered == pytest.approx(1 / (1 + np.exp(-logits_A)), abs=1e-4)
                compared += 1
    assert compared > 10
