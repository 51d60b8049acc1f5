import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import model.storage.aliases
from model.errors import ModelError
from model.storage.aliases import (
    LATEST,
    Decision,
    find,
    gc,
    list_aliases,
    move,
    move_by_hand,
    moves,
    note,
    pin,
    pins,
    resolve,
    rollback,
    survey_aliases,
    unpin,
)
from model.storage.snapshot import ARRAYS, list_snapshots
from tests.snapshots import write_line, write_some


def ids(directory: Path) -> list[str]:
    """Return the ids of the snapshots there."""
    return [manifest.id for manifest in list_snapshots(directory)]


def test_an_alias_names_the_snapshot_it_was_moved_to_last(tmp_path: Path) -> None:
    """Moving makes an alias, or points it elsewhere; ids resolve to themselves."""
    first, second = write_line(tmp_path, 2)
    assert find(tmp_path, LATEST) is None
    move(tmp_path, LATEST, first)
    move(tmp_path, "champion", first)
    move(tmp_path, LATEST, second)
    assert list_aliases(tmp_path) == {"champion": first, LATEST: second}
    assert resolve(tmp_path, LATEST) == resolve(tmp_path, second) == tmp_path / second
    assert find(tmp_path, "champion") == first
    assert ids(tmp_path) == [first, second]


def test_rolling_back_goes_to_the_parent_step_by_step(tmp_path: Path) -> None:
    """Each rollback is one snapshot further back; before the first there is nothing."""
    first, second, third = write_line(tmp_path, 3)
    move(tmp_path, "champion", third)
    assert rollback(tmp_path, "champion", 5.0) == second
    assert rollback(tmp_path, "champion", 5.0) == find(tmp_path, "champion") == first
    with pytest.raises(
        ModelError, match=rf"champion names {first}, the first snapshot that it named; there is nothing"
    ):
        rollback(tmp_path, "champion", 5.0)
    assert find(tmp_path, "champion") == first


def test_rolling_back_goes_to_what_the_alias_named_before(tmp_path: Path) -> None:
    """Not to a parent that it never named; a line for each; what it may go back to is kept."""
    first, second, third, fourth = write_line(tmp_path, 4)
    note(tmp_path, Decision(1.0, "champion", None, first, moved=True, reason="the gate"))
    move(tmp_path, "champion", first)
    for snapshot in (second, fourth):
        move_by_hand(tmp_path, "champion", snapshot, 2.0)
    assert gc(tmp_path, keep=1) == [first, third]
    assert rollback(tmp_path, "champion", 3.0) == find(tmp_path, "champion") == second
    found = [(each.before, each.candidate, each.reason) for each in moves(tmp_path, "champion")]
    assert found[:2] == [(fourth, second, "rolled back by hand"), (second, fourth, "moved by hand")]
    with pytest.raises(ModelError, match=rf"names {second}, and {first}, to which it would go back, has been deleted"):
        rollback(tmp_path, "champion", 4.0)
    move(tmp_path, LATEST, second)
    note(tmp_path, Decision(1.0, LATEST, None, second, moved=True, reason="the gate"))
    with pytest.raises(ModelError, match="the first snapshot that it named"):
        rollback(tmp_path, LATEST, 5.0)


def test_rolling_back_to_what_was_deleted_is_a_sentence(tmp_path: Path) -> None:
    """The sentence names the missing parent and how to choose another."""
    _, second, third = write_line(tmp_path, 3)
    move(tmp_path, LATEST, third)
    gc(tmp_path, keep=1)
    with pytest.raises(
        ModelError, match=rf"{second}, to which it would go back, has been deleted; .*hstu snapshots alias latest ID"
    ):
        rollback(tmp_path, LATEST, 5.0)


