"""From flags to a source: exactly one, with the options that belong to it, and how it is to be joined."""

from pathlib import Path

import pytest

from sim.dirichlet.stream import DirichletStream
from sim.errors import SimError
from sim.replay.open_source import describe, open_source, remarks
from sim.replay.options import ReplayOptions
from sim.sources.recorded_log import RecordedLog
from stream.config import StreamSettings

LOG = "who,what,when\na,x,1000\nb,x,87400\nb,y,87401\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three events of two users on two items, on two days."""
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    return path


def test_a_file_is_read_by_the_columns_that_are_named(log: Path) -> None:
    """What it holds is one sentence; the settings of the joiner stay as they are."""
    opened = open_source(
        ReplayOptions(log=[str(log)], log_flags={"user": "who", "item": "what", "time": "when", "limit": 2})
    )
    assert isinstance(opened.source, RecordedLog)
    assert len(opened.source) == 2
    whole = open_source(ReplayOptions(log=[str(log)], log_flags={"user": "who", "item": "what", "time": "when"}))
    assert describe(whole.source) == (
        f"{whole.source.name}: 3 events of 2 users on 2 items, from 1970-01-01 to 1970-01-02; "
        "times are integer seconds."
    )
    assert opened.fit(StreamSettings()) == StreamSettings()
    assert opened.remark == ""


@pytest.mark.parametrize(("towers", "said"), [(("click",), True), (("click", "buy"), False)])
def test_positives_without_a_tower_are_said(tmp_path: Path, towers: tuple[str, ...], said: bool) -> None:
    """Where items are shown; actions that are no positive need none."""
    path = tmp_path / "log.csv"
    path.write_text("user,item,ts,act\na,x,1000,impression\na,x,1001,buy\nb,x,1002,impression\nb,x,1003,hide\n")
    source = open_source(ReplayOptions(log=[str(path)], log_flags={"action": "act"})).source
    assert isinstance(source, RecordedLog)
    sentence = 'No click probability is learnt for buy: set model.rank_actions = ["buy"] in hstu.toml.'
    assert (sentence in remarks(source, StreamSettings(), ("hide",), towers)) == said


def test_a_synthetic_streams_records_are_joined_whole() -> None:
    """Its size, seed and limit are the flags'; an example has room for a record."""
    opened = open_source(ReplayOptions(synthetic="dirichlet", records=30, seed=5, log_flags={"limit": 77}))
    assert isinstance(opened.source, DirichletStream)
    settings = opened.source.settings
    assert (settings.records, settings.seed, len(opened.source)) == (30, 5, 77)
    assert opened.fit(StreamSettings()).gather_targets == settings.length
    assert describe(opened.source).startswith("dirichlet: 77 events from ")


def test_a_scenario_says_how_it_is_joined(tmp_path: Path) -> None:
    """Its events are the flag's, and table [stream] of its file decides."""
    (tmp_path / "mine.toml").write_text("[base]\nevents = 900\n[stream]\ngather_s = 7\n")
    opened = open_source(ReplayOptions(scenario=str(tmp_path / "mine.toml"), events=300, seed=3))
    assert len(opened.source) == 300
    assert opened.fit(StreamSettings()).gather_s == 7
    again = open_source(ReplayOptions(scenario=str(tmp_path / "mine.toml"), events=300, seed=4))
    assert again.source.fingerprint != opened.source.fingerprint


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ReplayOptions(), r"or --synthetic dirichlet\.$"),
        (ReplayOptions(dataset="movielens", scenario="shock"), r"; 2 are given\.$"),
        (ReplayOptions(synthetic="poisson"), "no synthetic stream 'poisson'; known are dirichlet"),
        (ReplayOptions(synthetic="dirichlet", events=5), "--events belongs to --scenario; remove it here"),
        (
            ReplayOptions(synthetic="dirichlet", log_flags={"rating_as": "view"}),
            "--rating-as belongs to a recorded log",
        ),
        (ReplayOptions(scenario="shock", log_flags={"limit": 5}), "--limit belongs to a recorded log"),
        (ReplayOptions(scenario="shock", log_flags={"items": "i"}), "--items belongs to a recorded log"),
        (ReplayOptions(dataset="movielens", seed=0), "--seed belongs to --synthetic dirichlet"),
        (ReplayOptions(dataset="movielens", log_flags={"items": "i"}), "--items belongs to a LOG file"),
        (ReplayOptions(log=["a.csv"], events=5), "--events belongs to --scenario"),
        (ReplayOptions(log=["a.csv"], records=5), "--records belongs to --synthetic dirichlet"),
    ],
)
def test_an_option_of_another_source_is_refused(options: ReplayOptions, sentence: str) -> None:
    """By the flag's name and its owner, before anything is read."""
    with pytest.raises(SimError, match=sentence):
        open_source(options)
