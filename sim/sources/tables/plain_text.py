"""Text files as plain UTF-8 on disk: unpacked, in another encoding or from standard input, they are copied.

The copy lies in a folder of its own that is deleted with the log (TMPDIR decides where). Memory is a block.
"""

import bz2
import codecs
import gzip
import io
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

PIPED: Final = "standard input"
"""Name, for people, of what is no file."""
_BLOCK: Final = 1 << 20
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_MAGIC: Final[dict[bytes, Callable[[Any], Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    _ZSTD: lambda file: io.BufferedReader(_Zstd(file), _BLOCK),
}
_SKIPPABLE: Final = b"\x2a\x4d\x18"  # behind a byte of 0x50 to 0x5f: a frame that pzstd writes before others
_HEAD: Final = 6  # bytes by which packed files are told
_PACKED_NAMES: Final = (".gz", ".bz2", ".xz", ".zst")
_PACKED_BLOCK: Final = 1 << 14
_CONTROL: Final = 9  # bytes below are in no text
_TAR: Final = slice(257, 262)  # of a tar archive: "ustar"
_OTHERS: Final = (  # beginning of a file, what it is, and what makes it one that is read
    (b"PK\x03\x04", "a zip archive", "unpack it first: unzip {}"),
    (b"PK\x05\x06", "a zip archive", "unpack it first: unzip {}"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first: 7z x {}"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first: unrar x {}"),
    (b"\x1f\x9d", "packed by compress", "unpack it first: uncompress {}"),
    (b"\x04\x22\x4d\x18", "packed by lz4", "unpack it first: lz4 -d {}"),
    (b"\xff\x06\x00\x00sNaPpY", "packed by snappy", "unpack it first, or pack it by gzip or zstd"),
    (
        b"SQLite format 3\x00",
        "an SQLite database",
        "export its table: sqlite3 -csv -header {} 'SELECT * FROM t' > t.csv",
    ),
    (b"ARROW1", "an Arrow or Feather file", "write it as Parquet: polars.read_ipc(FILE).write_parquet('log.parquet')"),
    (
        b"FEA1",
        "a Feather file",
        "write it as Parquet: pyarrow.feather.read_table(FILE), then pyarrow.parquet.write_table",
    ),
    (b"ORC", "an ORC file", "write it as Parquet: pyarrow.orc.read_table(FILE), then pyarrow.parquet.write_table"),
    (b"Obj\x01", "an Avro file", "write it as Parquet: polars.read_avro(FILE).write_parquet('log.parquet')"),
    (b"PAR1", "a packed Parquet file", "unpack it first"),
    (b"\x89HDF", "an HDF5 file", "write its table as Parquet or CSV"),
    (b"\x93NUMPY", "a NumPy array", "write it as Parquet or CSV"),
    (b"\xd0\xcf\x11\xe0", "a document of an office program", "save its table as CSV"),
    (b"%PDF", "a PDF document", "give the table itself, as CSV"),
    *(
        (b"\x80" + bytes([n]), "a pickle", "write it as Parquet: pandas.read_pickle(FILE).to_parquet('log.parquet')")
        for n in range(2, 6)
    ),
)
BOM: Final = "\ufeff"
ESCAPED_QUOTE: Final = '\\"'
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
    """Those of the quote characters that occur, of ESCAPED_QUOTE, and BOM where a later line begins with it."""
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
        head = file.read(_HEAD)
    if head[1:4] == _SKIPPABLE and head[0] >> 4 == 5:
        head = _ZSTD
    opener = next((opener for magic, opener in _MAGIC.items() if head.startswith(magic)), None)
    if opener is None:
        _refuse_torn(head, name)
    try:
        with ExitStack() as stack:
            raw = stack.enter_context(path.open("rb"))
            file = stack.enter_context(opener(raw)) if opener else raw
            return _read(file, path, name, encoding, folder, head_bytes, packed=opener is not None)
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile, OSError) as error:
        if opener is None:
            raise
        if "too much memory" in str(error):
            raise SimError(
                f"{name} is packed by zstd with a long window, which takes much memory; unpack it first: zstd -d "
                f"--long=31 {name}"
            ) from None
        raise SimError(f"{name} cannot be unpacked: {error}; it may be cut off.") from None


def _refuse_torn(head: bytes, name: str) -> None:
    """Refuse a file that is packed by its name and does not begin so, nor as a text."""
    if not name.lower().endswith(_PACKED_NAMES):
        return
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.end < len(head) or len(head) < _HEAD:
            raise SimError(
                f"{name} is packed by its name, but does not begin as such a file ({head.hex(' ')}); it may be cut off "
                "or damaged."
            ) from None


def _read(
    file: IO[bytes], path: Path, name: str, encoding: str | None, folder: Path, head_bytes: int | None, *, packed: bool
) -> PlainText:
    step = min(_BLOCK, head_bytes or _BLOCK)
    block = file.read(step)
    _refuse_binary(block, name, packed=packed)
    bom = next((found for bom, found in _BOMS.items() if block.startswith(bom)), None) or _utf_16(block)
    encoding = bom or encoding or "utf-8"
    classic_mac = b"\r" in block and b"\n" not in block and not (bom or "").startswith("utf-16")
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
            quotes.update(each for each in ('"', "'", ESCAPED_QUOTE) if each in text)
            quotes.update([BOM] if f"\n{BOM}" in text or (size > len(plain) and text.startswith(BOM)) else [])
            if out:
                out.write(plain)
            block = file.read(step) if whole else b""
        if whole:
            _decoded(decoder, b"", name, encoding, line, final=True)
    return PlainText(target if copied else path, name, digest.hexdigest(), frozenset(quotes), whole)


def _decoded(
    decoder: codecs.IncrementalDecoder, block: bytes, name: str, encoding: str, line: int, *, final: bool = False
) -> str:
    mend = "name its encoding: --encoding latin-1, cp1252 (Windows) or utf-16."
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        before, wrong = error.object[: error.start], error.object[error.start]
        raise SimError(
            f"Line {line + before.count(10)} of {name} is no {encoding} (byte 0x{wrong:02x}); {mend}"
        ) from None
    except UnicodeError as error:
        raise SimError(f"{name} is no {encoding} ({error}); {mend}") from None


class _Zstd(io.RawIOBase):
    """Unpacks frames of Zstandard, one behind another.

    Raises:
        EOFError: The last frame does not end, of which zstandard's own stream says nothing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._here, self._frame = file, b"", zstandard.ZstdDecompressor().decompressobj()
        self._open = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._here:
            packed = self._frame.unused_data if self._frame.eof else b""
            packed = packed or self._file.read(_PACKED_BLOCK)
            if not packed:
                if self._open:
                    raise EOFError("its last frame does not end")
                return 0
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            self._here = self._frame.decompress(packed)
            self._open = not self._frame.eof
        size = min(len(buffer), len(self._here))
        buffer[:size], self._here = self._here[:size], self._here[size:]
        return size


def _refuse_binary(head: bytes, name: str, *, packed: bool) -> None:
    """Refuse a file that is no text, by its first bytes, or those that were packed in it."""
    inside, file = "holds, unpacked," if packed else "is", "FILE" if name == PIPED else name
    if packed and any(head.startswith(magic) for magic in _MAGIC):
        raise SimError(f"{name} is packed twice; unpack it once.")
    if head[_TAR] == b"ustar":
        raise SimError(f"{name} {inside} a tar archive; unpack it, and name its files or their folder: tar xf {file}")
    if name.lower().endswith(".br"):
        raise SimError(f"{name} is packed by Brotli, by its name; unpack it first: brotli -d {name}")
    for magic, what, mend in _OTHERS:
        after = head[len(magic) : len(magic) + 1]
        if head.startswith(magic) and (min(head) < _CONTROL or not magic.isascii() or not after.isascii()):
            raise SimError(f"{name} {inside} {what}, which is not read; {mend.format(file)}.")


def _utf_16(head: bytes) -> str | None:
    """Return the form of UTF-16 that a text without a byte order mark is in, as every second byte is 0; or None."""
    pairs = head[: len(head) // 2 * 2][:4096]
    first, second = pairs[::2], pairs[1::2]
    if len(first) < 4:
        return None
    zeros = first.count(0) / len(first), second.count(0) / len(second)
    if zeros[0] < 0.01 and zeros[1] > 0.5:
        return "utf-16-le"
    return "utf-16-be" if zeros[1] < 0.01 and zeros[0] > 0.5 else None
