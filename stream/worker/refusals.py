"""A worker's lines about refused records: at the first of each reason, and at every tenfold."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

_log = logging.getLogger("hstu.worker")


class RefusalLog:
    """Logs how many records were refused since the worker took their partitions, by reason, at 1, 10, 100, …"""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}  # reason → the count that is logged next

    def log(self, counts: Iterable[Mapping[str, int]]) -> None:
        """Take the counts of all partitions of this worker, and log those that have grown tenfold."""
        total: Counter[str] = Counter()
        for of_partition in counts:
            total.update(of_partition)
        for reason, count in self._grown(total):
            _log.warning(
                "%d record%s refused as %s and lie%s in dead-letters (hstu dead-letters list).",
                *(count, " was" if count == 1 else "s were", reason, "s" if count == 1 else ""),
            )

    def _grown(self, total: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        for reason, count in total.items():
            if count >= self._next.get(reason, 1):
                self._next[reason] = 10 ** len(str(count))
                yield reason, count
