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
    said = f"is a table of {name}, whose files hold rows that were deleted .* as plain Parq"
    with pytest.raises(SimError, match=said):
        files_of([str(tmp_path)])
    (tmp_path / "dt=1").mkdir()
    (tmp_path / "dt=1" / "part-2.parquet").write_bytes(b"PAR1")
    for part in ("part-1.parquet", "*.parquet", "dt=1", "dt=*", "dt=1/part-2.parquet", "**/*.parquet"):
        with pytest.raises(SimError, match=f"is a part of .*, which {said}"):
            files_of([str(tmp_path / part)])


@pytest.mark.parametrize("name", ["", "dt=2024-01-31", "dt=2024-01-31/hour=__HIVE_DEFAULT_PARTITION__/a.csv", "*/*/*"])
def test_folders_name_columns_however_files_are_named(tmp_path: Path, name: str) -> None:
    """One by one, by a folder or by a glob; the name that Hive writes for null is none."""
    folder = tmp_path / "dt=2024-01-31" / "hour=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("x")
    assert [file.partition for file in files_of([str(tmp_path / name)])] == [{"dt": "2024-01-31", "hour": None}]


@pytest.mark.parametrize("copy", ["a.csv.gz", "a.csv.bak", "a.csv~"])
def test_a_file_and_its_copy_are_not_both_read(tmp_path: Path, copy: str) -> None:
    """By a folder or a glob; one of them is."""
    for name in ("a.csv", "b.csv", copy):
        (tmp_path / name).write_text("x")
    for log in (str(tmp_path), str(tmp_path / "*")):
        with pytest.raises(SimError, match=rf"a.csv and .*{copy} are by their names one file twice"):
            files_of([log])
    assert len(files_of([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])) == 2
