"""The progress file of a replay: what is written is read again, what does not fit is refused, one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from sim.errors import SimError
from sim.replay.progress_file import ReplayState, claimed, load_state, save_state

STATE = ReplayState(fingerprint="abc", total=9, offsets={"actions/0": 4}, acknowledged=3)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """The last state alone, in a folder that is made; nothing else lies beside it."""
    path = tmp_path / "replay" / "a.json"
    assert load_state(path, "abc") is None
    save_state(path, STATE)
    save_state(path, changed := ReplayState(fingerprint="abc", total=9, offsets={}, acknowledged=9, complete=True))
    assert load_state(path, "abc") == changed
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"abc"', '"other"', "of another log, other options, or other topics"),
        ('"version": 1', '"version": 2', "has version 2, this program knows 1"),
        ('"total"', '"totle"', "cannot be read"),
        ("}", "", "cannot be read"),
    ],
)
def test_what_does_not_fit_is_refused(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    """With the file's name and the flag that mends it."""
    path = tmp_path / "a.json"
    save_state(path, STATE)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SimError, match=rf"a\.json .*{sentence}.*begin again by --restart"):
        load_state(path, "abc")


def test_one_process_has_a_name_at_a_time(tmp_path: Path) -> None:
    """A second one is refused until the first has ended, in whatever way."""
    path = tmp_path / "a.json"
    code = f"""
from pathlib import Path
from sim.replay.progress_file import claimed
with claimed(Path({str(path)!r})):
    print("mine", flush=True)
    input()
"""
    first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "mine\n"
    with pytest.raises(SimError, match="Another process replays as a; stop it, or give another --name"), claimed(path):
        pass
    first.kill()
    first.communicate()
    for _ in range(2):
        with claimed(path):
            assert path.with_suffix(".lock").exists()
    with pytest.raises(ZeroDivisionError), claimed(path):
        _ = 1 / 0
    with claimed(path):
        pass
