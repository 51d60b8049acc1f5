import asyncio
import importlib
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from model.storage.aliases import LATEST, resolve
from model.storage.snapshot import list_snapshots
from tests.http_server import serving
from tests.served import model_arrays, write_model

BENCH = Path(__file__).parents[2] / "bench"


def test_a_short_soak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests beside twenty swaps none fails, each swap is a snapshot of its own, and old ones are deleted."""
    monkeypatch.syspath_prepend(str(BENCH))
    soak = importlib.import_module("soak")
    directory = tmp_path / "snapshots" / "silu"
    write_model(directory, arrays={name: np.asarray(array) for name, array in model_arrays().items()})
    ask = [itertools.repeat("/topk?user=ada"), itertools.repeat("/rank?user=ada&items=i1,i2")]
    names, swap = [], soak.publishing(directory)

    def noted(number: int) -> str:
        names.append(swap(number))
        return names[-1]

    with serving(tmp_path) as client:
        port = client.base_url.port
        found = asyncio.run(soak.soak(port, os.getpid(), noted, ask, 20, 0.1))
    assert not found.failed
    assert len(found.loads["during"].answers_ms) > 5
    assert len(set(names)) == len(found.swaps_s) == len(found.resident_mib) == 20
    assert resolve(directory, LATEST).name == names[-1]
    assert len(list_snapshots(directory)) == soak.KEPT
    early, late = found.tenths_mib
    assert late < early + 30


def test_a_soak_counts_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is refused is a failure, under the status that came."""
    monkeypatch.syspath_prepend(str(BENCH))
    soak = importlib.import_module("soak")
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path) as client:
        ask = [itertools.repeat("/topk?k=0&user=ada")]
        found = asyncio.run(soak.soak(client.base_url.port, os.getpid(), lambda _: "", ask, 0, 0.1))
    assert found.failed.keys() == {"status 422"}
