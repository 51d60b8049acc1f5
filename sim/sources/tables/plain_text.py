"""Text files as plain UTF-8 on disk: unpacked, in another encoding or from standard input, they are copied.

The copy lies in a folder of its own that is deleted with the log (TMPDIR decides where). Memory is a block.
"""

import bz2
import codecs
import gzip
import lzma
import shutil
import sys
import zlib
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import zstandard
from xxhash import xxh3_128

from sim.errors import SimError
from sim.sources.tables.scratch import refusing_full

_BLOCK: Final = 1 << 20
_MAGIC: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda file: zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True),
}
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_BOMS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text file that can be read as UTF-8."""

    path: Path
    name: str
    """Of the original, for people."""
    digest: str
    """Of its text."""
    quotes: frozenset[str]
    """Those of the quote characters that occur."""
    whole: bool = True
    """Whether it goes to the end of the original."""


def spooled(path: Path | None, folder: Path) -> Path:
    """Return a file with all that a pipe has, of standard input if it is None; pipes are read once."""
    copy = folder / "pipe"
    with (
        refusing_full(copy),
        copy.open("wb") as out,
        path.open("rb") if path else nullcontext(sys.stdin.buffer) as file,
    ):
        shutil.copyfileobj(file, out, _BLOCK)
    return copy


def plain_text(path: Path, name: str, encoding: str | None, folder: Path, head_bytes: int | None = None) -> PlainText:
    """Return the file, or a copy of it in `folder`, as UTF-8 with lines that end in LF.

    Args:
        path: The file, packed or not.
        name: Its name for people.
        encoding: That of its text, where it has no byte order mark; None: UTF-8.
        folder: Takes the copy.
        head_bytes: Only so much of the text, up to the end of a line, is read; None: all.

    Raises:
        SimError: It cannot be unpacked, or is of another encoding.
    """
    with path.open("rb") as file:
        head = file.read(6)
    if head.startswith(_ZIP):
        raise SimError(f"{name} is a zip archive; unpack it first: unzip {name}")
    opener = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), None)
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            file = stack.enter_context(opener(raw)) if opener else raw
            return _read(file, path, name, encoding, folder, head_bytes, packed=opener is not None)
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile, OSError) as error:
        if opener is None:
            raise
        raise SimError(f"{name} cannot be unpacked: {error}; it may be cut off.") from None


def _read(
    file: IO[bytes], path: Path, name: str, encoding: str | None, folder: Path, head_bytes: int | None, *, packed: bool
) -> PlainText:
    step = min(_BLOCK, head_bytes or _BLOCK)
    block = file.read(step)
    bom = next((found for bom, found in _BOMS.items() if block.startswith(bom)), None)
    encoding = bom or encoding or "utf-8"
    classic_mac = b"\r" in block and b"\n" not in block and bom != "utf-16"
    copied = packed or classic_mac or codecs.lookup(encoding).name != "utf-8" or head_bytes is not None
    target = folder / f"{len(list(folder.iterdir()))}.txt"
    decoder = codecs.getincrementaldecoder(encoding)()
    digest, quotes, line, size = xxh3_128(), set[str](), 1, 0
    whole = True
    with ExitStack() as stack:
        stack.enter_context(refusing_full(target))
        out = stack.enter_context(target.open("wb")) if copied else None
        while block:
            text = _decoded(decoder, block, name, encoding, line)
            line += text.count("\n")
            if classic_mac:
                text = text.replace("\r", "\n")
            plain = text.encode()
            size += len(plain)
            if head_bytes is not None and size >= head_bytes and (end := plain.rfind(b"\n") + 1):
                whole = len(plain) == end and not file.read(1)
                plain = plain[:end]
            digest.update(plain)
            quotes.update(character for character in "\"'" if character in text)
            if out:
                out.write(plain)
            block = file.read(step) if whole else b""
        if whole:
            _decoded(decoder, b"", name, encoding, line, final=True)
    return PlainText(target if copied else path, name, digest.hexdigest(), frozenset(quotes), whole)


def _decoded(
    decoder: codecs.IncrementalDecoder, block: bytes, name: str, encoding: str, line: int, *, final: bool = False
) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        before, wrong = error.object[: error.start], error.object[error.start]
        raise SimError(
            f"Line {line + before.count(10)} of {name} is no {encoding} (byte 0x{wrong:02x}); "
            "name its encoding: --encoding latin-1, cp1252 (Windows) or utf-16."
        ) from None
