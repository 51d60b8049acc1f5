"""Reading the Prometheus metrics of a process.

Nothing that answers is trusted to be one: an address may be mistyped, or have become another server's.
"""

import math
import socket
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from stream.fetch import FetchError, fetch

TIMEOUT_S: Final = 2.0
_CONNECT_S: Final = 0.5
_MOST_BYTES: Final = 8 << 20  # several times what a worker of 1,000 partitions has


def fetch_text(url: str, timeout_s: float = TIMEOUT_S) -> str:
    """Return the body of an HTTP response; empty if there is none in time, or an error."""
    try:
        answer = fetch(url, timeout_s=timeout_s, most_bytes=_MOST_BYTES)
        return answer.body.decode() if answer.status == 200 else ""
    except (FetchError, UnicodeError):
        return ""


def addresses(name: str) -> list[str]:
    """Return every HOST:PORT behind a name of that form; replicas of a service share one name. Unknown: the name."""
    host, _, port = name.rpartition(":")
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)}
    except (OSError, ValueError):
        return [name]
    return sorted(f"[{one}]:{port}" if ":" in str(one) else f"{one}:{port}" for one in found)


def refuses(address: str) -> bool:
    """Return whether nothing listens at a HOST:PORT, as where a process has ended; one that hangs takes connections."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except ConnectionRefusedError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return False


class Scrape:
    """The samples of one process at one moment; those that are no finite number, which JSON does not have, left out.

    Raises:
        ValueError: The text is no metrics.
    """

    def __init__(self, text: str) -> None:
        try:
            samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        except (
            LookupError,
            TypeError,
            AttributeError,
        ) as error:  # of the parser, which takes well-formed text for granted
            raise ValueError("no metrics") from error
        self._samples = [sample for sample in samples if math.isfinite(sample.value)]

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of all samples of a name that have these labels; None if there are none."""
        values = [s.value for s in self._samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(values) if values else None

    def count(self, name: str) -> int:
        """Return how many samples of a name there are."""
        return sum(sample.name == name for sample in self._samples)

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


def scrape(url: str, timeout_s: float = TIMEOUT_S) -> Scrape | None:
    """Return the metrics at a URL; None if nothing answers in time, or what does are none."""
    text = fetch_text(url, timeout_s)
    try:
        return Scrape(text) if text else None
    except ValueError:
        return None
