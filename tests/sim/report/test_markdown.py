"""Tables for documents."""

from pathlib import Path

from model.evaluation.metrics import METRICS
from sim.report import markdown
from tests.sim.report.report_folders import run, write


def test_markdown_holds_the_answer_and_a_table_a_scenario_and_protocol(tmp_path: Path) -> None:
    """Rows by HR@10, gaps with intervals, dashes for what is not there; bars in names do not break the table."""
    runs = [
        run("a", name, seed, base + 0.01 * seed, title=title)
        for name, title, base in (("silu", "Si|LU", 0.2), ("softmax", "softmax", 0.1), ("oracle", "Oracle", 0.4))
        for seed in range(2)
    ]
    text = markdown(write(tmp_path, [*runs, run("b", "markov", 0, 0.3)]))
    lines = text.splitlines()
    assert lines[0].startswith("- Scenario a: Si|LU leads softmax by 0.1000 HR@10 (+95.2 %;")
    assert "### Scenario b" in lines
    rows = [line for line in lines if line.startswith("| ")]
    titles = " | ".join(metric.title for metric in METRICS)
    assert rows[0] == f"|  | {titles} | HR@10 − softmax | of the best possible | seeds |"
    assert rows[2].startswith("| Oracle | 0.4050 ± 0.0635 | ")
    assert r"| Si\|LU | 0.2050 ± 0.0635 |" in rows[3]
    assert "| +0.1000 (+95.2 %) [+0.1000, +0.1000] | 50.6 % ± 7.7 | 2 |" in rows[3]
    assert rows[-1] == "| Markov chain | 0.3000 | 0.6000 | 0.1500 | 0.1200 | – | – | 1 |"
    assert len({row.replace(r"\|", "").count("|") for row in rows}) == 1
