"""Tables on disk: what cannot be read is refused."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.open_log import read_log


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("log.zip", b"PK\x03\x04...", "is a damaged zip archive"),
        ("log.zip", b"PK\x05\x06" + bytes(18), "is a zip archive that holds no file"),
        ("log.csv.gz", b"\x1f\x8b\x08", "cannot be unpacked: .*; it may be cut off"),
        ("log.csv", None, "There is no file .*log.csv; check the path"),
        ("log.csv", b"", "has no rows; there is nothing to replay"),
        ("log.csv", b"user_id,item_id,ts\n", "has no rows; there is nothing to replay"),
        ("log.csv", b"user_id,item_id,ts\n1,2,3,4\n", "Row 1 of .* is bad, more cells than the 3 columns: 1,2,3,4"),
        ("log.parquet", b"no parquet", "cannot be read as .parquet"),
        ("log.csv", b"who,ts\n1,2\n", "has no column 'user_id'; its columns are who, ts"),
    ],
)
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, name: str, content: bytes | None, sentence: str) -> None:
    """In a sentence that names it and says why."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SimError, match=sentence):
        read_log([str(path)], LogSettings())
