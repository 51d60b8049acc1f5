"""Scenario files: what is wrong with one is a sentence with the file, the table and the key."""

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.errors import SimError
from sim.scenarios.files import KINDS, checked, find, preset_names, table_model
from sim.scenarios.scenario import WorldScenario, load_scenario
from tests.sim.world.worlds import written


def test_a_file_is_a_scenario(tmp_path: Path) -> None:
    """It is named as the file; absent keys have defaults, drifts without a table do not happen."""
    made = load_scenario(written(tmp_path, 'title = "Mine"\n[base]\nusers = 9\n[noise]\nshare = 0.5\n'))
    assert isinstance(made, WorldScenario)
    assert (made.name, made.title, made.drifts()) == ("mine", "Mine", ["noise"])
    assert (made.settings.base.users, made.settings.base.events) == (9, 100_000)
    assert made.settings.slates is None
    assert load_scenario(str(tmp_path / "mine.toml")) == made


def _tables(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in content.items():
        for table in value if isinstance(value, list) else [value] if isinstance(value, dict) else []:
            yield name, table


def _numbers(table: str, kind: str) -> list[str]:
    fields = table_model(KINDS[kind], table).model_fields
    return [key for key, field in fields.items() if "float" in str(field.annotation)]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_every_number_is_finite(value: float) -> None:
    """In whichever table of whichever preset."""
    tried = set()
    for preset in preset_names():
        text = find(preset).read_text()
        kind = tomllib.loads(text).get("kind", "world")
        for place, (name, _) in enumerate(_tables(tomllib.loads(text))):
            for key in _numbers(name, kind):
                content = tomllib.loads(text)
                [*_tables(content)][place][1][key] = value
                with pytest.raises(SimError, match=f"{key} = |alpha|zipf|share"):
                    checked(content, preset)
                tried.add((name, key))
    assert {("base", "days"), ("shock", "factor"), ("turnover", "lifetime_d"), ("dirichlet", "zipf")} <= tried


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[base]\nevnets = 5\n", "has the key 'evnets' in table [base], which knows events, users, items,"),
        ("[grwth]\nfirst = 1\n", "has the table 'grwth' in the top level, which knows kind, title, description, base,"),
        ("first = 1\n", "has the key 'first' in the top level, which knows"),
        ("[base]\nevents = 0\n", "has events = 0 in table [base], which is refused: input should be greater than"),
        ("[base]\nusers = 'ten'\n", "has users = 'ten' in table [base], which is refused: input should be a valid"),
        ("[turnover]\n", "lacks the key 'lifetime_d' in table [turnover]."),
        ("[turnover]\nlifetime_d = nan\n", "has lifetime_d = nan in table [turnover], which is refused"),
        ("[turnover]\nlifetime_d = 2\nlaw = 'gamma'\n", "has law = 'gamma' in table [turnover], which is refused"),
        (
            "[[shock]]\nat_d = 1\n[[shock]]\nat_d = 2\nfactr = 3\n",
            "has the key 'factr' in table [shock] number 2,",
        ),
        ("growth = 0.4\n", "has growth = 0.4, but growth is a table: write [growth] and its keys under it."),
        ("kind = 'markov'\n", "has kind = 'markov', which is no kind of scenario; known are world, dirichlet."),
        (
            "kind = 'dirichlet'\n[dirichlet]\nuser = 3\n",
            "has the key 'user' in table [dirichlet], which knows seed",
        ),
        ("kind = 'dirichlet'\n[base]\n", "has the table 'base' in the top level, which knows kind, title, description"),
        ("kind =\n", "cannot be read: "),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """Every error has the file's name."""
    with pytest.raises(SimError) as error:
        load_scenario(written(tmp_path, text))
    assert str(tmp_path / "mine.toml") in str(error.value)
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


def test_the_generators_own_refusals_come_through(tmp_path: Path) -> None:
    """What only the generator refuses is reported by its sentence."""
    path = written(tmp_path, 'kind = "dirichlet"\n[dirichlet]\nitems = 10\ncategories = 90\n')
    with pytest.raises(SimError, match=r"Of 10 items the share 0\.4 is there at first"):
        load_scenario(path).source()


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The error says that it may be a file, too."""
    with pytest.raises(SimError, match=r"no scenario 'grwth'; known are bots, .*turnover, and a file of your own"):
        load_scenario("grwth")
    with pytest.raises(SimError, match=r"The scenario nowhere\.toml cannot be read"):
        load_scenario("nowhere.toml")


def test_a_preset_wins_over_a_folder_or_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hstu compare --out shock` makes a folder shock/, and a second run must still find the preset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shock").mkdir()
    (tmp_path / "growth").write_text("[base]\nevents = 7\n")
    (tmp_path / "mine").write_text("[base]\nevents = 7\n")
    assert load_scenario("shock").drifts() == ["shock"]
    assert load_scenario("growth").drifts() == ["growth"]
    assert len(load_scenario("mine").source()) == 7
    (tmp_path / "results").mkdir()
    with pytest.raises(SimError, match="no scenario 'results'"):
        load_scenario("results")
