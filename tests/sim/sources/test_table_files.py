"""Tables on disk: what cannot be read is refused."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.log_columns import LogSettings
from sim.sources.recorded_log import read_log


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("log.txt", b"", r"ends in '.txt'; a log ends in .csv, .tsv \(both also with .gz\) or .parquet"),
        ("log.csv", None, "There is no file .*log.csv; check the path"),
        ("log.csv", b"", "cannot be read as .csv"),
        ("log.csv", b"user_id,item_id,ts\n", "has no rows; there is nothing to replay"),
        ("log.csv", b"user_id,item_id,ts\n1,2,3,4\n", "cannot be read as .csv"),
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
        read_log(path, LogSettings())
