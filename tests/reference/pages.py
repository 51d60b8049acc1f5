"""The pages of docs/reference: the name of each, and what makes its text."""

from collections.abc import Callable
from pathlib import Path

from tests.reference.cli import cli_page
from tests.reference.events import events_page
from tests.reference.http import http_page
from tests.reference.metrics import metrics_page
from tests.reference.settings import settings_page

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "http.md": http_page,
    "events.md": events_page,
}
