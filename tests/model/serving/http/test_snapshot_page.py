import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from model.errors import ModelError
from model.serving.http import snapshot_page as module
from model.serving.http.snapshot_page import snapshot_page
from tests.http_server import serving
from tests.served import HISTORY, NOW_MS, Memory, answerer, model_arrays, write_model


def test_no_setting_of_the_trainers_machine_is_shown() -> None:
    """Settings that decide what is learned are; paths, addresses and unknown ones are not."""
    machine = {"metrics_file": "/home/ada/metrics", "metrics_host": "10.0.0.1", "password": "x", "name": "silu"}
    shown = answerer()
    shown.manifest.settings.update(train={"seed": 7, **machine}, secret={"key": "x"})
    page = snapshot_page(shown.manifest, shown.info()).model_dump()
    assert page["settings"].keys() == {"model", "train"}
    assert page["settings"]["train"] == {"seed": 7}
    assert page["settings"]["model"]["dim"] == 16
    assert page.keys().isdisjoint({"versions", "device", "threads", "offsets"})


def test_two_snapshots_are_compared(tmp_path: Path) -> None:
    """Items by name up to 20, the figures that head the others, and the top ten with the histories of the earlier."""
    directory = tmp_path / "snapshots" / "silu"
    metrics = {"retrieval": {"hstu": {"window": {"all": {"hr@10": 0.25, "mrr": 0.1}}}}}
    old = write_model(directory, 1, arrays=model_arrays(10), event_ms=NOW_MS)
    new = write_model(directory, 2, arrays=model_arrays(40), event_ms=NOW_MS + 1, metrics=metrics)
    with serving(tmp_path, Memory({"ada": HISTORY, "new": HISTORY[:0]})) as client:
        found = client.get(f"/snapshots/diff?a={old.name}&b=latest").json()
        assert (found["a"], found["b"], found["same_model"]) == (old.name, new.name, False)
        assert (found["born"]["count"], found["born"]["first"]) == (30, [f"i{item}" for item in range(10, 30)])
        assert found["died"] == {"count": 0, "first": []}
        assert found["numbers"]["items"] == [10, 40]
        assert found["numbers"]["retrieval.hstu.window.all.hr@10"] == [None, 0.25]
        assert "retrieval.hstu.window.all.mrr" not in found["numbers"]
        assert (found["churn"]["users"], found["churn"]["ts_ms"]) == (1, NOW_MS)
        assert 0 < found["churn"]["mean"] <= 1
        alone = client.get("/snapshots/diff?a=latest&b=latest").json()
        assert (alone["churn"]["mean"], alone["churn"]["unchanged"]) == (0, 1)
        unknown = client.get("/snapshots/diff?a=nothing&b=latest")
        assert (unknown.status_code, str(tmp_path) in unknown.text) == (404, False)
    with serving(tmp_path, Memory()) as client:
        assert client.get(f"/snapshots/diff?a={old.name}&b=latest").json()["churn"] is None


def test_one_comparison_is_made_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds two snapshots in memory; another one is told to come back."""
    write_model(tmp_path / "snapshots" / "silu")
    began, may_end, load = threading.Event(), threading.Event(), module.load_snapshot

    def slowly(path: Path) -> Any:
        began.set()
        if not may_end.wait(20):
            raise ModelError("waited for too long")
        return load(path)

    monkeypatch.setattr(module, "load_snapshot", slowly)
    url = "/snapshots/diff?a=latest&b=latest"
    with serving(tmp_path) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.get, url)
        assert began.wait(20)
        second = client.get(url)
        may_end.set()
        assert (second.status_code, second.headers["retry-after"]) == (503, "5")
        assert first.result(20).status_code == 200
