"""The report's tables as data: which rows and columns there are, and what their cells say."""

from pathlib import Path

from sim.report.analysis.results import Results, read_results
from sim.report.html.elements import Cell, Row, Shown, Table
from sim.report.html.tables import (
    ages_table,
    answer_table,
    costs_table,
    grid_table,
    regret_table,
    runs_table,
    scenario_table,
    section_id,
)
from tests.sim.report.report_folders import curve, run, runs_of, write


def text_of(shown: Shown) -> str:
    """Return the text of a cell and of the lines below it."""
    if isinstance(shown, str):
        return shown
    cells = [shown] if isinstance(shown, Cell) else shown
    return " | ".join(text for cell in cells for text in (cell.text, *cell.below))


def texts(table: Table | None) -> list[list[str]]:
    assert table is not None
    return [[text_of(shown) for shown in row.cells] for row in table.rows]


def titles(table: Table | None) -> list[str]:
    assert table is not None
    return [column.title for column in table.columns]


def cell(row: Row, place: int) -> Cell:
    shown = row.cells[place]
    assert isinstance(shown, Cell)
    return shown


def results_of(folder: Path, *runs: dict[str, object]) -> Results:
    return read_results(write(folder, runs))


def test_each_scenario_has_a_row_in_the_answer(tmp_path: Path) -> None:
    """Gap with size, interval and verdict by each protocol; the best contestant; its share of the bound; a link."""
    runs = [*runs_of("ab", 2, ("silu", "softmax")), *(run("a", "oracle", seed, 0.6) for seed in range(2))]
    table = answer_table(results_of(tmp_path, *runs))
    assert table is not None
    assert titles(table) == [
        "HR@10",
        "silu − softmax, whole stream",
        "silu − softmax, last 10 %",
        "best, whole stream",
        "of oracle",
    ]
    first, second = table.rows
    assert (cell(first, 0).text, cell(first, 0).link) == ("Scenario a", section_id(1))
    assert cell(second, 0).link == section_id(2)
    assert cell(first, 1).text == "+0.0495 (+19.7 %)"
    assert cell(first, 1).verdict == "ahead"
    assert cell(first, 3).below == ["silu"]
    assert cell(first, 4).text == "50.1 %"
    assert text_of(second.cells[4]) == "–"


def test_oracles_alone_answer_nothing(tmp_path: Path) -> None:
    """Without a contestant there is no table; one without softmax has a best and a dash for the gap."""
    assert answer_table(results_of(tmp_path / "1", run("a", "oracle", 0, 0.5))) is None
    assert titles(answer_table(results_of(tmp_path / "2", run("a", "markov", 0, 0.5)))) == [
        "HR@10",
        "best, whole stream",
    ]


def test_the_best_of_each_metric_is_bold_and_an_oracle_never(tmp_path: Path) -> None:
    """Of the contestants alone, even where an oracle is as good; metrics may have different winners."""
    runs = [run("a", "silu", 0, 0.2, mrr=0.01), run("a", "softmax", 0, 0.1, mrr=0.3)]
    runs.append(run("a", "oracle", 0, 0.9, mrr=0.3))
    table = scenario_table(results_of(tmp_path, *runs), "a", "all")
    assert table is not None
    assert titles(table) == ["", "HR@10", "HR@10 − softmax", "of oracle", "HR@50", "NDCG@10", "MRR", "seeds"]
    bold = {
        text_of(row.cells[0]).split(" | ")[0]: [
            title
            for title, shown in zip(titles(table), row.cells, strict=True)
            if isinstance(shown, Cell) and shown.bold
        ]
        for row in table.rows
    }
    assert bold == {"Oracle": [], "HSTU, SiLU": ["HR@10", "HR@50", "NDCG@10"], "HSTU, softmax": ["MRR"]}
    assert [row.look for row in table.rows] == ["oracle", "neural", "neural"]
    assert texts(table)[1][2] == "+0.1000 (+100.0 %) | one seed"


def test_the_caption_says_how_many_targets_a_run_had(tmp_path: Path) -> None:
    """One number where all agree, else the least and the most; a protocol that no run has is no table."""
    results = results_of(tmp_path, run("a", "silu", 0, 0.2), run("a", "softmax", 0, 0.1, late_targets=2345))
    whole, late = (scenario_table(results, "a", protocol) for protocol in ("all", "late"))
    assert whole is not None
    assert whole.caption.endswith("; 1,000 targets a run")
    assert late is not None
    assert late.caption.endswith("; 100 to 2,345 targets a run")
    assert scenario_table(results, "a", "frozen") is None


