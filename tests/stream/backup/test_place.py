"""Places of backups: a folder, and a file system that only fsspec knows."""

from pathlib import Path
from uuid import uuid4

import pytest
from xxhash import xxh3_128_hexdigest

from stream.backup.place import Place, digest_of
from stream.errors import BackupError, DamagedError


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "backups") if request.param == "folder" else f"memory://{uuid4().hex}/backups"


def test_what_is_put_is_listed_got_and_deleted(url: str, tmp_path: Path) -> None:
    """Small and large files, in folders of their own; an absent folder has no names."""
    place, source = Place(url).under("p0"), tmp_path / "large"
    source.write_bytes(b"abc" * 3_000_000)
    assert place.sizes() == {}
    place.write("small", b"text")
    place.under("data").put(source, "large")
    assert list(place.sizes()) == ["small"]
    assert place.under("data").sizes() == {"large": 9_000_000}
    assert place.read("small") == b"text"
    digest = place.under("data").get("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert digest == digest_of(source) == place.under("data").digest("large") == xxh3_128_hexdigest(source.read_bytes())
    place.delete(["small", "absent"])
    assert list(place.sizes()) == []


def test_what_is_written_again_replaces_the_first(url: str, tmp_path: Path) -> None:
    """Half a copy that a crash has left is overwritten."""
    place, source = Place(url), tmp_path / "file"
    place.write("name", b"a longer text")
    source.write_bytes(b"short")
    place.put(source, "name")
    assert place.read("name") == b"short"


def test_a_missing_file_is_damage_and_an_unreadable_place_is_not(url: str, tmp_path: Path) -> None:
    """What lacks a file is passed over; what cannot be asked is asked again."""
    with pytest.raises(DamagedError, match=r"p0 lack a file.*absent"):
        Place(url).under("p0").get("absent", tmp_path / "copy")
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match=r"file/p0 cannot be written: NotADirectoryError"):
        Place(str(tmp_path / "file")).under("p0").write("name", b"")


def test_copies_are_broken_off(tmp_path: Path) -> None:
    """A worker that stops does not wait for gigabytes."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(BackupError, match="broken off, since the worker stops"):
        Place(str(tmp_path / "backups"), lambda: True).put(tmp_path / "file", "name")


def test_a_url_that_nobody_serves_is_refused() -> None:
    """The sentence names the setting, and no password."""
    with pytest.raises(BackupError, match=r"stream.backup_url nonsense://host/x cannot be used: .*s3fs"):
        Place("nonsense://me:secret@host/x")
