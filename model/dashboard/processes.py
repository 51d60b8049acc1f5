"""Workers and trainers as their /metrics show them: rates, lag, watermark, dead letters."""

import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from model.dashboard.scrape import TIMEOUT_S, Scrape, addresses, refuses, scrape
from model.storage.checkpoint import farewell, farewell_address

_AT_ONCE: Final = 16  # so that silent ones, of which each takes TIMEOUT_S, are waited for together
_Figures = dict[str, Any]


class Processes:
    """Scrapes the processes of some addresses.

    Args:
        names: HOST:PORT of each; one name may stand for several replicas.
        runs: Folder with a folder of each trainer, in which it leaves its farewell.
        clock: Monotonic seconds.
    """

    def __init__(self, names: Sequence[str], runs: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._names, self._runs, self._clock = names, runs, clock
        self._before: dict[str, tuple[float, dict[str, float]]] = {}  # address: when, events taken by partition
        self._trainers: dict[str, str] = {}  # address: name of the trainer that has answered there
        self._answered_s: dict[str, float] = {}  # address: when it answered last
        self._now_s = 0.0
        self._behind: dict[str, list[str]] = {}  # name: addresses that were last behind it

    def look(self) -> list[_Figures]:
        """Return the figures of each process; of one that does not answer, its address and how it ended, if known.

        "silent_s" is for how long one has not answered that had before.
        """
        self._now_s = self._clock()
        with ThreadPoolExecutor(_AT_ONCE, "scrape") as pool:
            found = [address for each in pool.map(self._addresses, self._names) for address in each]
            scrapes = dict(zip(found, pool.map(_scrape, found), strict=True))
        return [self._one(address, its) for address, its in scrapes.items()]

    def _addresses(self, name: str) -> list[str]:
        """Return the addresses behind a name; of one that is known no more, those of before: they should answer."""
        found = addresses(name)
        if found == [name]:
            return self._behind.get(name, found)
        self._behind[name] = found
        return found

    def _one(self, address: str, scrape: Scrape | None) -> _Figures:
        if scrape is None:
            self._before.pop(address, None)
            return self._silent(address)
        self._answered_s[address] = self._now_s
        if (name := scrape.label("hstu_steps_total", "trainer")) is not None:
            self._trainers[address] = name
            return {"address": address, **_trainer(scrape)}
        if scrape.total("hstu_partitions") is not None:
            return {"address": address, **_worker(scrape), "events_per_s": self._rate(address, scrape)}
        return {"address": address, "kind": "starting"}

    def _silent(self, address: str) -> _Figures:
        """Return what is known without an answer: of a trainer that was there, how it said it ended."""
        one: _Figures = {"address": address, "kind": None}
        if (last_s := self._answered_s.get(address)) is not None:
            one["silent_s"] = self._now_s - last_s
        name = self._trainers.get(address) or self._ended_at(address)
        if name is None:
            return one
        kind = farewell(self._runs / name) or ("lost" if refuses(address) else "silent")
        return {**one, "kind": kind, "name": name}

    def _ended_at(self, address: str) -> str | None:
        """Return the trainer that answered at an address before this server was there, by its farewell."""
        told = ((folder.name, farewell_address(folder)) for folder in sorted(self._runs.glob("[!.]*/")))
        return next((name for name, its in told if its and address in _known_as(its)), None)

    def _rate(self, address: str, scrape: Scrape) -> float | None:
        """Return events a second since the last look, of the partitions that it had then; None at the first.

        What a store that has come or gone had counted is no event of this time; None where a count has fallen.
        """
        now_s, events = self._now_s, scrape.by("hstu_events_total", "partition")
        then_s, before = self._before.get(address, (now_s, {}))
        self._before[address] = now_s, events
        if now_s <= then_s:
            return None
        grown = [events[one] - before[one] for one in events.keys() & before.keys()]
        return sum(grown) / (now_s - then_s) if min(grown, default=0.0) >= 0 else None


def _known_as(address: str) -> set[str]:
    """Return the addresses by which one may be watched; of another host only its name, so that no DNS is waited for."""
    host, _, port = address.rpartition(":")
    if host != socket.gethostname():
        return {address}
    return {address, *addresses(address), *addresses(f"localhost:{port}"), f"127.0.0.1:{port}"}


def _scrape(address: str) -> Scrape | None:
    return scrape(f"http://{address}/metrics", TIMEOUT_S)


def _lag(scrape: Scrape) -> float | None:
    """Return the lag of a worker; None unless it knows that of each source of each partition."""
    return (scrape.total("hstu_lag") or 0.0) if scrape.count("hstu_lag") == scrape.count("hstu_events_total") else None


def _worker(scrape: Scrape) -> _Figures:
    return {
        "kind": "worker",
        "partitions": scrape.total("hstu_partitions"),
        "open": scrape.total("hstu_open_partitions"),
        "events": scrape.total("hstu_events_total") or 0.0,
        "examples": scrape.total("hstu_examples_total") or 0.0,
        "lag": _lag(scrape),
        "watermark_delay_s": scrape.largest("hstu_watermark_delay_seconds"),
        "waiting_events": scrape.total("hstu_waiting_events"),
        "outbox": scrape.total("hstu_outbox_records"),
        "dead_letters": scrape.by("hstu_dead_letters_total", "reason"),
    }


def _trainer(scrape: Scrape) -> _Figures:
    return {
        "kind": "trainer",
        "name": scrape.label("hstu_steps_total", "trainer"),
        "lag": scrape.total("hstu_lag_records"),  # not yet read
        "waiting": scrape.total("hstu_waiting_records"),  # read and not yet learned
        "learned": scrape.total("hstu_learned_examples_total"),
        "tokens_per_s": scrape.total("hstu_tokens_per_second"),
        "targets": scrape.total("hstu_tested_targets_total"),
        "loss": scrape.total("hstu_loss"),
        "items": scrape.total("hstu_items"),
        "event_time_s": scrape.total("hstu_event_time_seconds"),
        "waits_for": scrape.label("hstu_waits_for", "topic"),
    }
