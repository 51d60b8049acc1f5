"""Upper bounds: the figures of the oracle and of the seer as a row beside the contestants."""

import numpy as np
import pytest

from sim.dirichlet.oracle import first_seen, oracle
from sim.dirichlet.stream import DirichletSettings, DirichletStream
from sim.experiment import upper_bounds
from sim.experiment.run import RunSpec
from sim.experiment.streams import open_stream
from sim.experiment.upper_bounds import has_upper_bound, upper_bound

SMALL = {"records": 200, "length": 10, "items": 100, "categories": 8}


def row(scenario: str, **overrides: object) -> dict[str, object]:
    stream = open_stream(scenario, overrides, 3, {})  # type: ignore[arg-type]
    assert has_upper_bound(stream)
    return upper_bound(RunSpec(scenario=scenario, overrides=overrides, seed=3, contestant="oracle"), stream)  # type: ignore[arg-type]


def test_the_oracle_of_all_records_is_the_oracles_mean() -> None:
    """With every record in the sample the row holds plain means, of all records and of the last tenth."""
    stream = DirichletStream(DirichletSettings(seed=3, **SMALL))
    found, whole = row("paper", **SMALL), oracle(stream, range(200), seen_before=first_seen(stream))
    assert found["hr10"] == pytest.approx(whole.expected.hr10.mean())
    assert found["late_hr50"] == pytest.approx(whole.expected.hr50[180:].mean())
    assert found["stderr_hr10"] == pytest.approx(whole.means()["hr10"].stderr, rel=0.01)
    curves = found["curves"]
    assert sum(each["targets"] for each in curves) == 2000  # type: ignore[attr-defined]


def test_a_sample_weighs_the_tenths_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many sampled records of the last tenth as of the rest, the mean is still that of the stream."""
    whole = row("paper", **SMALL)
    monkeypatch.setattr(upper_bounds, "ORACLE_RECORDS", 20)
    part = row("paper", **SMALL)
    error = part["stderr_hr10"]
    assert whole["stderr_hr10"] < error  # type: ignore[operator]
    assert part["hr10"] == pytest.approx(whole["hr10"], abs=4 * error)  # type: ignore[operator]
    assert part["late_hr10"] == pytest.approx(whole["late_hr10"])


def test_the_seer_is_the_worlds() -> None:
    """Means over all clicks, and those of the last tenth of the requests."""
    small = {"events": 800, "users": 40, "items": 60, "categories": 5, "days": 3}
    found = row("growth", **small)
    seer = open_stream("growth", small, 3, {}).scenario.seer()  # type: ignore[union-attr]
    assert found["hr10"] == pytest.approx(float(np.mean(seer.ranks <= 10)))
    assert found["late_mrr"] == pytest.approx(seer.realised(0.9)["mrr"])


def test_a_data_set_has_none() -> None:
    """The best possible ranking of recorded users is not known."""
    assert not has_upper_bound(open_stream("movielens", {}, 0, {}))
