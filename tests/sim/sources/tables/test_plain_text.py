"""Packed and encoded texts: what is unpacked, and what is refused."""

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest
import zstandard

from sim.errors import SimError
from sim.sources.tables.plain_text import PlainText, plain_text

ROWS = b"".join(b"u%d,i%d,%d\n" % (n, n % 7, 1_700_000_000 + n) for n in range(3_000))


def opened(path: Path, content: bytes, head_bytes: int | None = None) -> PlainText:
    path.write_bytes(content)
    folder = path.parent / "scratch"
    folder.mkdir(exist_ok=True)
    return plain_text(path, path.name, None, folder, head_bytes)


def zstd(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=False).compress(content)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_what_is_packed_is_read_whole_or_refused(tmp_path: Path, pack: object) -> None:
    """Several parts behind one another too; cut off anywhere it is refused, never read as if it ended there."""
    assert callable(pack)
    half = len(ROWS) // 2
    assert opened(tmp_path / "log", pack(ROWS[:half]) + pack(ROWS[half:])).path.read_bytes() == ROWS
    packed = pack(ROWS)
    for size in (20, len(packed) // 3, len(packed) - 1):
        with pytest.raises(SimError, match=r"log cannot be unpacked: .*; it may be cut off"):
            opened(tmp_path / "log", packed[:size])


def test_frames_that_are_skipped_hold_nothing(tmp_path: Path) -> None:
    """As pzstd writes them before each frame."""
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    assert opened(tmp_path / "log", skipped + zstd(ROWS) + skipped + zstd(ROWS)).path.read_bytes() == ROWS * 2


def test_a_packed_file_of_a_few_bytes_or_a_long_window_says_so(tmp_path: Path) -> None:
    """What it is, and what to do; a text that is packed by its name alone is read."""
    with pytest.raises(SimError, match=r"log.csv.zst is packed by its name, but does not begin .*28 b5 2f.*cut off"):
        opened(tmp_path / "log.csv.zst", zstd(ROWS)[:3])
    long = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=long).compressobj()
    with pytest.raises(SimError, match=r"by zstd with a long window, .* zstd -d --long=31 log.zst"):
        opened(tmp_path / "log.zst", packer.compress(ROWS) + packer.flush())
    assert opened(tmp_path / "log.csv.gz", ROWS).path.read_bytes() == ROWS


def test_the_beginning_of_what_is_packed_needs_no_end(tmp_path: Path) -> None:
    """A log in time order is unpacked no further than it is needed."""
    text = opened(tmp_path / "log", zstd(ROWS * 8)[:-1], 1000)
    assert not text.whole
    assert ROWS.startswith(text.path.read_bytes())
    assert text.path.read_bytes().endswith(b"\n")


def tar(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("log.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("log.csv.gz", gzip.compress(gzip.compress(ROWS)), "log.csv.gz is packed twice; unpack it once"),
        ("log.tar", tar(ROWS), "is a tar archive; unpack it"),
        ("log.tar.gz", gzip.compress(tar(ROWS)), "holds, unpacked, a tar archive; .*: tar xf log.tar.gz"),
        ("log.parquet.gz", gzip.compress(b"PAR1\x00"), "holds, unpacked, a packed Parquet file"),
        ("log.csv.Z", b"\x1f\x9d\x90u", "packed by compress, .*: uncompress log.csv.Z"),
        ("log.csv.br", b"\x1bG\x00\x04\x00", "packed by Brotli, .*: brotli -d log.csv.br"),
        ("log.csv.lz4", b"\x04\x22\x4d\x18\x64", "packed by lz4, .*: lz4 -d log.csv.lz4"),
        ("log.7z", b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7-Zip archive"),
        ("log.feather", b"ARROW1\x00\x00\xff\xff", r"an Arrow or Feather file, .*read_ipc\(FILE\).write_parquet"),
        ("log.orc", b"ORC\xff\xff", r"an ORC file, .*pyarrow.orc.read_table"),
        ("log.avro", b"Obj\x01\x04\x14", r"an Avro file, .*polars.read_avro"),
        ("log.sqlite", b"SQLite format 3\x00\x10\x00", "an SQLite database, .*: sqlite3 -csv -header log.sqlite"),
        ("log.pkl", b"\x80\x04\x95", r"a pickle, .*pandas.read_pickle"),
        ("log.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office program, .*save its table as CSV"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,  # which holds the time
)
def test_what_is_no_text_is_named_with_what_to_do(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    """By its first bytes, unpacked if it is packed; never by an encoding that does not fit."""
    with pytest.raises(SimError, match=sentence):
        opened(tmp_path / name, content)


@pytest.mark.parametrize("content", [b"ORC_ID,item\n1,2\n", b"PAR1,a,1700000000\n", b"FEA1\n"])
def test_a_text_that_begins_as_another_format_is_a_text(tmp_path: Path, content: bytes) -> None:
    """Only what follows tells them apart."""
    assert opened(tmp_path / "log.csv", content).path.read_bytes() == content


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-8-sig"])
def test_utf_16_is_read_with_and_without_its_mark(tmp_path: Path, encoding: str) -> None:
    """By its zeros; a text with a zero in it stays UTF-8."""
    content = "user_id,item_id,ts\nMüller,a,1700000000\n"
    assert opened(tmp_path / "log.csv", content.encode(encoding)).path.read_text().removeprefix("\ufeff") == content
    assert opened(tmp_path / "log.csv", b"a,b\x00c\n1,2\n").path.read_bytes() == b"a,b\x00c\n1,2\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "punycode"])
def test_a_text_of_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    """Also where the codec has no word for the place."""
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,ts\nu,a,1700000000\n")
    with pytest.raises(SimError, match=rf"log.csv is no {encoding} \(.*\); name its encoding: --encoding latin-1"):
        plain_text(path, path.name, encoding, tmp_path)


@pytest.mark.parametrize("content", [b"PK\x03\x04\x14\x00", tar(ROWS)], ids=["zip", "tar"])
def test_standard_input_is_no_name_in_a_command(tmp_path: Path, content: bytes) -> None:
    """Of a file that has to be unpacked first."""
    path = tmp_path / "pipe"
    path.write_bytes(content)
    with pytest.raises(SimError, match=r"standard input is a .*: (unzip|tar xf) FILE"):
        plain_text(path, "standard input", None, tmp_path)
