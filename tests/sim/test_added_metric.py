"""A metric that is added to METRICS appears wherever metrics are shown, without another change."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

SCRIPT = """
import sys
from pathlib import Path

import model.evaluation.metrics as metrics

metrics.METRICS = (*metrics.METRICS, metrics.hit_rate(20, brief=True))  # before anything else reads the list

import msgspec
from prometheus_client import generate_latest
from rich.console import Console

from model.config import ModelSettings, TrainSettings
from model.trainer.live_table import live_view
from model.trainer.prometheus import TrainerMetrics
from sim.compare.command import Comparison
from sim.compare.jobs import result_path
from sim.compare.plan import Plan
from sim.config import Settings
from sim.experiment.run import Run
from sim.experiment.streams import feed_of, stream_of
from sim.experiment.upper_bounds import ORACLE, upper_bound
from sim.replay.in_process import DirectRun
from sim.replay.summary import print_report
from stream.config import StreamSettings

folder = Path(sys.argv[1])
small = {"events": 300, "users": 20, "items": 40, "categories": 4, "days": 2}
plan = Plan(scenarios=("growth",), contestants=("popularity",), changes=small, stream={"example_tokens": 16})
specs = plan.specs()

settings = Settings(
    data_dir=folder / "data",
    stream=StreamSettings(partitions=1, example_tokens=16),
    model=ModelSettings(dim=8, layers=1, heads=1, max_len=16, bias="none"),
    train=TrainSettings(batch_examples=4, negatives=8),
)
with DirectRun(settings) as run:
    assert run.run(stream_of(specs[0]).scenario.source())
    print("SUMMARY")
    print_report(run)
    print("LIVE")
    Console(width=200).print(live_view(run.training.report))
    exported = TrainerMetrics()
    exported.update(run.training.report)
    print("PROMETHEUS")
    print(generate_latest(exported.registry).decode())

out = folder / "out"
(out / "runs").mkdir(parents=True)
for spec in specs:
    result = upper_bound(spec, stream_of(spec)) if spec.contestant == ORACLE else Run(spec, feed_of(spec)).run()
    result_path(out, spec).write_bytes(msgspec.json.encode(result))
comparison = Comparison(plan, "", out, 1)
comparison.run()
print("COMPARE")
comparison.print_summary()
"""


@pytest.mark.slow
def test_a_metric_is_added_at_one_place(tmp_path: Path) -> None:
    """HR@20 in the live table, the summary of a replay, Prometheus, the results of `hstu compare` and its report."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert done.returncode == 0, done.stderr
    summary, live, prometheus, compare = (
        done.stdout.split(f"{name}\n")[1] for name in ("SUMMARY", "LIVE", "PROMETHEUS", "COMPARE")
    )
    assert "hr@20" in summary.split("LIVE")[0]
    assert "HR@20" in live.split("PROMETHEUS")[0]
    assert 'hstu_hr{k="20",scope="window",scorer="hstu",trainer="silu"}' in prometheus
    assert "HR@20" in compare
    runs = pl.read_parquet(tmp_path / "out" / "runs.parquet")
    for column in ("hr20", "late_hr20", "frozen_hr20"):
        assert ((runs["hr10"] <= runs["hr20"]) & (runs["hr20"] <= runs["hr50"])).all()
        assert runs[column].null_count() == 0
    assert pl.read_parquet(tmp_path / "out" / "curves.parquet")["hr20"].sum() > 0
    assert ">HR@20<" in (tmp_path / "out" / "report.html").read_text()
