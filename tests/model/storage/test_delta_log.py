import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save
from xxhash import xxh3_128_hexdigest

from model.errors import ModelError
from model.storage.delta_log import (
    BegunAnewError,
    DeltaLog,
    State,
    has_chain,
    next_state,
    read_delta,
    verified_deltas,
    with_deltas,
)
from model.storage.patch import state_digest
from model.storage.snapshot import load_snapshot, write_snapshot
from tests.snapshots import some_arrays, some_manifest


class Chain:
    """A trainer's snapshots and deltas over arrays that change a little with each step."""

    def __init__(self, directory: Path, threshold: float = 0.0, seed: int = 0) -> None:
        self.directory, self.log, self.step = directory, DeltaLog(directory, threshold), 0
        self.arrays: dict[str, Any] = some_arrays(seed)
        self.paths: list[Path] = []
        self.begin()

    def begin(self) -> str:
        manifest = some_manifest(self.step)
        self.root = write_snapshot(self.directory, arrays=self.arrays, manifest=manifest)
        self.log.begin(self.root.name, self.arrays, manifest)
        return self.root.name

    def move(self, how_much: float = 1.0) -> None:
        """Change a row in place, as a trainer does, and let one be born."""
        self.step += 1
        self.arrays["items.weight"][self.step % 5] *= 1 + how_much
        self.arrays["items.keys"] = np.append(self.arrays["items.keys"], np.uint64(self.step))

    def append(self) -> Path:
        self.move()
        self.paths.append(self.log.append(self.arrays, some_manifest(self.step)))
        return self.paths[-1]

    def loaded(self, root: Path | None = None) -> State:
        snapshot = load_snapshot(root or self.root)
        return State(snapshot, snapshot.manifest.id)


def follow(chain: Chain, state: State, wanted: str) -> State:
    while (after := next_state(chain.directory, state, wanted)) is not None:
        state = after
    return state


def test_a_snapshot_and_its_deltas_are_the_next_snapshot(tmp_path: Path) -> None:
    """To the bit, with every manifest on the way; the last delta is followed once the alias names what it leads to."""
    chain = Chain(tmp_path)
    first = chain.loaded()
    for number in range(1, 4):
        chain.append()
        state = follow(chain, first, first.root)
        assert state_digest(state.snapshot.arrays) == state_digest(chain.arrays)
        assert (state.number, state.snapshot.manifest.step) == (number, number)
        assert state.snapshot.manifest.id == f"0000000{number}-{state_digest(chain.arrays)[:8]}"
    chain.move()
    second = chain.begin()
    state = follow(chain, first, second)
    assert (state.root, state.number, state.snapshot.manifest.id) == (second, 0, second)
    assert state_digest(state.snapshot.arrays) == state_digest(load_snapshot(tmp_path / second).arrays)
    chain.append()
    assert state_digest(follow(chain, state, second).snapshot.arrays) == state_digest(chain.arrays)


def test_a_chain_that_has_ended_is_not_followed_for_its_root(tmp_path: Path) -> None:
    """An alias that was moved back means the snapshot, and not what came after it."""
    chain = Chain(tmp_path)
    first = chain.loaded()
    chain.append()
    chain.move()
    chain.begin()
    assert next_state(tmp_path, first, first.root) is None


def test_a_snapshot_of_what_was_published_goes_on_with_its_chain(tmp_path: Path) -> None:
    """Of the same step and arrays it has the same id; a chain that led to its beginning would be followed for ever."""
    chain = Chain(tmp_path)
    state = chain.loaded()
    before = {name: array.copy() for name, array in chain.arrays.items()}
    chain.append()
    chain.arrays, chain.step = before, 0
    assert chain.begin() == state.root
    assert len(list((tmp_path / "deltas" / state.root).iterdir())) == 2
    back = follow(chain, state, state.root)
    assert (back.root, back.number) == (state.root, 2)
    assert state_digest(back.snapshot.arrays) == state_digest(state.snapshot.arrays)
    assert chain.begin() == state.root
    chain.append()
    assert state_digest(follow(chain, back, state.root).snapshot.arrays) == state_digest(chain.arrays)


