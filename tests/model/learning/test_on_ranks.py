"""Learners on two and three gloo ranks against one process: the same figures; the same bits for the same number."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord
from model.distributed.ranks import Ranks
from model.errors import ModelError
from model.learning.learner import Learner, StepReport
from model.learning.on_ranks import LeadingLearner, follow
from model.network.encoders import ENCODERS
from model.storage.snapshot import as_numpy
from stream.example import Example, decode, id_key
from tests.factories import GAP_MS, START_MS, make_examples
from tests.ranks import on_ranks

MODEL = ModelSettings(dim=16, layers=1, heads=2, max_len=64, rank_actions=("click", "like"))
TRAIN = TrainSettings(batch_examples=8, negatives=16, window_targets=1000)
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "items die": {"item_ttl_d": 10 * GAP_MS / 86_400_000, "max_items": 32},
    "short": {"stochastic_length_alpha": 1.6},
    "seen": {"exclude_seen": True, "fuse_counts": False},
    "bert4rec": {},
    "s3rec": {},
}
Work = Callable[[Learner], Any]


def examples(count: int = 48) -> list[Example]:
    [log] = make_examples(3, items=40, count=count, partitions=1)
    return [message for record in log if isinstance(message := decode(record.value or b""), Example)]


def with_learner(count: int, work: Work, model: ModelSettings = MODEL, train: TrainSettings = TRAIN) -> Any:
    """Return what work returns with a learner of so many ranks."""

    def lead_or_follow(ranks: Ranks) -> Any:
        if ranks.rank:
            return follow(ranks)
        learner = LeadingLearner(model, train, ranks)
        found = work(learner)
        ranks.end()
        return found

    return work(Learner(model, train)) if count == 1 else on_ranks(count, lead_or_follow)[0]


def run(learner: Learner, every: list[Example], size: int = 8) -> list[StepReport]:
    for item, genre in ((3, ["a", "b"]), (5, ["b", "c"]), (7, [])):
        learner.learn_items([ItemRecord(id_key(f"item {item}"), f"item {item}", None, {"genre": genre}, START_MS)])
    return [learner.step(every[i : i + size]) for i in range(0, len(every), size)]


def copied(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.array(array) for name, array in arrays.items()}


def figures(reports: list[StepReport]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return losses, ranks and click logits."""
    outcomes = [report.outcome for report in reports if report.outcome]
    return (
        np.array([report.loss for report in reports]),
        np.concatenate([outcome.ranks.get("encoder", np.empty(0)) for outcome in outcomes]),
        np.concatenate([outcome.logits["encoder"] for outcome in outcomes]),
    )


@pytest.mark.parametrize("case", CASES)
def test_several_ranks_have_the_figures_of_one(case: str) -> None:
    """Within 1e-5 over six steps, each with a replay; with births, deaths, features of items, a short last step."""
    model = MODEL.model_copy(update={"encoder": case} if case in ENCODERS else {})
    train, every = TRAIN.model_copy(update=CASES[case]), examples(41)
    expected = figures(with_learner(1, lambda learner: run(learner, every), model, train))
    for count in (2, 3):
        found = figures(with_learner(count, lambda learner: run(learner, every), model, train))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_same_number_of_ranks_gives_the_same_bits() -> None:
    """Twice, and however the run was cut: a checkpoint of two ranks goes on with two to the same bits."""
    every = examples()

    def whole(learner: Learner) -> str:
        run(learner, every)
        return learner.digest()

    def first_half(learner: Learner) -> dict[str, NDArray[Any]]:
        run(learner, every[:24])
        return copied(learner.state())

    def second_half(learner: Learner) -> str:
        learner.load_state(state)
        run(learner, every[24:])
        return learner.digest()

    digest, state = with_learner(2, whole), with_learner(2, first_half)
    assert with_learner(2, whole) == with_learner(2, second_half) == digest


@pytest.mark.parametrize("before", [1, 3])
@pytest.mark.parametrize("after", [1, 2])
def test_a_checkpoint_is_common_to_any_number_of_ranks(before: int, after: int) -> None:
    """What was loaded is what was saved, to the bit; snapshots are whole as well."""
    every = examples(24)

    def saved(learner: Learner) -> tuple[str, dict[str, NDArray[Any]], dict[str, Any]]:
        run(learner, every)
        state = copied(learner.state())
        return learner.digest(), state, copied(as_numpy(learner.snapshot_arrays(0)))

    def loaded(learner: Learner) -> tuple[str, dict[str, NDArray[Any]], dict[str, Any]]:
        learner.load_state(state)
        state_again = copied(learner.state())
        return learner.digest(), state_again, copied(as_numpy(learner.snapshot_arrays(0)))

    digest, state, snapshot = with_learner(before, saved)
    digest_again, state_again, snapshot_again = with_learner(after, loaded)
    assert digest_again == digest
    for ours, theirs in ((state_again, state), (snapshot_again, snapshot)):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_divergence_stops_all_ranks_with_the_same_sentence() -> None:
    """Also those whose own share was finite."""
    train = TRAIN.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(ModelError, match=r"At step \d of trainer silu: training has diverged"):
        with_learner(2, lambda learner: run(learner, examples()), train=train)


@pytest.mark.parametrize(("name", "value"), [("encoder", "dien"), ("item_rows", 8)])
def test_what_ranks_cannot_share_is_refused(name: str, value: object) -> None:
    """Before anything begins, naming the setting."""
    with pytest.raises(ModelError, match=f"model.{name}.*2 ranks cannot share"):
        on_ranks(2, lambda ranks: ranks.rank or LeadingLearner(MODEL.model_copy(update={name: value}), TRAIN, ranks))
