"""The live view of the demo, from the metrics that its processes offer to Prometheus."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rich.table import Table

from model.dashboard.scrape import Scrape, scrape

BASELINES: Final = ("stack", "popularity", "last_items")  # the scorers that every trainer tests beside the model
NO_FIGURE: Final = "–"


def figure(value: float | None) -> str:
    """Return a metric with four digits; a dash where nothing has been tested yet."""
    return NO_FIGURE if value is None else f"{value:.4f}"


@dataclass
class View:
    """Reads the metrics of the worker and the trainers, and draws them.

    Args:
        worker: The port of the worker's metrics.
        trainers: Trainer name → port of its metrics.
    """

    worker: int
    trainers: Mapping[str, int]
    seen: dict[str, Scrape] = field(default_factory=dict)
    rate: float = 0.0
    _started_s: float = field(default_factory=time.monotonic)
    _last: tuple[float, float] = (0.0, 0.0)

    def look(self) -> None:
        """Scrape every process; one that does not answer keeps its last numbers."""
        for name, port in {"worker": self.worker, **self.trainers}.items():
            if found := scrape(f"http://127.0.0.1:{port}/metrics"):
                self.seen[name] = found
        events, now_s = self.get("worker", "hstu_events_total"), time.monotonic()
        before_s, before = self._last
        if before_s and now_s > before_s:
            self.rate = max(0.0, (events - before) / (now_s - before_s))
        self._last = (now_s, events)

    def get(self, process: str, name: str) -> float:
        """Return a number as it was last seen, 0 where there was none."""
        return self._seen(process, name) or 0.0

    def shown(self, process: str, name: str) -> str:
        """Return a number as it was last seen as text; a dash where there was none."""
        value = self._seen(process, name)
        return NO_FIGURE if value is None else f"{value:,.0f}"

    def _seen(self, process: str, name: str) -> float | None:
        return self.seen[process].total(name) if process in self.seen else None

    def headline(self) -> str:
        """Return the worker's numbers in one line."""
        events, lag = self.shown("worker", "hstu_events_total"), self.shown("worker", "hstu_lag")
        elapsed = time.monotonic() - self._started_s
        rate = f"{self.rate:,.0f}" if "worker" in self.seen else NO_FIGURE
        return f"{elapsed:4.0f} s  worker {events} events, {rate}/s, lag {lag} messages"

    @property
    def starting(self) -> str:
        """What goes on while no trainer has tested a target yet; empty afterwards."""
        if any(self.get(name, "hstu_tested_targets_total") for name in self.trainers):
            return ""
        return "The trainers load and compile; on a machine that is new to them that takes minutes."

    def line(self) -> str:
        """Return everything in one line, for where no table can be drawn."""
        parts = [self.headline()]
        for name in self.trainers:
            targets, items = self.shown(name, "hstu_tested_targets_total"), self.shown(name, "hstu_items")
            others = ", ".join(f"{scorer} {self._hr(name, scorer)}" for scorer in BASELINES)
            hr = self._hr(name, "hstu")
            parts.append(f"{name} {targets} targets, {items} items, HR@10 {hr} ({others})")
        return "; ".join(parts) + (f". {self.starting}" if self.starting else "")

    def table(self) -> Table:
        """Return the live table: the trainers, then the baselines as the one ahead has them; it fits 80 columns."""
        table = Table(title=self.headline(), title_justify="left", title_style="bold")
        table.caption, table.caption_justify = self.starting or None, "left"
        for column in ("", "targets", "items", "tokens/s", "lag", "HR@10", "lately"):
            table.add_column(column, justify="right" if column else "left")
        names = ("hstu_tested_targets_total", "hstu_items", "hstu_tokens_per_second", "hstu_lag_records")
        for name in self.trainers:
            counts = [self.shown(name, metric) for metric in names]
            table.add_row(f"hstu, {name}", *counts, *self._hit_rates(name, "hstu"))
        ahead = max(self.trainers, key=lambda name: self.get(name, "hstu_tested_targets_total"))
        for scorer in BASELINES:
            table.add_row(scorer, "", "", "", "", *self._hit_rates(ahead, scorer))
        return table

    def _hit_rates(self, trainer: str, scorer: str) -> list[str]:
        """Return HR@10 over all targets, and over the window of the latest."""
        return [self._hr(trainer, scorer, scope) for scope in ("total", "window")]

    def _hr(self, trainer: str, scorer: str, scope: str = "total") -> str:
        seen = self.seen.get(trainer)
        return figure(seen.total("hstu_hr", k="10", scorer=scorer, scope=scope) if seen else None)
