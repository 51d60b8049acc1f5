"""The files of a log: folders that are tables of another kind."""

from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.tables.places import files_of


@pytest.mark.parametrize(
    ("inside", "name"),
    [("_delta_log/0.json", "Delta Lake"), ("metadata/v1.metadata.json", "Iceberg"), (".hoodie/x.commit", "Hudi")],
)
def test_a_folder_that_holds_deleted_rows_too_is_refused(tmp_path: Path, inside: str, name: str) -> None:
    """Its files are no log; one without that folder is."""
    (tmp_path / "part-1.parquet").write_bytes(b"PAR1")
    assert [file.last_name for file in files_of([str(tmp_path)])] == ["part-1.parquet"]
    (tmp_path / inside).parent.mkdir()
    (tmp_path / inside).write_text("{}")
    with pytest.raises(
        SimError, match=f"is a table of {name}, whose files hold rows that were deleted .* as plain Parq"
    ):
        files_of([str(tmp_path)])
