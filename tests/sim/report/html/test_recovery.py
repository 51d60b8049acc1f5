"""Recovery as tables: one for each moment, each seed's time and the median."""

from pathlib import Path

from sim.report.analysis.results import Results, read_results
from sim.report.html.elements import Cell
from sim.report.html.recovery import recovery_of
from tests.sim.report.report_folders import curve, moment, one, run, shocked, write


def back_after(results: Results) -> tuple[str, list[str]]:
    """Return text and small lines of the one contestant's time."""
    found = recovery_of(results, "a")
    assert found is not None
    ((row,),) = [table.rows for table in found.tables]
    shown = row.cells[1]
    assert isinstance(shown, Cell)
    return shown.text, list(shown.below)


def test_a_scenario_without_moments_has_no_tables(tmp_path: Path) -> None:
    """Nothing can be recovered from."""
    assert recovery_of(one(tmp_path, curve("a-silu--0", [0.2] * 100)), "a") is None


def test_each_moment_has_a_table_in_the_order_of_the_stream(tmp_path: Path) -> None:
    """A row for each contestant, the best first; its caption says when it was."""
    runs = [run("a", "softmax", 0, 0.1), run("a", "silu", 0, 0.2)]
    curves = [curve(str(row["run"]), shocked(9)) for row in runs]
    moments = [moment("a", 0, 0.6), moment("a", 0, 0.25, "calm")]
    found = recovery_of(read_results(write(tmp_path, runs, curves, moments)), "a")
    assert found is not None
    assert [table.caption for table in found.tables] == ["calm, at 25 % of the stream", "shock, at 60 % of the stream"]
    for table in found.tables:
        names = [cell.text for cell in (row.cells[0] for row in table.rows) if isinstance(cell, Cell)]
        assert names == ["HSTU, SiLU", "HSTU, softmax"]
    assert found.tables[1].rows[0].cells[2:] == ["9 seconds", "0.2000", "0.1000 (50 %)"]


def test_times_of_all_seeds_stand_beside_their_median(tmp_path: Path) -> None:
    """Less than a hundredth is 0; one seed needs no median."""
    curves = [curve(f"a-silu--{seed}", shocked(down)) for seed, down in enumerate((0, 5, 12))]
    at = [moment("a", None, 0.6)]
    assert back_after(one(tmp_path / "1", *curves, moments=at)) == ("0, 5, 12", ["median 5"])
    single = curve("a-silu--0", shocked(12))
    assert back_after(one(tmp_path / "2", single, moments=at)) == ("12", [])


def test_what_did_not_come_back_counts_as_last(tmp_path: Path) -> None:
    """A dash, which is explained; with most seeds lost the median is lost, and with all of them there is a sentence."""
    at = [moment("a", None, 0.6)]

    def lost(folder: str, *downs: int) -> tuple[str, list[str]]:
        curves = [curve(f"a-silu--{seed}", shocked(down)) for seed, down in enumerate(downs)]
        return back_after(one(tmp_path / folder, *curves, moments=at))

    assert lost("1", 5, 40, 6) == ("5, –, 6", ["median 6", "–: not within the stream (1 of 3 seeds)"])
    assert lost("2", 40, 5, 40) == (
        *("–, 5, –", ["median not within the stream", "–: not within the stream (2 of 3 seeds)"]),
    )
    assert lost("3", 40, 40) == ("not within the stream", [])


def test_it_says_what_chance_alone_does(tmp_path: Path) -> None:
    """300 targets at 0.25: a tenth."""
    found = recovery_of(one(tmp_path, curve("a-silu--0", [0.25] * 100), moments=[moment("a", 0, 0.6)]), "a")
    assert found is not None
    assert "3 hundredths hold about 300 targets a run" in found.how
    assert "moves by about 10 % of its size" in found.how
