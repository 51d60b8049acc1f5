"""Tables on disk: what cannot be read is refused."""

import json
from pathlib import Path
from typing import Any

import polars as pl
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


@pytest.mark.parametrize("role", ["item", "user", "action"])
@pytest.mark.parametrize("name", ["log.jsonl", "log.parquet"])
def test_a_column_in_lists_that_are_not_exploded_is_a_sentence(tmp_path: Path, name: str, role: str) -> None:
    """It says how to explode them; neither an error of polars nor rows without ids."""
    path, row = tmp_path / name, {"user_id": "u", "item_id": "i", "ts": 1_700_000_000, "events": [{"aid": "a"}]}
    if name == "log.jsonl":
        path.write_text(json.dumps(row))
    else:
        pl.DataFrame([row]).write_parquet(path)
    named: dict[str, Any] = {role: "events.aid"}
    with pytest.raises(SimError, match=r"has 'events\.aid' in lists: --explode events makes a row of each"):
        read_log([str(path)], LogSettings(**named))
    assert len(read_log([str(path)], LogSettings(**named, explode="events"))) == 1
