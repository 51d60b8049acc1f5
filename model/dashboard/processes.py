"""Workers and trainers as their /metrics show them: rates, lag, watermark, dead letters."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from model.dashboard.scrape import TIMEOUT_S, Scrape, addresses, fetch

_Figures = dict[str, Any]


class Processes:
    """Scrapes the processes of some addresses.

    Args:
        names: HOST:PORT of each; one name may stand for several replicas.
        clock: Monotonic seconds.
    """

    def __init__(self, names: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._names, self._clock = names, clock
        self._before: dict[str, tuple[float, float]] = {}  # address: when, events taken
        self._trainers: dict[str, str] = {}  # address: name of the trainer that has answered there

    def look(self) -> list[_Figures]:
        """Return the figures of each process; of one that does not answer, its address and whether it has ended."""
        found = [address for name in self._names for address in addresses(name)]
        return [self._one(address) for address in dict.fromkeys(found)]

    def _one(self, address: str) -> _Figures:
        text = fetch(f"http://{address}/metrics", TIMEOUT_S)
        if not text:
            self._before.pop(address, None)
            return self._silent(address)
        scrape = Scrape(text)
        if (name := scrape.label("hstu_steps_total", "trainer")) is not None:
            self._trainers[address] = name
            return {"address": address, **_trainer(scrape)}
        if scrape.total("hstu_events_total") is not None:
            return {"address": address, **_worker(scrape), "events_per_s": self._rate(address, scrape)}
        return {"address": address, "kind": "starting"}

    def _silent(self, address: str) -> _Figures:
        """Return what is known without an answer: a trainer that has answered before ends with its log."""
        if address in self._trainers:
            return {"address": address, "kind": "ended", "name": self._trainers[address]}
        return {"address": address, "kind": None}

    def _rate(self, address: str, scrape: Scrape) -> float | None:
        """Return events a second since the last look; None at the first, or where partitions have moved away."""
        now_s, events = self._clock(), scrape.total("hstu_events_total") or 0.0
        then_s, before = self._before.get(address, (now_s, events))
        self._before[address] = now_s, events
        return (events - before) / (now_s - then_s) if now_s > then_s and events >= before else None


def _worker(scrape: Scrape) -> _Figures:
    return {
        "kind": "worker",
        "events": scrape.total("hstu_events_total"),
        "lag": scrape.total("hstu_lag"),
        "watermark_delay_s": scrape.largest("hstu_watermark_delay_seconds"),
        "waiting_events": scrape.total("hstu_waiting_events"),
        "outbox": scrape.total("hstu_outbox_records"),
        "dead_letters": scrape.by("hstu_dead_letters_total", "reason"),
    }


def _trainer(scrape: Scrape) -> _Figures:
    return {
        "kind": "trainer",
        "name": scrape.label("hstu_steps_total", "trainer"),
        "lag": scrape.total("hstu_lag_records"),
        "tokens_per_s": scrape.total("hstu_tokens_per_second"),
        "targets": scrape.total("hstu_tested_targets_total"),
        "loss": scrape.total("hstu_loss"),
        "items": scrape.total("hstu_items"),
        "event_time_s": scrape.total("hstu_event_time_seconds"),
        "waits_for": scrape.label("hstu_waits_for", "topic"),
    }
