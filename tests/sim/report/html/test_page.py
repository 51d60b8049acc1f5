"""The page: one self-contained file, the answer first, everything escaped, equal bytes for equal input."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

from sim.report import save_figures, write_report
from tests.sim.report.report_folders import ABOUT, curve, moment, run, runs_of, write

ROOT = Path(__file__).parents[4]
VOID = {"meta", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Checks that tags close in order; collects ids, references and the text of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._note(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "src", "xlink:href", "srcset", "data"):
                self.references.append(value or "")

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def test_the_page_is_one_whole_file_without_outside_references(whole: Path) -> None:
    """Tags close in order, ids are unique, every reference is to an id of the page, no script, under 2 MB."""
    path = write_report(whole)
    assert path == whole / "report.html"
    text = path.read_text()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.references
    assert all(reference.startswith("#") and reference[1:] in page.ids for reference in page.references)
    assert set(re.findall(r"url\((#?)", text)) == {"#"}
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert not page.tags & {"script", "link", "img", "iframe", "image"}
    assert "@import" not in text
    assert len(text) < 2_000_000


def test_the_answer_comes_first_and_everything_asked_for_is_there(whole: Path) -> None:
    """Verdicts before tables, every protocol named, recovery, tuning, costs, the command and the digests."""
    text = Page(write_report(whole).read_text()).text
    order = [
        text.index(words)
        for words in ("The answer", "HSTU, SiLU against HSTU, softmax", "Scenario a: HSTU, SiLU", "silu − softmax")
    ]
    assert order == sorted(order)
    for words in (
        "leads HSTU, softmax by 0.0490 HR@10",
        "excludes 0, 3 seeds",
        "The whole stream, each target tested before it is learned; 1,000 targets a run",
        "The last 10 % of the stream, each target tested before it is learned; 100 targets a run",
        "shock, at 60 % of the stream",
        "8, 8, 8",
        "The choice was made on the same figures",
        "unequal numbers of variants",
        "HR@10 as a fraction of the oracle",
        "hstu compare --preset tiny",
        "a CPU",
        "2.13.0",
        "b2",
    ):
        assert words in text, words
    assert "What is missing" not in text
    assert "Frozen at 90 %" not in text


def test_a_frozen_test_is_shown_where_there_is_one(tmp_path: Path) -> None:
    """The third protocol appears with its own targets; a contestant without such a metric has no row in it."""
    frozen = {f"frozen_{metric}": 0.25 for metric in ("hr10", "hr50", "ndcg10", "mrr")} | {"frozen_targets": 77}
    runs = [run("a", "silu", 0, 0.3, **frozen), run("a", "softmax", 0, 0.2)]
    text = Page(write_report(write(tmp_path, runs)).read_text()).text
    assert "tested with weights frozen at 90 %; 77 targets a run" in text
    assert "0.2500" in text


def test_a_half_finished_folder_says_what_is_missing(tmp_path: Path) -> None:
    """Runs are enough for a page: without curves, moments or an end, with one seed."""
    folder = write(tmp_path, list(runs_of("a", 1))[:2], about=ABOUT | {"finished": None})
    text = Page(write_report(folder).read_text()).text
    assert text.index("What is missing") < text.index("The answer")
    assert "curves.parquet is not there" in text
    assert "has not finished" in text
    assert "0.0500 HR@10 above HSTU, softmax" in text
    assert "on one seed, so without an interval over seeds" in text
    assert "±" not in text.replace("± and brackets", "")


def test_a_lone_contestant_has_a_page(tmp_path: Path) -> None:
    """Without softmax, metrics and settings the page has dashes and a sentence."""
    runs = [run("a", "silu", 0, None, settings=None, train_s=None, parameters=None)]
    text = Page(write_report(write(tmp_path, runs)).read_text()).text
    assert "There is no pair of runs with softmax" in text
    assert "1 runs have no HR@10" in text


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    """Titles, moments and settings are shown as text, whatever they contain."""
    evil = '$x$<script>alert("1")</script>&\'"'
    runs = [
        run(evil, name, 0, 0.1, evil, title=evil, scenario_title=evil, settings=f'{{"x": {{"y": {seed}}}}}')
        for seed, name in enumerate(("silu", "softmax", evil))
    ]
    curves = [curve(str(row["run"]), [0.1] * 100) for row in runs]
    page = Page(
        write_report(write(tmp_path, runs, curves, [moment(evil, 0, 0.5, evil)], ABOUT | {"command": evil})).read_text()
    )
    assert "script" not in page.tags
    assert evil in page.text
    for path in save_figures(tmp_path, tmp_path / "figures"):
        ElementTree.parse(path)


def test_equal_input_gives_equal_bytes(whole: Path) -> None:
    """Another process, with other hashes of strings and another number of threads, writes the same page and plots."""
    write_report(whole)
    save_figures(whole, whole / "here")
    here = (whole / "report.html").read_bytes()
    code = (
        "import sys; from pathlib import Path; from sim.report import save_figures, write_report; "
        "folder = Path(sys.argv[1]); write_report(folder); save_figures(folder, folder / 'there')"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "POLARS_MAX_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code, str(whole)], cwd=ROOT, env=environment, check=True)
    assert (whole / "report.html").read_bytes() == here
    plots = [{path.name: path.read_bytes() for path in (whole / side).iterdir()} for side in ("here", "there")]
    assert plots[0] == plots[1]


def test_a_fall_to_nothing_is_a_figure(tmp_path: Path) -> None:
    """An HR@10 that falls to 0 has a lowest of 0, not a dash; a run that stays at 0 does not recover."""
    folder = write(
        tmp_path, list(runs_of("a", 1))[:1], [curve("a-silu--0", [0.2] * 60 + [0.0] * 40)], [moment("a", 0, 0.6)]
    )
    text = Page(write_report(folder).read_text()).text
    assert "not within the stream" in text
    assert "0.0000 (0 %)" in text


def test_a_log_s_page_begins_with_what_to_choose(tmp_path: Path) -> None:
    """Sentences, standings and settings; gaps are measured from the stack where softmax did not run."""
    spec = json.dumps(
        {"log": {"log": ["own.csv"]}, "stream": {}, "model": {"encoder": "gru", "bias": "none"}, "train": {}}
    )
    runs = [run("own", name, 0, 0.2, settings=spec, late_share=0.5, late_targets=200) for name in ("gru", "stack")]
    curves = [curve(str(row["run"]), [0.2 - 0.1 * place] * 100) for place, row in enumerate(runs)]
    text = write_report(write(tmp_path, runs, curves)).read_text()
    words = " ".join(Page(text).words)
    assert words.index("What to choose") < words.index("The answer")
    assert "gru recommends best in the last 50 %: HR@10 0.2000." in words
    assert 'encoder = "gru"' in words
    assert "The settings of the best network, for hstu.toml:" in words
    assert "The intervals of What to choose are of another kind" in words
    assert "no verdict" not in words
    assert "HR@10 − stack" in words
