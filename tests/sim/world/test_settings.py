"""The tables of a scenario: what their values may be, what goes together, and what is said of them."""

from pathlib import Path

import pytest

from sim.dirichlet.stream import DirichletSettings
from sim.errors import SimError
from sim.scenarios.scenario import PaperScenario, load_scenario
from sim.world.drifts.rotation import Rotation
from sim.world.drifts.shock import Shock
from sim.world.settings import DirichletScenario, WorldSettings
from tests.sim.world.worlds import ALL, SLATES, written


def test_one_shock_or_several(tmp_path: Path) -> None:
    """A table, or an array of tables."""
    one = load_scenario(written(tmp_path, "[shock]\nat_d = 3\n"))
    several = load_scenario(written(tmp_path, "[[shock]]\nat_d = 3\n[[shock]]\nat_d = 4\nfactor = 9\n"))
    assert [len(made.settings.shock) for made in (one, several)] == [1, 2]  # type: ignore[union-attr]


def test_the_papers_stream_takes_every_key_of_its_generator(tmp_path: Path) -> None:
    """With the generator's defaults."""
    made = load_scenario(written(tmp_path, 'kind = "dirichlet"\n[dirichlet]\nrecords = 7\nzipf = 1.0\nslots = 3\n'))
    assert isinstance(made, PaperScenario)
    assert made.dirichlet == DirichletSettings(records=7, zipf=1.0, slots=3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[shock]\nat_d = 30\n", "shock 1 comes on day 30, but the stream has only 30 days."),
        ("[delay]\nseconds = 5\n", "table [delay] says something about slates, so it needs a table [slates]."),
        ("[position]\n", "table [position] says something about slates, so it needs a table [slates]."),
        ("[slates]\nsize = 50\n[base]\nitems = 40\n", "a slate of 50 is more than the 40 items there at first."),
        ("[base]\nitems = 30\n", "30 items are there at first, which must be as many as the 40 categories; take more"),
        ("[base]\ndays = 0.001\n", "100000 events do not fit into 0.001 days; each needs 10 ms."),
        ("[base]\nusers = 900000\n", "900000 users × 40 categories are more than 20000000; take fewer."),
    ],
)
def test_what_does_not_go_together_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    """Tables that need another, and sizes that leave no room; every error has the file's name."""
    with pytest.raises(SimError) as error:
        load_scenario(written(tmp_path, text))
    assert str(tmp_path / "mine.toml") in str(error.value)
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")


def test_what_lies_just_within_the_limits_is_taken() -> None:
    """A slate of all first items, an item for each category, and 10 ms for each event."""
    base = {"items": 80, "categories": 40, "days": 10 / 86_400, "events": 1000}
    settings = WorldSettings.model_validate({"base": base, "growth": {"first": 0.5}, "slates": {"size": 40}})
    assert settings.first_items == 40


def test_there_is_at_least_one_item_at_first() -> None:
    """A share of the items is rounded down, but not to none; without growth all are there."""
    base = {"items": 9, "categories": 1}
    first = [WorldSettings.model_validate({"base": base, "growth": {"first": share}}) for share in (0.01, 0.99)]
    assert [settings.first_items for settings in first] == [1, 8]
    assert WorldSettings.model_validate({"base": base}).first_items == 9


def test_the_tables_that_are_there_are_listed() -> None:
    """In the order of the fingerprint, without [base], [stream] and what is absent; drifts with their numbers."""
    settings = WorldSettings.model_validate(ALL | SLATES | {"stream": {"gather_s": 3}})
    assert settings.tables() == [
        *("growth", "turnover", "shock", "rotation", "season", "slates", "position", "delay", "noise", "bots"),
    ]
    first = [(number, type(drift)) for number, drift in settings.drifts()][:3]
    assert first == [(0, Shock), (1, Shock), (0, Rotation)]
    still = WorldSettings.model_validate({"stream": {"gather_s": 3}})
    assert (still.tables(), list(still.drifts())) == ([], [])


def test_every_key_of_the_papers_stream_has_its_meaning() -> None:
    """`hstu scenarios show` prints it: the generator's docstring, or a sentence of the table's own."""
    table = type(DirichletScenario(kind="dirichlet").dirichlet)
    meanings = {name: field.description or "" for name, field in table.model_fields.items()}
    assert [name for name, meaning in meanings.items() if not meaning.endswith(".")] == []
    assert meanings["seed"] == "Seed of all random numbers."
    assert "alpha" in meanings["alpha_high"]
