import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model.errors import ModelError
from model.trainer.metrics_log import DEFAULT_NAME, MetricsLog, refuse_in_the_way
from tests.runs import run, start


def steps(path: Path) -> list[tuple[str, int]]:
    """Return (name, step) of every line."""
    return [(line["name"], line["step"]) for line in map(json.loads, path.read_text().splitlines())]


def write(log: MetricsLog, name: str, *numbers: int) -> None:
    for step in numbers:
        log.append({"name": name, "step": step})


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_are_appended_and_the_last_step_is_found(tmp_path: Path) -> None:
    """The folder is made; a log that continues finds which line was its last."""
    path = tmp_path / "train" / "metrics.jsonl"
    write(MetricsLog(path, "a", 0), "a", 3, 6)
    again = MetricsLog(path, "a", 6)
    assert again.last_step == 6
    write(again, "a", 9)
    assert steps(path) == [("a", 3), ("a", 6), ("a", 9)]


def test_a_resume_removes_what_it_will_write_again(tmp_path: Path) -> None:
    """Own lines after the checkpoint go, those of another trainer in the same file stay, as do foreign ones."""
    path = tmp_path / "metrics.jsonl"
    write(MetricsLog(path, "a", 0), "a", 3)
    write(MetricsLog(path, "b", 0), "b", 4, 8)
    write(MetricsLog(path, "a", 3), "a", 6, 9)
    with path.open("a") as file:
        file.write("# a remark\n[1]\n")
    write(MetricsLog(path, "a", 6), "a", 7)
    text = path.read_text().splitlines()
    assert text[4:6] == ["# a remark", "[1]"]
    assert [(line["name"], line["step"]) for line in map(json.loads, text[:4] + text[6:])] == [
        ("a", 3),
        ("b", 4),
        ("b", 8),
        ("a", 6),
        ("a", 7),
    ]


def test_one_that_writes_nothing_takes_nothing_out(tmp_path: Path) -> None:
    """It may be refused yet, for its port, its group, or a second trainer of its name."""
    path = tmp_path / "metrics.jsonl"
    write(MetricsLog(path, "a", 0), "a", 3, 6)
    before = path.read_bytes() + b'{"wall_s": 1.5, "na'
    path.write_bytes(before)
    for step in (0, 3, 9):
        MetricsLog(path, "a", step).check_writable()
        assert path.read_bytes() == before


def test_an_incomplete_line_is_removed(tmp_path: Path) -> None:
    """A crash left it without its end."""
    path = tmp_path / "metrics.jsonl"
    write(MetricsLog(path, "a", 0), "a", 3)
    with path.open("a") as file:
        file.write('{"wall_s": 1.5, "name": "a", "ste')
    log = MetricsLog(path, "a", 5)
    assert log.last_step == 3
    write(log, "a", 6)
    assert steps(path) == [("a", 3), ("a", 6)]


@pytest.mark.parametrize("last", [b"# a remark", b'{"name": "b", "step": 9}', b"a\rb"])
def test_a_last_line_of_others_stays_without_its_end(last: bytes, tmp_path: Path) -> None:
    """It is whole, or no line of a trainer that a crash has cut; what follows begins a line of its own."""
    path = tmp_path / "metrics.jsonl"
    write(MetricsLog(path, "b", 0), "b", 3)
    before = path.read_bytes() + last
    path.write_bytes(before)
    log = MetricsLog(path, "a", 0)
    log.check_writable()
    assert path.read_bytes() == before
    write(log, "a", 1)
    assert path.read_bytes().startswith(before + b"\n{")


def test_a_new_run_removes_the_lines_of_an_old_one(tmp_path: Path) -> None:
    """Without a checkpoint the trainer is at step 0, and so is its file."""
    path = tmp_path / "metrics.jsonl"
    write(MetricsLog(path, "a", 0), "a", 3)
    log = MetricsLog(path, "a", 0)
    assert log.last_step == -1
    write(log, "a", 1)
    assert steps(path) == [("a", 1)]