def test_a_chain_that_leads_to_its_beginning_is_refused(tmp_path: Path) -> None:
    """Following it would not end."""
    chain = Chain(tmp_path)
    state = chain.loaded()
    chain.log.append(chain.arrays, some_manifest(0), becomes=state.root)
    with pytest.raises(ModelError, match="leads back to the snapshot"):
        next_state(tmp_path, state, state.root)


def test_two_chains_are_kept(tmp_path: Path) -> None:
    """The present one, and the one that leads to its root."""
    chain = Chain(tmp_path)
    roots = [chain.root.name]
    for _ in range(3):
        chain.append()
        roots.append(chain.begin())
    assert [has_chain(tmp_path, root) for root in roots] == [False, False, True, True]


def test_a_trainer_that_starts_again_begins_another_chain(tmp_path: Path) -> None:
    """What it left behind is removed, even under the same snapshot; who had followed it is told."""
    chain = Chain(tmp_path)
    state = chain.loaded()
    chain.append()
    ahead = follow(chain, state, state.root)
    again = Chain(tmp_path)
    assert again.root == chain.root
    assert next_state(tmp_path, state, state.root) is None
    for _ in range(3):
        with pytest.raises(BegunAnewError, match=r"no longer has 000001-.*, which was followed"):
            next_state(tmp_path, ahead, ahead.root)
        again.move()
        again.append()
    assert state_digest(follow(again, state, state.root).snapshot.arrays) == state_digest(again.arrays)


def test_only_moves_above_the_threshold_are_published(tmp_path: Path) -> None:
    """What is held back is in the next snapshot, which the last delta leads to exactly."""
    chain = Chain(tmp_path, threshold=0.5)
    first, before = chain.loaded(), chain.arrays["items.weight"].copy()
    chain.move(0.01)
    chain.log.append(chain.arrays, some_manifest(chain.step))
    state = follow(chain, first, first.root)
    assert np.array_equal(state.snapshot.arrays["items.weight"], before)
    assert len(state.snapshot.arrays["items.keys"]) == 6
    second = chain.begin()
    assert state_digest(follow(chain, state, second).snapshot.arrays) == state_digest(chain.arrays)


def renamed(path: Path, number: int) -> Path:
    return path.rename(path.with_name(f"{number:06d}" + path.name[6:]))


def swapped(second: Path) -> None:
    """Exchange the second delta and the third."""
    third = next(second.parent.glob("000003-*"))
    renamed(second, 4)
    renamed(third, 2)
    renamed(next(second.parent.glob("000004-*")), 3)


def last(path: Path, snapshot: str = "00009999-9b3ac0fa") -> None:
    """Let its name say that a snapshot follows it."""
    path.rename(path.with_name(f"{path.stem}-{snapshot}.safetensors"))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def forged(path: Path) -> None:
    """Change a value, and give the file the name of what it holds then."""
    delta, parts = read_delta(path)
    parts["items.weight/values"][0, 0] += 1
    data = save(parts, {"delta": msgspec.json.encode(delta).decode()})
    path.unlink()
    (path.parent / f"{delta.number:06d}-{xxh3_128_hexdigest(data)}.safetensors").write_bytes(data)


def foreign(path: Path) -> None:
    data = save({}, {"delta": '{"kind": "hstu-stream delta", "format": 2}'})
    path.unlink()
    (path.parent / f"000002-{xxh3_128_hexdigest(data)}.safetensors").write_bytes(data)


