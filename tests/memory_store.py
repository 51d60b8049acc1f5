"""A store in memory whose batches can be made to fail: a crash before or after a WriteBatch."""

from collections.abc import Iterable, Iterator


class CrashError(Exception):
    """The process is gone."""


class MemoryStore:
    """A stream.store.rocksdb.Store in memory; `data` outlives the crash of a test's process."""

    def __init__(self, data: dict[bytes, bytes]) -> None:
        self.data = data
        self.crash: str | None = None  # "before" or "after" the next write

    def get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def scan(self, prefix: bytes, start: bytes = b"", most: int | None = None) -> Iterator[tuple[bytes, bytes]]:
        found = [key for key in sorted(self.data) if key.startswith(prefix) and key >= start]
        yield from [(key, self.data[key]) for key in found[:most]]

    def scan_back(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from reversed(list(self.scan(prefix)))

    def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        listed = list(changes)
        if self.crash == "before":
            raise CrashError
        for key, value in listed:
            if value is None:
                self.data.pop(key, None)
            else:
                self.data[key] = value
        if self.crash == "after":
            raise CrashError

    def purge(self, prefixes: Iterable[bytes]) -> None: ...

    def close(self) -> None: ...
