"""The promotion gate: what it lets pass, what it holds, and the lines it keeps."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from model.errors import ModelError
from model.storage.aliases import DECISIONS, Window, list_aliases, move_by_hand, moves
from model.storage.promotion import judge, promote, window_of
from model.storage.snapshot import Manifest
from tests.served import model_arrays, write_model


def metrics(model: float | None, counts: float, targets: int = 2000) -> dict[str, Any]:
    shares = {"hstu": model, "stack": counts}
    window = {name: {"window": {"all": {"targets": targets, "hr@10": share}}} for name, share in shares.items()}
    return {"retrieval": window}


def manifest(*window: Any, **more: Any) -> Manifest:
    return Manifest(name="silu", created=0, watermark_ms=0, step=1, metrics=metrics(*window, **more))


@pytest.mark.parametrize(
    ("old", "new", "moved", "reason"),
    [
        ((0.30, 0.25), (0.30, 0.25), True, "no fall beyond chance"),
        (
            (0.30, 0.25),
            (0.29, 0.25),
            True,
            "no fall beyond chance: HR@10 0.290, counts alone 0.250; before, HR@10 0.300",
        ),
        ((0.30, 0.25), (0.10, 0.08), True, "the counts have fallen as well, so the stream has changed"),
        ((0.30, 0.20), (0.20, 0.20), False, "the model has fallen, and its counts have not"),
        ((0.30, 0.25), (0.05, 0.25), False, "the model is below its own counts"),
        ((0.30, 0.25), (None, 0.25), False, "fewer than 200 targets"),
        ((0.30, 0.25), (0.40, 0.25, 199), False, "fewer than 200 targets"),
        ((0.30, 0.25, 10), (0.20, 0.20), True, "there is nothing to compare with"),
    ],
)
def test_a_worse_model_is_held_and_a_changed_stream_is_not(
    old: tuple[Any, ...], new: tuple[Any, ...], moved: bool, reason: str
) -> None:
    """By HR@10 of the last window, beside that of the counts on the same targets."""
    found, why = judge(window_of(manifest(*old)), [], manifest(*new))
    assert (found, reason in why) == (moved, True), why


def line_of(windows: Iterable[tuple[float, float, int]], size: int) -> list[float]:
    """Return HR@10 of each snapshot that the gate has let pass, in their order.

    Args:
        windows: Of each snapshot: HR@10 of the model, of the counts, targets tested until then.
        size: Targets of a window.
    """
    passed: list[Window] = []
    for model, counts, end in windows:
        candidate = replace(manifest(model, counts, size), targets=end)
        if judge(passed[-1] if passed else None, passed[::-1], candidate)[0]:
            passed.append(Window(end, size, model, counts))
    return [each.model for each in passed]


@pytest.mark.parametrize("every", [100, 250, 500])
def test_no_slow_fall_passes_step_by_step(every: int) -> None:
    """Of a model that hits 37 % and then 5 %, windows of neighbours are alike; its counts go on at 24 %."""
    falling = [(0.37 - 0.32 * new / 10_000, 0.24, 10_000 + new) for new in range(0, 5_000, every)]
    assert line_of(falling, 10_000)[-1] > 0.345


def test_a_model_that_goes_on_as_before_is_rarely_held() -> None:
    """Windows differ by chance, and the best of many is lucky: at most one in twenty is held."""
    hits, every, size = np.random.default_rng(5).random((2, 200_000)) < [[0.3], [0.25]], 500, 2_000
    windows = [(*hits[:, end - size : end].mean(1).tolist(), end) for end in range(size, hits.shape[1], every)]
    assert len(line_of(windows, size)) > 0.95 * len(windows)


def test_a_fall_that_the_counts_share_passes_step_by_step() -> None:
    """A stream that becomes harder slowly holds no model."""
    harder = [(0.37 * (1 - i / 100), 0.24 * (1 - i / 100), 2_000 + 500 * i) for i in range(50)]
    assert len(line_of(harder, 2_000)) == 50


def test_an_alias_moved_by_hand_begins_anew(tmp_path: Path) -> None:
    """What it named before is no measure for whoever has chosen a worse one; the chain of decisions ends there."""
    shares = ((0.3, 0.2), (0.29, 0.2), (0.25, 0.2), (0.245, 0.2))
    ids = [
        write_model(tmp_path, step, arrays=model_arrays(), metrics=metrics(*share, 10_000)).name
        for step, share in enumerate(shares, 1)
    ]
    found = [promote(tmp_path, "champion", each, 5.0).moved for each in ids[:3]]
    assert found == [True, True, False]
    move_by_hand(tmp_path, "champion", ids[2], 6.0)
    assert promote(tmp_path, "champion", ids[3], 7.0).moved
    assert [each.reason for each in moves(tmp_path, "champion")][1] == "moved by hand"


def test_lines_of_another_hand_are_passed_over(tmp_path: Path) -> None:
    """Other words, or half a line, stop no trainer."""
    first, second = (write_model(tmp_path, i, arrays=model_arrays(), metrics=metrics(0.3, 0.2)).name for i in (1, 2))
    assert promote(tmp_path, "champion", first, 5.0).moved
    with (tmp_path / DECISIONS).open("ab") as file:
        file.write(b'\xff\n[]\n{"moved": true, "alias": "champion"}\n{"at": 1,\n')
    assert promote(tmp_path, "champion", second, 5.0).moved
    assert [each.candidate for each in moves(tmp_path, "champion")] == [second, first]


def test_decisions_move_the_alias_and_are_kept(tmp_path: Path) -> None:
    """A line for each new candidate, with its reason; a candidate that is there already is no decision."""
    shares = ((0.3, 0.2), (0.1, 0.2), (0.31, 0.2))
    arrays = model_arrays()
    ids = [
        write_model(tmp_path, step, arrays=arrays, metrics=metrics(*share)).name for step, share in enumerate(shares, 1)
    ]
    found = [promote(tmp_path, "champion", each, 5.0).moved for each in (*ids, "latest")]
    assert found == [True, False, True, True]
    assert list_aliases(tmp_path)["champion"] == ids[2]
    lines = [json.loads(line) for line in (tmp_path / DECISIONS).read_text().splitlines()]
    assert [(line["before"], line["candidate"], line["moved"]) for line in lines] == [
        (None, ids[0], True),
        (ids[0], ids[1], False),
        (ids[0], ids[2], True),
    ]
    assert (lines[1]["at"], "below its own counts" in lines[1]["reason"]) == (5.0, True)
    with pytest.raises(ModelError, match="'nothing' is neither a snapshot nor an alias"):
        promote(tmp_path, "champion", "nothing", 5.0)
