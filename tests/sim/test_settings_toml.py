"""`hstu settings`: what it prints is a configuration."""

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from sim.config import Settings, load
from sim.main import app
from sim.settings_toml import settings_page


def test_the_page_is_the_settings(tmp_path: Path) -> None:
    """Read again it is the same; a value that is not the default is marked."""
    settings = load(None, {"train.seed": 7, "stream.topic_prefix": "live-", "data_dir": tmp_path})
    text = settings_page(settings)
    assert Settings(**tomllib.loads(text)) == settings
    assert "seed = 7  # default: 0\n" in text
    assert text.count("# default") == 3


def test_a_secret_is_not_shown() -> None:
    """Only that it is set, so that the page can be kept."""
    settings = Settings(kafka={"sasl.password": "hunter2", "sasl.username": "ann"})
    text = settings_page(settings)
    assert "hunter2" not in text
    assert '# "sasl.password" is set, and not shown\n' in text
    assert tomllib.loads(text)["kafka"]["sasl.username"] == "ann"


def test_every_key_is_there_with_its_meaning() -> None:
    """All keys of all tables; choices are named."""
    printed = CliRunner().invoke(app, ["settings"]).output
    tables = {name: value for name, value in tomllib.loads(printed).items() if isinstance(value, dict)}
    assert {name: set(table) for name, table in tables.items()} == {
        name: set(getattr(Settings(), name).model_dump(by_alias=True))
        for name in ("kafka", "stream", "model", "train", "serve")
    }
    assert "further behind than this goes to dead-letters as late.\nlateness_s" in printed
    assert "One of silu, silu_seen, softmax." in printed
