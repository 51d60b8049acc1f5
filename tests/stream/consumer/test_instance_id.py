import subprocess
import sys
from pathlib import Path

from stream.consumer.instance_id import lease, lease_free


def test_a_seat_has_one_sitter(tmp_path: Path) -> None:
    """Nobody else gets it, in this process or another, until its sitter stands up."""
    path = tmp_path / "new" / "a.seat"
    seat = lease(path)
    assert seat is not None
    assert lease(path) is None
    code = f"from pathlib import Path; from stream.consumer.instance_id import lease; print(lease(Path({str(path)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    seat.close()
    again = lease(path)
    assert again is not None
    again.close()


def test_the_lowest_free_seat_is_taken_and_keeps_its_name(tmp_path: Path) -> None:
    """Who comes after a dead sitter has the same name as he, and one that no other folder gives."""
    with lease_free(tmp_path / "a", "w") as first, lease_free(tmp_path / "a", "w") as second:
        assert first.name != second.name
        name = first.name
        with lease_free(tmp_path / "b", "w") as elsewhere:
            assert elsewhere.name not in (first.name, second.name)
    with lease_free(tmp_path / "a", "w") as heir:
        assert heir.name == name


def test_a_killed_process_frees_its_seat(tmp_path: Path) -> None:
    """The system unlocks the file of a process that had no time to."""
    code = "import os; from pathlib import Path; from stream.consumer.instance_id import lease_free\n"
    code += f"print(lease_free(Path({str(tmp_path)!r}), 'w').name, flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    with lease_free(tmp_path, "w") as heir:
        assert heir.name == done.stdout.strip()