def test_gc_keeps_the_newest_and_the_named(tmp_path: Path) -> None:
    """All others are deleted; a second time there is nothing to do."""
    first, second, third, fourth, fifth = write_line(tmp_path, 5)
    move(tmp_path, "champion", second)
    assert gc(tmp_path, keep=2) == [first, third]
    assert ids(tmp_path) == [second, fourth, fifth]
    assert gc(tmp_path, keep=2) == []
    assert gc(tmp_path, keep=1) == [fourth]
    assert ids(tmp_path) == [second, fifth]
    assert not any(path.name.startswith(".deleting") for path in tmp_path.iterdir())


def test_a_pinned_snapshot_is_never_deleted(tmp_path: Path) -> None:
    """By id or by an alias that moves on; once it is unpinned it is deleted as others are."""
    first, second, third = write_line(tmp_path, 3)
    move(tmp_path, LATEST, second)
    assert (pin(tmp_path, first), pin(tmp_path, LATEST)) == (first, second)
    move(tmp_path, LATEST, third)
    assert gc(tmp_path, keep=1) == []
    assert unpin(tmp_path, first) == first
    assert gc(tmp_path, keep=1) == [first]
    assert pins(tmp_path) == {second}
    with pytest.raises(ModelError, match=rf"{third} in .* is not pinned; pinned are: {second}\."):
        unpin(tmp_path, LATEST)
    with pytest.raises(ModelError, match=r"00000009-00000000 is not in"):
        pin(tmp_path, "00000009-00000000")


def test_gc_never_deletes_the_newest(tmp_path: Path) -> None:
    """Keeping none is refused."""
    write_line(tmp_path, 1)
    with pytest.raises(ModelError, match="keep is 0; at least 1 snapshot, the newest"):
        gc(tmp_path, keep=0)
    assert len(ids(tmp_path)) == 1


@pytest.mark.parametrize("alias", ["", ".hidden", "a/b", "../up", "a b", "x" * 65, "00000001-1a2b3c4d"])
def test_names_that_are_no_file_or_look_like_an_id_are_refused(alias: str, tmp_path: Path) -> None:
    """The sentence states the rule."""
    (snapshot,) = write_line(tmp_path, 1)
    with pytest.raises(ModelError, match="is no name for an alias: 1 to 64 letters"):
        move(tmp_path, alias, snapshot)
    assert list_aliases(tmp_path) == {}


def test_unknown_names_are_sentences(tmp_path: Path) -> None:
    """For an unknown alias the sentence lists the aliases; for a deleted snapshot it names the alias that led to it."""
    with pytest.raises(ModelError, match=r"There is no snapshot in .* yet; `hstu train` makes the first"):
        resolve(tmp_path / "nowhere", LATEST)
    with pytest.raises(ModelError, match=r"There is no snapshot in .* yet"):
        move(tmp_path / "nowhere", LATEST, "00000001-00000000")
    first, second = write_line(tmp_path, 2)
    move(tmp_path, LATEST, second)
    with pytest.raises(ModelError, match=r"'champion' is neither a snapshot nor an alias .*; the aliases are: latest"):
        resolve(tmp_path, "champion")
    with pytest.raises(ModelError, match=r"The snapshot 00000009-00000000 is not in .*hstu snapshots list"):
        resolve(tmp_path, "00000009-00000000")
    (tmp_path / second).rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=rf"The snapshot {second}, to which the alias latest points, is not in"):
        resolve(tmp_path, LATEST)
    assert resolve(tmp_path, first).name == first


def test_an_alias_is_never_moved_to_a_torn_snapshot(tmp_path: Path) -> None:
    """The alias stays where it was."""
    first, second = write_line(tmp_path, 2)
    move(tmp_path, LATEST, first)
    (tmp_path / second / ARRAYS).write_bytes(b"")
    with pytest.raises(ModelError, match="is torn"):
        move(tmp_path, LATEST, second)
    assert find(tmp_path, LATEST) == first


