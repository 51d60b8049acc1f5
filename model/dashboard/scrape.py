"""Reading the Prometheus metrics of a process."""

import socket
import urllib.error
import urllib.request
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S: Final = 2.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


def fetch(url: str, timeout_s: float = TIMEOUT_S) -> str:
    """Return the body of an HTTP response; empty if there is none, or an error."""
    try:
        with _DIRECT.open(url, timeout=timeout_s) as response:
            text: str = response.read().decode()
            return text
    except (urllib.error.URLError, OSError, ValueError):
        return ""


def addresses(name: str) -> list[str]:
    """Return every HOST:PORT behind a name of that form; replicas of a service share one name. Unknown: the name."""
    host, _, port = name.rpartition(":")
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)}
    except (OSError, ValueError):
        return [name]
    return sorted(f"[{one}]:{port}" if ":" in str(one) else f"{one}:{port}" for one in found)


class Scrape:
    """The samples of one process at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of all samples of a name that have these labels; None if there are none."""
        values = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(values) if values else None

    def largest(self, name: str) -> float | None:
        """Return the largest sample of a name; None if there is none."""
        return max((s.value for s in self._samples if s.name == name), default=None)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the sums of the samples of a name by the values of a label."""
        sums: dict[str, float] = {}
        for sample in self._samples:
            if sample.name == name and label in sample.labels:
                sums[sample.labels[label]] = sums.get(sample.labels[label], 0.0) + sample.value
        return sums

    def label(self, name: str, label: str) -> str | None:
        """Return a label of the first sample of a name; None if there is no such sample."""
        return next((s.labels.get(label) for s in self._samples if s.name == name), None)
