"""What the dashboard needs: lines of metrics.jsonl, and a page in headless Chromium."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model.data.item_age import SLICES
from model.evaluation.metrics import ALL, METRICS
from model.evaluation.prequential import SCORERS
from tests.served import NOW_MS

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="there is no chromium with its driver here: apt-get install chromium-driver"
)


def line(name: str, window: int, share: float = 0.25, targets: int = 1000) -> dict[str, Any]:
    """Return a line of metrics.jsonl, in which the scorer in place p has `share` less a tenth for each place."""
    retrieval = {}
    for place, scorer in enumerate(SCORERS):
        own = {"targets": targets} | {metric.key: share * (1 - place / 10) for metric in METRICS}
        scope = {age: own if age in (ALL, "old") else own | {"targets": 0} for age in (*SLICES, ALL)}
        retrieval[scorer] = {"window": scope, "total": scope}
    counts = {"step": 10 * window, "targets": targets * window, "items": 20 + window, "born": 25 + window, "expired": 5}
    return {
        "wall_s": NOW_MS / 1000 + window,
        "name": name,
        "event_ms": NOW_MS + 60_000 * window,
        "loss": 5.0,
        "evicted": 0,
        **counts,
        "drift": [],
        "drift_recovering": False,
        "test_share": 1.0,
        "retrieval": retrieval,
    }


def write_lines(data_dir: Path, name: str, *lines: dict[str, Any]) -> Path:
    """Append lines to a trainer's metrics.jsonl."""
    path = data_dir / "train" / name / "metrics.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(one) + "\n" for one in lines)
    return path


@contextmanager
def browser(width: int = 1280, height: int = 900, *, dark: bool = False) -> Iterator[Any]:
    """Yield a headless Chromium that keeps the messages of its console."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-gpu"):
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield driver
    finally:
        driver.quit()
