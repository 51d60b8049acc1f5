import numpy as np
import torch
from xxhash import xxh3_128

from model.config import ModelSettings, TrainSettings
from model.data.entity_index import EntityIndex, RowBatch
from model.learning.forward_pass import ForwardPass
from model.learning.negatives import Negatives, draw
from model.optim.parameters import Parameters
from stream.example import Example, decode
from tests.factories import make_examples

MODEL = ModelSettings(dim=8, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))


def taken_in() -> tuple[Parameters, RowBatch, Negatives]:
    """Return parameters, a micro-batch of them, and negatives."""
    [log] = make_examples(count=16, partitions=1)
    examples = [message for record in log if isinstance(message := decode(record.value or b""), Example)]
    index, weights = EntityIndex(MODEL.rank_actions, ("skip",)), Parameters(MODEL, TrainSettings(device="cpu"))
    batch = index.take_in(examples).batch
    weights.grow(index.items.keys, len(index.features))
    return (
        weights,
        batch,
        draw(index.items.live(), np.ones(len(index.items)), TrainSettings(negatives=9), np.random.default_rng(0)),
    )


def digest(weights: Parameters) -> str:
    hasher = xxh3_128()
    weights.digest_update(hasher)
    return hasher.hexdigest()


def test_outputs_do_not_depend_on_the_negatives() -> None:
    """The pass that is tested without gradient has the bits of the pass that is trained on."""
    weights, batch, negatives = taken_in()
    with torch.no_grad():
        tested = ForwardPass(weights, batch)
    trained = ForwardPass(weights, batch, negatives)
    assert torch.equal(tested.queries_PD, trained.queries_PD)
    assert torch.equal(tested.logits_NA, trained.logits_NA)
    assert tested.queries_PD.shape == (len(batch.targets.positive), MODEL.dim)
    assert tested.logits_NA.shape == batch.targets.labels.shape


def test_the_loss_is_the_sum_of_both_and_moves_nothing() -> None:
    """Retrieval plus rank_weight times ranking, each there only with its targets; the parameters stay as they are."""
    weights, batch, negatives = taken_in()
    before = digest(weights)
    losses = [
        ForwardPass(weights, batch, negatives).loss(TrainSettings(rank_weight=weight)) for weight in (0.0, 1.0, 3.0)
    ]
    ranking = ForwardPass(weights, batch).loss(TrainSettings())
    assert ranking is not None
    retrieval, both, thrice = (loss.item() for loss in losses if loss is not None)
    assert np.isclose(both, retrieval + ranking.item())
    assert np.isclose(thrice, retrieval + 3 * ranking.item())
    assert digest(weights) == before


def test_the_gradient_reaches_the_rows_that_were_used() -> None:
    """Every row of a token or a negative has a gradient after one step's backward pass; no other row was gathered."""
    weights, batch, negatives = taken_in()
    forward = ForwardPass(weights, batch, negatives)
    loss = forward.loss(TrainSettings())
    assert loss is not None
    loss.backward()
    used = {*batch.rows.items.tolist(), *negatives.rows.tolist()} - {-1}
    assert forward.gathered.items.rows.tolist() == sorted(used)
    for table in (forward.gathered.items, forward.gathered.features):
        assert table.leaf.grad is not None
        assert table.leaf.grad.abs().sum() > 0