def test_a_line_that_another_trainer_appends_during_a_rewind_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits until the file is replaced; otherwise it would be written to the old one."""
    path, replace = tmp_path / "metrics.jsonl", Path.replace
    write(MetricsLog(path, "a", 0), "a", 1, 2)
    other = MetricsLog(path, "b", 0)
    appending = threading.Thread(target=write, args=(other, "b", 4))

    def replace_late(aside: Path, target: Any) -> Path:
        appending.start()
        appending.join(0.2)
        return replace(aside, target)

    monkeypatch.setattr(Path, "replace", replace_late)
    write(MetricsLog(path, "a", 1), "a", 3)
    appending.join(30)
    assert sorted(steps(path)) == [("a", 1), ("a", 3), ("b", 4)]


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """The sentence names the file and the setting."""
    (tmp_path / "file").write_text("")
    log = MetricsLog(tmp_path / "file" / "metrics.jsonl", "a", 0)
    with pytest.raises(ModelError, match=r"metrics\.jsonl cannot be written.*train\.metrics_file"):
        write(log, "a", 1)


@pytest.mark.parametrize(
    "content",
    ["user_id,item_id,ts\n1,2,3\n", '{"user_id": "1"}\n', "1,2,3", '{"port": 1}', '{"wall_x": 1}\n{"port"'],
)
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    """A log of events that is named by mistake, for instance."""
    path = tmp_path / "log"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"log is there and holds no metrics.*train\.metrics_file \(--metrics\)"):
        MetricsLog(path, "a", 0)
    assert path.read_text() == content


def test_whether_lines_can_be_written_is_tried_without_a_trace(tmp_path: Path) -> None:
    """No file is left that was not there, and one that is there stays as it is."""
    path = tmp_path / "new" / "m.jsonl"
    log = MetricsLog(path, "silu", 0)
    log.check_writable()
    assert not path.exists()
    write(log, "silu", 1)
    before = path.read_bytes()
    log.check_writable()
    assert path.read_bytes() == before


def test_a_file_that_another_trainer_begins_while_it_is_tried_stays(tmp_path: Path) -> None:
    """Whether there is a file is looked at while nobody else may write."""
    path = tmp_path / "m.jsonl"
    log, other = MetricsLog(path, "silu", 0), MetricsLog(path, "other", 0)
    trying = threading.Thread(target=log.check_writable)
    with other._lock:
        trying.start()
        trying.join(0.2)
        write(other, "other", 1)
    trying.join(30)
    assert steps(path) == [("other", 1)]


def test_a_file_that_can_be_appended_to_and_not_replaced_is_refused(tmp_path: Path) -> None:
    """Lines of a run before could not be removed: the name has no room for that of the file aside."""
    path = tmp_path / ("m" * 247)
    path.write_bytes(b'{"name": "silu", "step": 1}\n')
    with pytest.raises(ModelError, match=r"cannot be written: File name too long"):
        MetricsLog(path, "silu", 9).check_writable()


def test_a_file_that_can_be_replaced_and_not_appended_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that nobody may write, in a folder that is the user's own."""
    path, opened, line = tmp_path / "metrics.jsonl", Path.open, b'{"name": "silu", "step": 0}\n'
    path.write_bytes(line)

    def protected(self: Path, mode: str = "r", *given: Any, **options: Any) -> Any:
        if self == path and "r" not in mode:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(self, mode, *given, **options)

    monkeypatch.setattr(Path, "open", protected)  # tests may run as root, who may write everything
    with pytest.raises(ModelError, match="cannot be written: Permission denied"):
        MetricsLog(path, "silu", 0).check_writable()
    assert path.read_bytes() == line


def test_a_link_stays_one(tmp_path: Path) -> None:
    """Its target is what is written and rewound, under one lock with who names the target."""
    target, link = tmp_path / "else" / "m.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    log = MetricsLog(link, "a", 0)
    log.check_writable()
    write(log, "a", 1, 2)
    write(MetricsLog(link, "a", 1), "a", 3)
    assert link.is_symlink()
    assert steps(target) == [("a", 1), ("a", 3)]
    assert MetricsLog(target, "a", 1)._lock.lock_file == log._lock.lock_file


def test_a_line_that_has_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another trainer's next line is not glued to a part of it."""
    path = tmp_path / "m.jsonl"
    log = MetricsLog(path, "a", 0)
    write(log, "a", 1)
    before = path.read_bytes()
    with at_most(len(before) + 10), pytest.raises(ModelError, match="cannot be written"):
        write(log, "a", 2)
    assert path.read_bytes() == before


