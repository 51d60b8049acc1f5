"""The static site of the docs: it is built without a warning, reads no other host, and a wrong link is a warning."""

import importlib.util
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mkdocs", reason="the site was not built: there is no mkdocs here (extra docs)")
ROOT = Path(__file__).parents[1]
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]* src=.?(https?:[^\"' >]+)|<link[^>]*stylesheet[^>]*href=.?(https?:[^\"' >]+)"
)


@pytest.fixture(scope="module")
def hooks() -> Any:
    """What mkdocs.yml runs."""
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(hooks: Any, uri: str, markdown: str) -> str:
    return str(hooks.on_page_markdown(markdown, SimpleNamespace(file=SimpleNamespace(src_uri=uri))))


@pytest.mark.parametrize(
    ("uri", "markdown", "expected"),
    [
        ("index.md", "[logs](docs/logs.md#a)", "[logs](logs.md#a)"),
        ("CONTRIBUTING.md", "[a](docs/design.md)", "[a](design.md)"),
        ("logs.md", "[R](../README.md#ask-it)", "[R](index.md#ask-it)"),
        ("performance/gpu.md", "[a](../logs.md), [b](learner.md)", "[a](../logs.md), [b](learner.md)"),
        ("index.md", "![of it](docs/images/dashboard.png)", "![of it](images/dashboard.png)"),
        ("design.md", "[the proof](../stream/backup/partition_backups.py)", "the proof"),
        ("drift.md", "[x](#here) [y](https://a.example/b)", "[x](#here) [y](https://a.example/b)"),
        ("drift.md", "<!-- test: slow -->\n```sh\n", "```sh\n"),
    ],
)
def test_links_lead_within_the_site(hooks: Any, uri: str, markdown: str, expected: str) -> None:
    """Pages of the repository's root are at the site's; sources are no links; comments of the tests go."""
    assert shown(hooks, uri, markdown) == expected


def test_a_link_to_no_source_is_a_warning(hooks: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Which fails the build, since it is strict."""
    with caplog.at_level(logging.WARNING, "mkdocs.hooks"):
        shown(hooks, "design.md", "[gone](../stream/gone.py)")
    assert "design.md links to stream/gone.py, which does not exist." in caplog.text


def build(root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_site_is_whole(tmp_path: Path) -> None:
    """Every page is in it and loads nothing from elsewhere; a link or an anchor that leads nowhere fails the build."""
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for folder in ("stream", "model", "sim"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path / "docs").with_suffix("") for path in (tmp_path / "docs").rglob("*.md")}
    site = {path.relative_to(tmp_path / "site").with_suffix(""): path for path in (tmp_path / "site").rglob("*.html")}
    assert pages < site.keys()
    assert not {name: found for name, path in site.items() if (found := LOADED.findall(path.read_text()))}
    with (tmp_path / "docs" / "drift.md").open("a") as file:
        file.write("\n[nowhere](nowhere.md) and [no anchor](design.md#no-anchor)\n")
    done = build(tmp_path)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
    assert "#no-anchor" in done.stderr