def other_chain(path: Path) -> None:
    """Put in the second delta of a chain whose snapshot had other arrays, under this root's name."""
    other = Chain(path.parents[2] / "other", seed=1)
    other.log._root = path.parent.name
    (other.directory / "deltas" / path.parent.name).mkdir()
    paths = [other.append() for _ in range(2)]
    path.unlink()
    shutil.copy(paths[1], path.parent)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (Path.unlink, r"Delta 2 is missing in .*, where there is 3\."),
        (lambda path: shutil.copy(path, path.with_name("000002-" + "0" * 32 + ".safetensors")), "There are 2 deltas"),
        (swapped, "is number 3 after .*renamed"),
        (last, r"Delta 2 in .* is named as the last, and there is 3: one was renamed\."),
        (flipped, "is damaged: it has the digest"),
        (cut, "is damaged"),
        (forged, "does not lead to the state"),
        (foreign, "of format 2, but this hstu-stream reads"),
        (other_chain, "belongs to another chain"),
    ],
    ids=["gap", "repeat", "reorder", "last", "flipped", "cut", "forged", "format", "chain"],
)
def test_what_does_not_follow_is_refused(tmp_path: Path, harm: Any, sentence: str) -> None:
    """One sentence that says that answers go on; the state before it is as it was."""
    chain = Chain(tmp_path)
    state = chain.loaded()
    paths = [chain.append() for _ in range(3)]
    state = next_state(tmp_path, state, state.root) or state
    before = state_digest(state.snapshot.arrays)
    harm(paths[1])
    with pytest.raises(ModelError, match=f"(?s){sentence}.*Answers go on with what there is until the next snapshot"):
        next_state(tmp_path, state, state.root)
    assert state_digest(state.snapshot.arrays) == before


@pytest.mark.parametrize("own", [False, True])
def test_a_last_delta_leads_to_the_snapshot_that_its_name_says(own: bool, tmp_path: Path) -> None:
    """One that is renamed as the last is not followed to another, nor to itself."""
    chain = Chain(tmp_path)
    state, path = chain.loaded(), chain.append()
    wanted = read_delta(path)[0].manifest.id if own else "00009999-9b3ac0fa"
    last(path, wanted)
    with pytest.raises(ModelError, match=r"is number 1 after .*, to \S+: it was renamed"):
        next_state(tmp_path, state, wanted)
    with pytest.raises(ModelError, match="it was renamed"):
        verified_deltas(tmp_path, state.root)


def test_a_delta_that_is_renamed_as_the_last_does_not_end_a_chain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those before it are followed, and it is refused: not passed over in silence with all of them."""
    chain = Chain(tmp_path)
    state = chain.loaded()
    *_, newest = [chain.append() for _ in range(3)]
    last(newest)
    assert with_deltas(tmp_path, state).manifest.step == 2
    assert re.search(r"is number 3 after .*, to \S+: it was renamed", caplog.text)


def test_a_last_delta_whose_name_says_no_snapshot_is_refused(tmp_path: Path) -> None:
    """It would be taken for one in the middle, and answers for the snapshot before."""
    chain = Chain(tmp_path)
    state = chain.loaded()
    chain.move(0.1)
    chain.begin()
    path, *_ = (tmp_path / "deltas" / state.root).iterdir()
    path.rename(path.with_name("-".join(path.stem.split("-")[:2]) + ".safetensors"))
    with pytest.raises(ModelError, match=r"is number 1 after .*, to \S+: it was renamed"):
        next_state(tmp_path, state, state.root)


def test_a_table_of_another_width_is_refused(tmp_path: Path) -> None:
    """Named with both shapes, as after a trainer that was given other settings under one name; nothing has changed."""
    chain = Chain(tmp_path)
    chain.append()
    state = chain.loaded()
    narrow = {**state.snapshot.arrays, "items.weight": state.snapshot.arrays["items.weight"][:, :4]}
    before = state_digest(narrow)
    with pytest.raises(ModelError, match=r"does not fit: it is for a table items.weight of <f4 \[5, 8\], .* \[5, 4\]"):
        next_state(tmp_path, replace(state, snapshot=replace(state.snapshot, arrays=narrow)), state.root)
    assert state_digest(narrow) == before


@pytest.mark.timeout(60)
def test_a_pipe_among_deltas_is_not_waited_for(tmp_path: Path) -> None:
    """It is no plain file."""
    path = tmp_path / "00000001-00000000000000000000000000000000.safetensors"
    os.mkfifo(path)
    with pytest.raises(ModelError, match=r"cannot be read: .*it is no plain file"):
        read_delta(path)


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    """Nothing is taken for published that is not."""
    chain = Chain(tmp_path)
    shutil.rmtree(tmp_path / "deltas")
    (tmp_path / "deltas").touch()
    with pytest.raises(ModelError, match=r"No delta could be written to .*deltas"):
        chain.append()