def test_room_for_no_line_is_found_before(tmp_path: Path) -> None:
    """Also where there is no file yet, which would need no room."""
    with at_most(10_000), pytest.raises(ModelError, match="cannot be written: File too large; name another"):
        MetricsLog(tmp_path / "m.jsonl", "a", 0).check_writable()


def test_a_line_after_one_that_a_crash_cut_is_a_line(tmp_path: Path) -> None:
    """It begins on a line of its own, and the part goes with the next rewind."""
    path = tmp_path / "m.jsonl"
    write(MetricsLog(path, "a", 0), "a", 1)
    other = MetricsLog(path, "b", 0)
    write(other, "b", 2)
    with path.open("a") as file:
        file.write('{"wall_s": 1.5, "na')
    write(other, "b", 3)
    write(MetricsLog(path, "a", 1), "a", 4)
    assert steps(path) == [("a", 1), ("b", 2), ("b", 3), ("a", 4)]


@pytest.mark.parametrize(
    "name", ["/dev/stdout", "//dev/stdout", "/dev/../dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "link"]
)
def test_what_is_open_already_is_no_metrics_file(name: str, tmp_path: Path) -> None:
    """It would be replaced under the shell that has opened it, or its lock waited for without end."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    path = tmp_path / name if name == "link" else name
    script = "import sys, pathlib, model.trainer.metrics_log as m; m.MetricsLog(pathlib.Path(sys.argv[1]), 'a', 0)"
    with (tmp_path / "the shell's").open("wb") as shell:
        for out in (subprocess.PIPE, shell):
            ended = subprocess.run(
                [sys.executable, "-c", script, path], stdout=out, stderr=subprocess.PIPE, timeout=30, check=False
            )
            assert b"is no file; name one" in ended.stderr


def test_a_name_that_no_snapshot_can_say_is_refused(tmp_path: Path) -> None:
    """Settings are in each manifest, which is UTF-8."""
    with pytest.raises(ModelError, match="is not UTF-8; name another"):
        MetricsLog(tmp_path / "a\udcff", "a", 0)


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    """Who plots it may read it after a rewind, too."""
    path = tmp_path / "m.jsonl"
    write(MetricsLog(path, "a", 0), "a", 1, 2)
    path.chmod(0o664)
    log = MetricsLog(path, "a", 1)
    log.check_writable()
    assert path.stat().st_mode & 0o777 == 0o664
    write(log, "a", 3)
    assert steps(path) == [("a", 1), ("a", 3)]
    assert path.stat().st_mode & 0o777 == 0o664


def test_lines_of_a_run_before_go_once_another_has_learned(tmp_path: Path) -> None:
    """Of the same name in one file: stopped before its first line it goes on behind none that is not its own."""
    file = str(tmp_path / "metrics.jsonl")
    run(start(tmp_path / "first", metrics_file=file, window_targets=20)).close()
    before = Path(file).read_bytes()
    begun = start(tmp_path / "second", metrics_file=file, window_targets=10_000)
    assert Path(file).read_bytes() == before
    run(begun, after_step=lambda step: step == 6).close()
    assert Path(file).read_bytes() == b""
    run(start(tmp_path / "second", metrics_file=file, window_targets=10_000)).close()
    assert [json.loads(line)["step"] for line in Path(file).read_text().splitlines()] == [10]


@pytest.mark.parametrize("place", ["", "train", "train/silu", "train/silu/farewell", "snapshots/silu/aliases/latest"])
def test_a_file_in_the_way_of_what_a_trainer_keeps_is_refused(tmp_path: Path, place: str) -> None:
    """The trainer would replace it, or could not make its folder; its own name in the trainer's folder is let be."""
    folders = (tmp_path / "train" / "silu", tmp_path / "snapshots" / "silu")
    with pytest.raises(ModelError, match=r"would be w.* name another"):
        refuse_in_the_way(tmp_path / place, folders)
    refuse_in_the_way(folders[0] / DEFAULT_NAME, folders)
    refuse_in_the_way(tmp_path / "metrics.jsonl", folders)
