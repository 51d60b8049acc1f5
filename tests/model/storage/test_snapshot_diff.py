from pathlib import Path

import numpy as np
from hypothesis import given, strategies as st

from model.arrays.state import prefixed
from model.data.vocabulary import Vocabulary
from model.storage.snapshot import Snapshot
from model.storage.snapshot_diff import Moved, difference, flat, in_short
from stream.example import id_key
from tests.served import vocabulary
from tests.snapshots import some_manifest

ids = st.sampled_from([f"i{i}" for i in range(8)])
catalogues = st.dictionaries(ids, st.booleans(), max_size=8)  # item → withdrawn


def snapshot_with(items: dict[str, bool], step: int, **fields: object) -> Snapshot:
    """Return a snapshot of these items; True means withdrawn."""
    words = vocabulary(list(items))
    for item, withdrawn in items.items():
        if withdrawn:
            words.withdraw(id_key(item), step)
    arrays = {**prefixed("items.", words.state()), **prefixed("features.", vocabulary(["click"]).state())}
    arrays["items.weight"] = np.ones((len(words), 2), np.float32)
    return Snapshot(Path("of-tests"), some_manifest(step, id=f"s{step}", **fields), arrays)


@given(catalogues, catalogues)
def test_births_and_withdrawals_are_set_differences(before: dict[str, bool], after: dict[str, bool]) -> None:
    """Against sets by hand, in order of the rows of the later snapshot."""
    found = difference(snapshot_with(before, 1), snapshot_with(after, 2))
    gone = {item for item, withdrawn in before.items() if withdrawn}
    assert found.born == [item for item in after if item not in before]
    assert found.died == [item for item in before if item not in after]
    assert found.withdrawn == [item for item, withdrawn in after.items() if withdrawn and item not in gone]
    assert found.restored == [item for item, withdrawn in after.items() if not withdrawn and item in gone]
    assert found.numbers["items"] == (len(before), len(after))
    assert found.numbers["items live"] == tuple(sum(not w for w in items.values()) for items in (before, after))
    assert found.numbers["features"] == (1, 1)


def test_a_free_row_is_no_item() -> None:
    """An item whose row was freed is not there; one that took the row is born."""
    arrays = {**prefixed("features.", vocabulary(["click"]).state())}
    words, snapshots = vocabulary(["a", "b", "c"]), []
    for step in range(2):
        snapshots.append(Snapshot(Path("of-tests"), some_manifest(step, id=f"s{step}"), arrays | items_of(words)))
        words.bury(np.array([0, 1]))
        words.admit(np.array([id_key("d")], np.uint64), np.zeros(1, np.int64))
    found = difference(*snapshots)
    assert (found.born, found.died) == ([f"key {id_key('d'):016x}"], ["a", "b"])
    assert found.numbers["items"] == (3, 2)


def items_of(words: Vocabulary) -> dict[str, np.ndarray]:
    weights = {"items.weight": np.ones((len(words), 2), np.float32)}
    return weights | {name: np.array(array) for name, array in prefixed("items.", words.state()).items()}


def test_rows_that_moved_are_counted_by_item() -> None:
    """Wherever an item's row lies; by the share of its length; items of one snapshot alone have not moved."""
    a, b = snapshot_with({"x": False, "y": False, "z": False}, 1), snapshot_with({"n": False, "z": False, "y": True}, 2)
    a.arrays["items.weight"][:] = [[9, 9], [3, 4], [0, 2]]
    b.arrays["items.weight"][:] = [[7, 7], [0, 3], [3, 4]]
    assert difference(a, b).moved == Moved(rows=1, median=0.5, farthest=["z"])
    b.arrays["items.weight"][2] = [0, 0]
    assert difference(a, b).moved == Moved(rows=2, median=0.75, farthest=["y", "z"])
    assert difference(a, a).moved == Moved(rows=0, median=0, farthest=[])
    b.arrays["items.weight"] = np.ones((3, 3), np.float32)
    assert difference(a, b).moved is None


def test_metrics_stand_side_by_side() -> None:
    """A metric that only one of them has stands beside nothing."""
    a = snapshot_with({}, 1, metrics={"hr@10": 0.25, "auc": {"click": 0.5}}, targets=3, digests={"model": "x"})
    b = snapshot_with({}, 2, metrics={"hr@10": 0.5, "mrr": 0.1}, targets=4, digests={"model": "y"})
    numbers = difference(a, b).numbers
    assert (numbers["hr@10"], numbers["auc.click"], numbers["mrr"]) == ((0.25, 0.5), (0.5, None), (None, 0.1))
    assert (numbers["step"], numbers["targets"]) == ((1, 2), (3, 4))
    assert (difference(a, b).same_model, difference(a, a).same_model) == (False, True)
    assert not difference(snapshot_with({}, 1), snapshot_with({}, 1)).same_model


def test_the_summary_has_the_headline_of_each_scorer() -> None:
    """Sizes, and what a scorer does of late over items of all ages; nothing by age, of the whole run or of small k."""
    ages = {"all": {"hr@10": 0.1, "hr@100": 0.4, "targets": 9}, "old": {"hr@10": 0.2}}
    ranking = {"click": {"all": {"ne": 0.9, "auc": 0.7, "log_loss": 0.3}, "old": {"ne": 1.0}}}
    metrics = {
        "retrieval": {"hstu": {"window": ages, "total": ages}},
        "ranking": {"hstu": {"window": ranking, "total": ranking}},
    }
    short = in_short(difference(snapshot_with({"a": False}, 1, metrics=metrics), snapshot_with({}, 2)).numbers)
    assert [name for name in short if "." in name] == [
        *("retrieval.hstu.window.all.hr@10", "retrieval.hstu.window.all.targets"),
        *("ranking.hstu.window.click.all.ne", "ranking.hstu.window.click.all.auc"),
    ]
    assert {"items", "step", "watermark_ms"} <= short.keys()


def test_a_tree_of_metrics_is_flattened_to_its_numbers() -> None:
    """Texts, nulls, lists and booleans are no numbers."""
    tree = {"a": 1, "b": {"c": 0.5, "d": {"e": 2}}, "f": "text", "g": None, "h": [1], "i": True}
    assert flat(tree) == {"a": 1, "b.c": 0.5, "b.d.e": 2}