def test_a_full_disk_leaves_the_alias_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says so, and no temporary file stays."""
    first, second = write_line(tmp_path, 2)
    move(tmp_path, LATEST, first)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ModelError, match=r"was not moved: No space left on device; it names what it named before"):
            move(tmp_path, LATEST, second)
    assert find(tmp_path, LATEST) == first
    assert [path.name for path in (tmp_path / "aliases").iterdir()] == [LATEST]


def test_readers_see_the_old_or_the_new_and_never_half(tmp_path: Path) -> None:
    """An alias that is moved back and forth under a reader always resolves to one of the two."""
    pair = write_line(tmp_path, 2)
    move(tmp_path, LATEST, pair[0])
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(find(tmp_path, LATEST))

    reader = threading.Thread(target=read)
    reader.start()
    for i in range(200):
        move(tmp_path, LATEST, pair[i % 2])
    stop.set()
    reader.join()
    assert seen <= set(pair)


def test_gc_waits_while_an_alias_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot to which an alias is being moved is not deleted meanwhile."""
    first = write_line(tmp_path, 3)[0]
    read, collected = model.storage.aliases.verified_manifest, []
    collector = threading.Thread(target=lambda: collected.extend(gc(tmp_path, keep=1)))

    def slow_read(path: Path, digest_of: Any) -> Any:
        manifest = read(path, digest_of)
        if collector.ident:  # it is the collector that reads
            return manifest
        collector.start()
        collector.join(0.2)
        assert collector.is_alive()
        return manifest

    monkeypatch.setattr(model.storage.aliases, "verified_manifest", slow_read)
    move(tmp_path, "champion", first)
    collector.join()
    assert first not in collected
    assert first in ids(tmp_path)


