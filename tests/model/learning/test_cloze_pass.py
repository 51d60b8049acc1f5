"""The loss of a replayed pass whose encoder learns from hidden targets, against the same losses example by example."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord
from model.data.entity_index import EntityIndex, RowBatch
from model.learning.cloze import cloze_of, hide
from model.learning.dropout import Dropout
from model.learning.forward_pass import ForwardPass
from model.learning.learner import Learner
from model.learning.negatives import Negatives, draw
from model.network.encoders.masked import MaskedEncoder
from model.network.retrieval_loss import unit
from model.optim.parameters import Parameters
from stream.example import Example, decode, id_key
from tests.factories import make_examples
from tests.model.network.encoders.test_value_loss import literal

TRAIN = TrainSettings(device="cpu", negatives=9, noise_odds=0)
names = pytest.mark.parametrize("name", ["bert4rec", "s3rec"])


def stream(count: int = 12) -> list[Example]:
    [log] = make_examples(count=count, users=4, partitions=1)
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def taken_in(name: str) -> tuple[Parameters, RowBatch, Negatives, EntityIndex]:
    """Return parameters, a micro-batch of them, negatives and the index; most items have genres."""
    model = ModelSettings.model_validate({"encoder": name, "dim": 8, "layers": 1, "heads": 2, "max_len": 64})
    index = EntityIndex(model.rank_actions, ("skip",), item_features=("*",))
    index.learn_items(
        [ItemRecord(id_key(f"item {i}"), f"item {i}", None, {"genre": list("abcd"[: i % 4])}, 0) for i in range(60)]
    )
    weights = Parameters(model, TRAIN, index.item_features)
    batch = index.take_in(stream()).batch
    weights.grow(index.items.keys, len(index.features))
    return weights, batch, draw(index.items.live(), np.ones(len(index.items)), TRAIN, np.random.default_rng(0)), index


def hidden_query(weights: Parameters, batch: RowBatch, hidden_P: Any, target: int) -> tuple[Tensor, Tensor]:
    """Return output and query of one hidden target, from its own example alone."""
    encoder, recommender, tokens = weights.recommender.encoder, weights.recommender, batch.tokens
    assert isinstance(encoder, MaskedEncoder)
    e = int(tokens.owners[batch.targets.positive[target]])
    first = np.searchsorted(tokens.owners[batch.targets.positive], e)
    one = batch.part(e, e + 1)
    count = len(one.targets.positive)
    cloze = cloze_of(one, hidden_P[first : first + count])
    rows = weights.gather(one.rows.items, np.concatenate((one.rows.attributes, one.rows.actions)))
    zero = torch.zeros(1, 8)
    items, features = (torch.cat((table, zero)) for table in (rows.vectors, rows.features.leaf))
    attribute_at, action_at = np.split(rows.feature_at, 2)
    content = items[torch.from_numpy(rows.item_at)] + features[torch.from_numpy(attribute_at)]
    action, kinds = features[torch.from_numpy(action_at)], torch.from_numpy(one.tokens.kinds.astype(np.int64))
    shown, hidden_m = torch.from_numpy(cloze.read), torch.from_numpy(cloze.hidden_m)
    seen = ~hidden_m[:, None]
    x = recommender.embed(content[shown] * seen, action[shown] * seen, kinds[shown], torch.arange(len(shown)))
    y = encoder.both_ways(x, torch.tensor([0, len(shown)]), torch.arange(len(shown)), hidden_m)
    asked = one.targets.positive[target - first]
    own = y[int(np.searchsorted(cloze.read, one.tokens.positions[asked]))][None]
    query = torch.tensor([int(one.tokens.queries[asked])])
    bounds = torch.from_numpy(one.tokens.offsets)
    return own[0], recommender.with_recency(encoder.predicted(own), query, content, kinds, bounds)[0]


@names
def test_the_loss_is_that_of_hidden_targets_one_by_one(name: str) -> None:
    """BERT4Rec's replaces all others; S3Rec's are added to them, with those by features."""
    weights, batch, negatives, index = taken_in(name)
    encoder = weights.recommender.encoder
    replayed = ForwardPass(weights, batch, negatives, Dropout(0.0, 0.0, _after_dropout(batch))).loss(TRAIN)
    plain = ForwardPass(weights, batch, negatives).loss(TRAIN)
    assert replayed is not None
    assert plain is not None
    hidden_P = hide(batch, _after_dropout(batch, masks=2))
    found = weights.gather(np.concatenate((batch.positives(), negatives.rows)), np.arange(len(index.features)))
    item_P, item_K = np.split(found.item_at, [len(hidden_P)])
    log_q = negatives.log_q(negatives.rows)
    requests = batch.tokens.requests[batch.targets.positive]
    of_items, of_values, of_rows = [], [], []
    values = [index.item_features.rows[row][index.item_features.rows[row] >= 0].tolist() for row in batch.positives()]
    compared = sorted({v for row in negatives.rows for v in index.item_features.rows[row].tolist()} - {-1})
    for target in np.flatnonzero(hidden_P).tolist():
        y, query = hidden_query(weights, batch, hidden_P, target)
        score = query @ unit(found.vectors).T / weights.recommender.settings.temperature
        there = set(item_P[requests == requests[target]].tolist())
        others = [(score[n] - float(q)).exp() for n, q in zip(item_K.tolist(), log_q, strict=True) if n not in there]
        own = score[int(item_P[target])].exp()
        of_items.append(-torch.log(own / (own + sum(others))))
        if name == "s3rec":
            of_values.append(literal(y @ encoder.auxiliary.w_map, found.features.leaf, values[target], compared))  # type: ignore[union-attr, operator]
    expected = torch.stack(of_items).mean()
    if name == "s3rec":
        for at, own_values in zip(item_P.tolist(), values, strict=True):
            of_rows.append(literal(found.own[at] @ encoder.auxiliary.w_aap, found.features.leaf, own_values, compared))  # type: ignore[union-attr, operator]
        expected = plain + expected + torch.stack(of_values).float().mean() + 0.2 * torch.stack(of_rows).float().mean()
    assert math.isclose(replayed.item(), expected.item(), rel_tol=2e-5)
    replayed.backward()  # type: ignore[no-untyped-call]
    without = {name for name, weight in weights.recommender.named_parameters() if weight.grad is None}
    towers = {name for name, _ in weights.recommender.named_parameters() if name.startswith("towers.")}
    assert without & {n for n, _ in weights.recommender.named_parameters() if "encoder" in n} == set()
    assert (without >= towers) == (name == "bert4rec")


def _after_dropout(batch: RowBatch, masks: int = 0) -> np.random.Generator:
    """Return the generator of a replayed step after so many masks."""
    rng = np.random.default_rng(3)
    for _ in range(masks):
        rng.random((len(batch.tokens.keys), 8), np.float32)
    return rng


@names
def test_what_is_tested_has_no_hidden_target(name: str) -> None:
    """A first micro-batch is trained as without replay; from the second on the past is read from both sides."""
    digests = {}
    for every in (0, 1):
        model = ModelSettings.model_validate({"encoder": name, "dim": 8, "layers": 1, "heads": 2, "max_len": 64})
        learner = Learner(model, TRAIN.model_copy(update={"replay_every": every}))
        reports = [learner.step(stream()[i : i + 6]) for i in (0, 6)]
        assert all(report.outcome is not None for report in reports)
        digests[every] = [report.loss for report in reports], learner.weights.recommender.state_dict()
    (plain, without), (replayed, with_past) = digests[0], digests[1]
    assert plain == replayed
    hidden = [key for key in without if key.endswith((".mask", "w_mip", "w_p"))]
    assert hidden
    assert not any(torch.equal(without[key], with_past[key]) for key in hidden)
