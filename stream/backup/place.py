"""Where backups lie: a folder of this machine, or a URL of any file system that fsspec knows.

fsspec's file systems raise what they like; here it becomes a BackupError.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import IO, Any, Final

import fsspec
from xxhash import xxh3_128

from stream.errors import BackupError, DamagedError, HstuError

_CHUNK: Final = 4 << 20
_PASSWORD: Final = re.compile(r"(?<=//)[^/@]*@")


class Place:
    """A folder of backups, or one in it.

    Args:
        url: A path, or a URL such as s3://bucket/backups.
        stop: Once it returns true, copies are broken off with a BackupError.

    Raises:
        BackupError: No installed file system serves such a URL.
    """

    def __init__(self, url: str, stop: Callable[[], bool] = lambda: False) -> None:
        self.url = _PASSWORD.sub("", url).rstrip("/")
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except Exception as error:
            raise BackupError(
                f"stream.backup_url {self.url} cannot be used: {error}; give a path, or a URL whose file system is "
                "installed (for s3:// pip install s3fs)."
            ) from None
        self._root = str(root).rstrip("/")
        self._stop = stop

    def under(self, name: str) -> "Place":
        """Return a folder in this one."""
        made = copy(self)
        made.url, made._root = f"{self.url}/{name}", f"{self._root}/{name}"
        return made

    def sizes(self) -> dict[str, int]:
        """Return the names of the files in this folder, in order, with their bytes; none where it does not exist."""
        with self._border("listed"):
            self._files.invalidate_cache()
            try:
                found: list[dict[str, Any]] = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return {}
            files = (each for each in found if each["type"] != "directory")
            sizes = {str(each["name"]).rstrip("/").rpartition("/")[2]: each["size"] or 0 for each in files}
            return dict(sorted(sizes.items()))

    def read(self, name: str) -> bytes:
        """Return the content of a small file."""
        with self._border("read"):
            data: bytes = self._files.cat_file(f"{self._root}/{name}")
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        with self._border("written"):
            self._files.makedirs(self._root, exist_ok=True)
            self._files.pipe_file(f"{self._root}/{name}", data)

    def put(self, path: Path, name: str) -> None:
        """Copy a file of this machine here."""
        with self._border("written"):
            self._files.makedirs(self._root, exist_ok=True)
            with path.open("rb") as source, self._files.open(f"{self._root}/{name}", "wb") as target:
                for chunk in self._chunks(source):
                    target.write(chunk)

    def get(self, name: str, path: Path) -> str:
        """Copy a file from here to this machine, and return its xxh3_128 in hex.

        Raises:
            DamagedError: There is no such file.
        """
        with path.open("wb") as target:
            return self._read(name, target.write)

    def digest(self, name: str) -> str:
        """Return the xxh3_128 of a file, in hex."""
        return self._read(name, lambda chunk: None)

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; one that is gone already is passed over."""
        with self._border("deleted"):
            for name in names:
                try:
                    self._files.rm_file(f"{self._root}/{name}")
                except FileNotFoundError:
                    continue

    def _read(self, name: str, take: Callable[[bytes], object]) -> str:
        digest = xxh3_128()
        with self._border("read"), self._files.open(f"{self._root}/{name}", "rb") as source:
            for chunk in self._chunks(source):
                digest.update(chunk)
                take(chunk)
        return digest.hexdigest()

    def _chunks(self, source: IO[bytes]) -> Iterator[bytes]:
        while chunk := source.read(_CHUNK):
            if self._stop():
                raise BackupError(f"Copying from or to {self.url} was broken off, since the worker stops.")
            yield chunk

    @contextmanager
    def _border(self, what: str) -> Iterator[None]:
        try:
            yield
        except HstuError:
            raise
        except FileNotFoundError as error:
            raise DamagedError(f"The backups in {self.url} lack a file: {error}.") from None
        except Exception as error:
            raise BackupError(f"The backups in {self.url} cannot be {what}: {_text(error)}.") from None


def digest_of(path: Path) -> str:
    """Return the xxh3_128 of a file of this machine, in hex."""
    digest = xxh3_128()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _text(error: Any) -> str:
    return f"{type(error).__name__}: {error}".rstrip(".: ")