def test_an_old_snapshot_that_cannot_be_deleted_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names it; the others are as they were."""
    first, _ = write_line(tmp_path, 2)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(model.storage.aliases, "remove_snapshot", refuse)
    with pytest.raises(ModelError, match=rf"{first} cannot be deleted: Permission denied"):
        gc(tmp_path, keep=1)
    write_some(tmp_path, 9)
    assert len(ids(tmp_path)) == 3


def flip_a_bit(snapshot: Path) -> None:
    """Change one bit of the arrays."""
    data = bytearray((snapshot / ARRAYS).read_bytes())
    data[len(data) // 2] ^= 1
    (snapshot / ARRAYS).write_bytes(data)


def test_gc_counts_whole_snapshots_only(tmp_path: Path) -> None:
    """A damaged one never takes the place of a good one; it is named, kept, and deleted once it is old."""
    first, second, third, fourth = write_line(tmp_path, 4)
    flip_a_bit(tmp_path / fourth)
    told: list[str] = []
    assert gc(tmp_path, 2, told.append) == [first]
    assert ids(tmp_path) == [second, third, fourth]
    assert [fourth in sentence and "is damaged" in sentence for sentence in told] == [True]
    fifth, sixth = (write_some(tmp_path, step).name for step in (5, 6))
    assert gc(tmp_path, 2, told.append) == [second, third, fourth]
    assert ids(tmp_path) == [fifth, sixth]


def test_gc_deletes_nothing_while_too_few_are_whole(tmp_path: Path) -> None:
    """Damaged ones may be all there is to learn from."""
    line = write_line(tmp_path, 3)
    for name in line[1:]:
        flip_a_bit(tmp_path / name)
    assert gc(tmp_path, 1) == []
    assert ids(tmp_path) == line


def test_gc_goes_by_steps_and_not_by_clocks(tmp_path: Path) -> None:
    """Snapshots dated ahead, by a clock that was set back later, are not newer than those of later steps."""
    for step in range(1, 5):
        write_some(tmp_path, step, created=step + 3600.0)
    newest = [write_some(tmp_path, step, created=float(step)).name for step in (5, 6)]
    assert len(gc(tmp_path, 2)) == 4
    assert ids(tmp_path) == newest


def test_an_alias_is_never_moved_to_a_damaged_snapshot(tmp_path: Path) -> None:
    """A server that is started again would have nothing to answer with."""
    first, second = write_line(tmp_path, 2)
    move(tmp_path, LATEST, first)
    flip_a_bit(tmp_path / second)
    with pytest.raises(ModelError, match="is damaged"):
        move(tmp_path, LATEST, second)
    assert find(tmp_path, LATEST) == first


def a_folder(path: Path) -> None:
    path.mkdir()


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


CONTENTS = {
    "no UTF-8": b"\xff\xfe",
    "nothing": b"",
    "much": b"0" * 5_000_000,
    "another folder's": b"../softmax/00000001-1a2b3c4d\n",
    "an absolute path": b"/00000001-1a2b3c4d",
    "an id and more": b"00000001-1a2b3c4d/..",
}


@pytest.mark.parametrize("stray", [a_folder, a_dangling_link, a_pipe, *CONTENTS])
def test_what_is_no_alias_is_named_and_passed_over(tmp_path: Path, stray: Any) -> None:
    """It stops neither list nor gc, is never followed, and may be replaced."""
    first, second = write_line(tmp_path, 2)
    move(tmp_path, "good", second)
    path = tmp_path / "aliases" / "odd"
    if callable(stray):
        stray(path)
    else:
        path.write_bytes(CONTENTS[stray])
    told: list[str] = []
    assert list_aliases(tmp_path) == {"good": second}
    assert gc(tmp_path, 1, told.append) == [first]
    assert [str(path) in sentence and "passed over" in sentence for sentence in told] == [True]
    with pytest.raises(ModelError, match=r"'odd' is neither|The alias odd in .* cannot be followed: it "):
        resolve(tmp_path, "odd")
    move(tmp_path, "other", second)
    if stray is not a_folder:
        move(tmp_path, "odd", second)
        assert list_aliases(tmp_path) == dict.fromkeys(("good", "odd", "other"), second)


def test_names_that_no_alias_has_are_passed_over(tmp_path: Path) -> None:
    """Not even one that is no UTF-8 stops anything."""
    (first,) = write_line(tmp_path, 1)
    move(tmp_path, LATEST, first)
    for name in (b"\xff\x1b[2J", b"with space", b"x" * 80):
        Path(os.fsdecode(os.fsencode(tmp_path / "aliases") + b"/" + name)).write_text(first)
    aliases, sentences = survey_aliases(tmp_path)
    assert aliases == {LATEST: first}
    assert len(sentences) == 3


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Half an alias, half a deletion (of a link, too): they are no aliases and no snapshots, and do not stay."""
    first, second = write_line(tmp_path, 2)
    move(tmp_path, LATEST, first)
    (tmp_path / "aliases" / ".latest.abc123").write_text(second)
    (tmp_path / ".deleting-00000001-00000000-ab").symlink_to(tmp_path / first)
    (tmp_path / ".writing-abc").mkdir()
    assert list_aliases(tmp_path) == {LATEST: first}
    move(tmp_path, "champion", second)
    gc(tmp_path, 5)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == [".lock"]
    assert ids(tmp_path) == [first, second]


def test_a_linked_snapshot_is_deleted_as_a_link(tmp_path: Path) -> None:
    """What it leads to stays, and nothing is left in the folder."""
    elsewhere = write_some(tmp_path / "elsewhere", 1)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / elsewhere.name).symlink_to(elsewhere)
    write_some(tmp_path / "here", 2)
    assert gc(tmp_path / "here", 1) == [elsewhere.name]
    assert elsewhere.is_dir()
    assert not list((tmp_path / "here").glob(".deleting*"))


def test_a_folder_that_cannot_be_read_is_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gc would delete what its aliases name; of other trainers' folders nothing is needed."""
    first, _ = write_line(tmp_path / "silu", 2)
    (tmp_path / "none").mkdir()
    (tmp_path / "file").touch()
    move(tmp_path / "silu", "champion", first)
    listed = Path.iterdir

    def refuse(path: Path) -> Any:
        if path == tmp_path / "silu" / "aliases":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ModelError, match="aliases cannot be read: Permission denied; is it yours"):
        gc(tmp_path / "silu", 1)
    assert first in ids(tmp_path / "silu")
    with pytest.raises(ModelError, match="there are some of silu"):
        resolve(tmp_path / "none", LATEST)
