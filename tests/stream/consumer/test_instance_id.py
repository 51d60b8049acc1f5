import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream.consumer import instance_id
from stream.consumer.instance_id import lease, lease_free, lease_named
from stream.errors import HstuError


def test_an_id_is_leased_to_one_user(tmp_path: Path) -> None:
    """No second one gets it, in this process or another, until the first closes it."""
    path = tmp_path / "new" / "a.seat"
    leased = lease(path)
    assert leased is not None
    assert lease(path) is None
    code = f"from pathlib import Path; from stream.consumer.instance_id import lease; print(lease(Path({str(path)!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    leased.close()
    again = lease(path)
    assert again is not None
    again.close()


def test_the_lowest_free_id_is_leased_and_keeps_its_name(tmp_path: Path) -> None:
    """The next user of an id has the same name, which no other folder has; the lock files keep theirs."""
    with lease_free(tmp_path / "a", "w") as first, lease_free(tmp_path / "a", "w") as second:
        assert first.name != second.name
        name = first.name
        with lease_free(tmp_path / "b", "w") as elsewhere:
            assert elsewhere.name not in (first.name, second.name)
    with lease_free(tmp_path / "a", "w") as next_user:
        assert next_user.name == name
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"w-1.seat", "w-2.seat"}


def test_a_copied_folder_has_ids_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same machine and on another, even on its clone; a folder that is shared or stays has the same ids."""

    def leased(folder: Path) -> str:
        with lease_free(folder, "w") as instance:
            return instance.name

    names = [leased(tmp_path / "a"), leased(tmp_path / "a")]
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    names.append(leased(tmp_path / "copy"))
    monkeypatch.setattr(instance_id, "_running_kernel", lambda: "another machine")
    names += [leased(tmp_path / "a"), leased(tmp_path / "copy")]
    assert names[0] == names[1]
    assert len(set(names)) == 4


def test_a_given_id_is_the_same_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that moves comes back as the member that it was; a second process of that name is refused."""
    for kernel in ("one machine", "another machine"):
        monkeypatch.setattr(instance_id, "_running_kernel", lambda kernel=kernel: kernel)
        with lease_named(tmp_path / "seats", "pod-0") as instance:
            assert instance.name == "pod-0"
            with pytest.raises(HstuError, match=r"Another worker of .* has the name pod-0; give each its own"):
                lease_named(tmp_path / "seats", "pod-0")


def test_a_killed_process_frees_its_id(tmp_path: Path) -> None:
    """The system unlocks the file of a process that had no time to, and its child does not keep it locked."""
    code = (
        "import os, subprocess, sys; from pathlib import Path; from stream.consumer.instance_id import lease_free\n"
        f"name = lease_free(Path({str(tmp_path)!r}), 'w')\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'],"
        " stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "print(name.name, child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    name, child = done.stdout.split()
    try:
        with lease_free(tmp_path, "w") as next_user:
            assert next_user.name == name
    finally:
        os.kill(int(child), signal.SIGKILL)
