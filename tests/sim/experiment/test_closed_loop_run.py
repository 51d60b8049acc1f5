"""Closed loops: the contestant's slates are shown, and their regret is measured by the world's own law."""

import pytest

from sim.experiment.closed_loop_run import ClosedRun
from sim.experiment.run import RunSpec
from sim.experiment.streams import open_stream

SMALL = {"base.events": 3000, "base.users": 40, "base.items": 120, "base.categories": 6, "base.days": 20}
STREAM = {"example_tokens": 32}


def closed(contestant: str, **changes: object) -> dict[str, object]:
    spec = RunSpec(
        scenario="closed-loop",
        overrides=SMALL,
        seed=0,
        contestant=contestant,
        stream=STREAM,
        **changes,  # type: ignore[arg-type]
    )
    return ClosedRun(spec, open_stream("closed-loop", SMALL, 0, STREAM)).run()


def test_a_contestant_that_learns_tastes_has_less_regret_than_the_policy() -> None:
    """In the end co-occurrence shows better slates than the policy; a second run gives the same result."""
    policy, learnt = closed("policy"), closed("co_occurrence")
    assert learnt["late_regret"] < 0.9 * policy["late_regret"]  # type: ignore[operator]
    assert closed("co_occurrence") | {"wall_s": 0, "train_s": 0} == learnt | {"wall_s": 0, "train_s": 0}


def test_a_learner_takes_part() -> None:
    """HSTU recommends and learns from what it has shown."""
    model = {"dim": 8, "layers": 1, "heads": 1, "max_len": 32}
    found = closed("silu", model=model, train={"negatives": 16})
    assert found["examples"] > 100  # type: ignore[operator]
    assert 0 < found["regret"] < 10  # type: ignore[operator]


def test_it_can_be_stopped() -> None:
    """A closed loop that was stopped starts again."""
    from sim.experiment.run import StoppedError

    spec = RunSpec(scenario="closed-loop", overrides=SMALL, seed=0, contestant="policy", stream=STREAM)
    with pytest.raises(StoppedError):
        ClosedRun(spec, open_stream("closed-loop", SMALL, 0, STREAM), stopping=lambda: True).run()
