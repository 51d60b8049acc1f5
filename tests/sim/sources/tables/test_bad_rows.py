"""The file of bad rows: it never takes the place of a file that is read, or of anything else than bad rows."""

import json
import os
from pathlib import Path

import pytest

from sim.errors import SimError
from sim.sources.open_log import open_log
from tests.sim.sources.logs import START_S as T, log_of

LOG = f"user_id,item_id,ts\n1,2,{T}\n,2,{T}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a log, a second one, links to the first, a catalogue, and a known log's description."""
    monkeypatch.chdir(tmp_path)
    for name in ("log.csv", "log2.csv"):
        Path(name).write_text(LOG)
    Path("soft.csv").symlink_to("log.csv")
    os.link("log.csv", "hard.csv")
    Path("items.csv").write_text("item_id,title\n2,Two\n")
    Path("mine.toml").write_text('[flags]\nuser = "user_id"\nskip_bad = "all"\n')
    return tmp_path


@pytest.mark.parametrize("name", ["log.csv", "./log.csv", "{}/log.csv", "../{1}/log.csv", "soft.csv", "hard.csv"])
def test_the_log_itself_is_never_overwritten(folder: Path, name: str) -> None:
    """However it is written."""
    name = name.format(folder, folder.name)
    with pytest.raises(SimError, match=r"--bad-rows .*log|soft|hard.* is a file that is read"):
        open_log(["log.csv"], {"skip_bad": "all", "bad_rows": name})
    assert Path("log.csv").read_text() == LOG


@pytest.mark.parametrize(
    ("log", "flags", "name", "said"),
    [
        ("log*.csv", {}, "log2.csv", "is a file that is read"),
        ("log.csv", {"items": "items.csv"}, "items.csv", "is a file that is read"),
        ("log.csv", {"read_as": "mine.toml"}, "mine.toml", "holds no bad rows, and would be overwritten"),
        ("log.csv", {}, "log2.csv", "holds no bad rows, and would be overwritten"),
        ("log.csv", {}, "", "is empty"),
        ("log.csv", {}, ".", r"\. is no file"),
        ("log.csv", {}, "none/bad.jsonl", "cannot be written: No such file or directory; name another"),
        ("log.csv", {}, "/dev/full", "cannot be written: No space left on device; name another"),
    ],
)
def test_what_is_no_file_for_bad_rows_is_refused(
    folder: Path, log: str, flags: dict[str, str], name: str, said: str
) -> None:
    """Every file stays as it is."""
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(SimError, match=f"^--bad-rows .*{said}"):
        open_log([log], {"skip_bad": "all", "bad_rows": name} | flags)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_bad_rows_of_an_earlier_replay_are_replaced(tmp_path: Path) -> None:
    """And an empty file; but a log of bad rows is no place for its own."""
    bad = tmp_path / "bad.jsonl"
    for before in ("", LOG.replace("1,2", ",")):
        if before:
            log_of(tmp_path / "other.csv", before + f"3,4,{T}\n", skip_bad="all", bad_rows=str(bad))
            assert len(bad.read_text().splitlines()) == 2
        else:
            bad.write_text("")
        log_of(tmp_path / "log.csv", LOG, skip_bad="all", bad_rows=str(bad))
        assert [json.loads(line)["row"] for line in bad.read_text().splitlines()] == [2]
    with pytest.raises(SimError, match="is a file that is read"):
        open_log([str(bad)], {"user": "row", "item": "file", "time": "row", "skip_bad": "all", "bad_rows": str(bad)})


def test_a_log_that_is_refused_for_its_columns_writes_nothing(folder: Path) -> None:
    """Though it is read for the lines that are proposed."""
    content = LOG.replace("item_id,ts", "item_id,ts,is_like").replace(f"{T}", f"{T},1").replace("1\n,", "0\n,")
    with pytest.raises(SimError, match=r"--action is_like --skip-bad all --bad-rows bad\.jsonl"):
        log_of(folder / "log.csv", content, skip_bad="all", bad_rows="bad.jsonl")
    assert not Path("bad.jsonl").exists()
