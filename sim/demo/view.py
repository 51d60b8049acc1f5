"""What the demo shows while it runs, from the metrics that its processes offer to Prometheus."""

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

TIMEOUT_S: Final = 2.0
RIVALS: Final = ("popularity", "last_items")
_LOCAL: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nothing here goes through a proxy


def fetch(url: str, timeout_s: float = TIMEOUT_S) -> str:
    """Give what an HTTP server of ours answers, or nothing where it does not answer well."""
    try:
        with _LOCAL.open(url, timeout=timeout_s) as answer:
            text: str = answer.read().decode()
            return text
    except (urllib.error.URLError, OSError):
        return ""


class Metrics:
    """The numbers of one process at one moment; those it does not offer are 0."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """Give the sum of all samples of a name that have these labels."""
        return sum(s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items())


@dataclass
class View:
    """Looks at the worker and the trainers, and draws what it saw.

    Args:
        worker: port of the worker's metrics.
        trainers: name → port of their metrics.
    """

    worker: int
    trainers: Mapping[str, int]
    seen: dict[str, Metrics] = field(default_factory=dict)
    rate: float = 0.0
    _started_s: float = field(default_factory=time.monotonic)
    _last: tuple[float, float] = (0.0, 0.0)

    def look(self) -> None:
        """Ask every process; one that does not answer keeps what it said last."""
        for name, port in {"worker": self.worker, **self.trainers}.items():
            if text := fetch(f"http://127.0.0.1:{port}/metrics"):
                self.seen[name] = Metrics(text)
        events, now_s = self.get("worker", "hstu_events_total"), time.monotonic()
        before_s, before = self._last
        if before_s and now_s > before_s:
            self.rate = max(0.0, (events - before) / (now_s - before_s))
        self._last = (now_s, events)

    def get(self, process: str, name: str, **labels: str) -> float:
        """Give a number as it was last seen."""
        return self.seen[process].total(name, **labels) if process in self.seen else 0.0

    def headline(self) -> str:
        """Give the stream's numbers in one line."""
        events, lag = self.get("worker", "hstu_events_total"), self.get("worker", "hstu_lag")
        elapsed = time.monotonic() - self._started_s
        return f"{elapsed:4.0f} s  worker {events:,.0f} events, {self.rate:,.0f}/s, lag {lag:,.0f} messages"

    def line(self) -> str:
        """Give everything in one line, for where no table can be drawn."""
        parts = [self.headline()]
        for name in self.trainers:
            targets, items = self.get(name, "hstu_targets_total"), self.get(name, "hstu_items")
            rivals = f"popularity {self._hr(name, 'popularity'):.4f}, last items {self._hr(name, 'last_items'):.4f}"
            parts.append(
                f"{name} {targets:,.0f} targets, {items:,.0f} items, HR@10 {self._hr(name, 'hstu'):.4f} ({rivals})"
            )
        return "; ".join(parts)

    def table(self) -> Table:
        """Draw the live table: the trainers, then the simple scorers on the same targets; 80 columns suffice."""
        table = Table(title=self.headline(), title_justify="left", title_style="bold")
        for column in ("", "targets", "items", "tokens/s", "lag", "HR@10", "lately"):
            table.add_column(column, justify="right" if column else "left")
        names = ("hstu_targets_total", "hstu_items", "hstu_tokens_per_second", "hstu_lag_records")
        for name in self.trainers:
            counts = [f"{self.get(name, metric):,.0f}" for metric in names]
            table.add_row(f"hstu, {name}", *counts, *self._hit_rates(name, "hstu"))
        first = next(iter(self.trainers))
        for scorer in RIVALS:
            table.add_row(scorer.replace("_", " "), "", "", "", "", *self._hit_rates(first, scorer))
        return table

    def _hit_rates(self, trainer: str, scorer: str) -> list[str]:
        """Give HR@10 over all targets, and over the window of the latest."""
        return [f"{self._hr(trainer, scorer, scope):.4f}" for scope in ("total", "window")]

    def _hr(self, trainer: str, scorer: str, scope: str = "total") -> float:
        return self.get(trainer, "hstu_hr", k="10", scorer=scorer, scope=scope)