def test_a_tuned_contestant_says_of_how_many_variants_it_is_the_best(tmp_path: Path) -> None:
    """The chosen one below its name; the grid has all of them, the best first, and nobody with one variant."""
    runs = [run("a", "silu", 0, 0.1), run("a", "silu", 0, 0.3, "learning_rate=0.1"), run("a", "softmax", 0, 0.2)]
    results = results_of(tmp_path, *runs)
    names = [row[0] for row in texts(scenario_table(results, "a", "all"))]
    assert names[0].endswith("silu · learning_rate=0.1 (best of 2)")
    assert "best of" not in names[1]
    grid = texts(grid_table(results, "a"))
    assert [row[1:3] for row in grid] == [["learning_rate=0.1", "0.3000"], ["as the preset", "0.1000"]]


def test_regrets_are_a_table_only_of_closed_loops(tmp_path: Path) -> None:
    """A row for each contestant with the gap's sign and half interval; scenarios of hit rates have none."""
    runs = [
        run("loop", name, seed, None, regret=regret + seed, late_regret=0.5, score_at=None)
        for name, regret in (("silu", 1.0), ("softmax", 1.25))
        for seed in (0, 1)
    ]
    results = results_of(tmp_path, *runs, run("a", "silu", 0, 0.1))
    found = texts(regret_table(results, "loop"))
    assert [row[2:] for row in found] == [["−0.2500 | ± 0.0000", "0.5000 | ± 0.0000", "2"], ["–", *found[1][3:]]]
    assert found[0][1].startswith("1.5000 | ± ")
    assert regret_table(results, "a") is None


def test_costs_span_the_parameters_of_all_runs(tmp_path: Path) -> None:
    """Least to most where they differ; by scenario there is a column and a row for each."""
    runs = [run("a", "silu", 0, 0.1, parameters=1000), run("b", "silu", 0, 0.1, parameters=2500, train_s=20.0)]
    results = results_of(tmp_path, *runs)
    (whole,) = texts(costs_table(results, by_scenario=False))
    assert whole[1:5] == ["15.0", "2.0", "100", "1,000 to 2,500"]
    each = costs_table(results, by_scenario=True)
    assert titles(each)[:2] == ["", "scenario"]
    assert [row[1:6] for row in texts(each)] == [
        ["Scenario a", "10.0", "2.0", "100", "1,000"],
        ["Scenario b", "20.0", "2.0", "100", "2,500"],
    ]


def test_every_run_has_its_digests_as_code(tmp_path: Path) -> None:
    """What a run lacks is a dash."""
    table = runs_table(results_of(tmp_path, run("a", "silu", 7, None, examples_digest="e7")))
    (row,) = table.rows
    assert texts(table) == [["a-silu--7", "7", "–", "1,000", "e7", "–"]]
    assert cell(row, 4).code


def test_everybody_stands_beside_the_others_at_each_age(tmp_path: Path) -> None:
    """The best HR@10 of an age is bold; an age that few targets have is left out, and so is an upper bound."""
    runs = [run("a", "silu", 0, 0.3), run("a", "markov", 0, 0.2), run("a", "oracle", 0, 0.6)]
    rates = {"silu": (0.1, 0.4), "markov": (0.2, 0.3)}
    curves = [
        curve(f"a-{name}--0", [rate] * 2, age=age)
        for name, of_age in rates.items()
        for age, rate in zip(("<1h", "old"), of_age, strict=True)
    ]
    curves += [curve(f"a-{name}--0", [0.5], targets=9, age="<1d") for name in rates]
    table = ages_table(read_results(write(tmp_path, runs, curves)), "a")
    assert titles(table)[1:] == ["<1h, 49 % of targets", "old, 49 % of targets"]
    assert table is not None
    found = [(cell(row, 0).below[0], cell(row, 1).text, cell(row, 1).bold, cell(row, 2).bold) for row in table.rows]
    assert found == [("silu", "0.1000", False, True), ("markov", "0.2000", True, False)]
    assert ages_table(results_of(tmp_path / "none", *runs), "a") is None
