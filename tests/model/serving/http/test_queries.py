"""Explanations, similar items, batches, filters, history and freshness over HTTP."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from model.serving.answerer import Answerer
from model.serving.http.app import _THREADS
from tests.http_server import serving
from tests.served import NOW_MS, model_arrays, write_model


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    data_dir = tmp_path_factory.mktemp("data")
    write_model(data_dir / "snapshots" / "silu", arrays=model_arrays(withdrawn=[6]))
    with serving(data_dir) as client:
        yield client


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def test_an_explanation_over_http(client: httpx.Client) -> None:
    """GET and POST answer the same; scores are those of /topk."""
    top = client.get("/topk", params={"user": "ada", "k": 2, "now_ms": NOW_MS}).json()
    params = {"user": "ada", "items": ",".join(ids(top)), "now_ms": NOW_MS, "newest": 2}
    found = client.get("/explain", params=params).json()
    assert [item["score"] for item in found["items"]] == pytest.approx(
        [item["score"] for item in top["items"]], abs=1e-5
    )
    assert [event["id"] for event in found["events"]] == ["i3", "i1"]
    assert all(len(item["changes"]) == 2 for item in found["items"])
    assert client.post("/explain", json={**params, "items": ids(top)}).json()["items"] == found["items"]
    for unknown in ("zz", '"x,y"'):
        answer = client.get("/explain", params=params | {"items": unknown})
        assert (answer.status_code, answer.json()["items"]) == (200, [])
    for wrong, sentence in (({"newest": 101}, "newest is 101"), ({"items": ""}, "items has 0 item ids")):
        refused = client.get("/explain", params=params | wrong)
        assert (refused.status_code, sentence in refused.json()["detail"]) == (422, True)


def test_filters_over_http(client: httpx.Client) -> None:
    """By GET for a user, by POST for a sequence and for several users."""
    params: dict[str, Any] = {"user": "ada", "now_ms": NOW_MS, "allow": "i7,i8,i9", "deny": "i8"}
    assert sorted(ids(client.get("/topk", params=params).json())) == ["i7", "i9"]
    body = {"allow": ["i7", "i8", "i9"], "deny": ["i8"], "k": 5, "now_ms": NOW_MS}
    assert sorted(ids(client.post("/topk", json={"sequence": ["i1"], **body}).json())) == ["i7", "i9"]
    many = client.post("/topk/batch", json={"users": ["ada", "nobody"], **body}).json()["answers"]
    assert [sorted(ids(one)) for one in many] == [["i7", "i9"], ["i7", "i9"]]
    assert [one["source"] for one in many] == ["model", "popularity"]
    unlike = client.get("/topk", params={"user": "ada", "diversity": 0.9, "k": 3}).json()
    assert len(unlike["items"]) == 3
    assert client.get("/topk", params={"user": "ada", "feature": ["genre=War", "new=true"]}).json()["items"] == []
    nothing = client.get("/topk", params={"user": "ada", "feature": "genre=War"}).json()
    assert nothing["missing"] == "no item of the catalogue has a feature 'genre'; the features are: none"
    for path, more in (("/topk", {"sequence": ["i1"]}), ("/topk/batch", {"users": ["ada"]})):
        refused = client.post(path, json={**more, "allow": []})
        assert (refused.status_code, "allow names no item" in refused.json()["detail"]) == (422, True)
    assert client.post("/topk", json={"sequence": ["i1"], "allow": None}).status_code == 200
    for wrong in ({"feature": "War"}, {"diversity": 1.5}, {"allow": "i1,,i2"}, {"allow": ""}):
        assert client.get("/topk", params={"user": "ada", **wrong}).status_code == 422


def test_batches_rank_and_are_bounded(client: httpx.Client) -> None:
    """Each user is answered as alone; more than 100 users are refused."""
    body = {"users": ["ada", "nobody"], "items": ["i2", "x"], "now_ms": NOW_MS}
    answers = client.post("/rank/batch", json=body).json()["answers"]
    alone = client.get("/rank", params={"user": "ada", "items": "i2,x", "now_ms": NOW_MS}).json()
    assert (answers[0]["items"], answers[1]["user"]) == (alone["items"], "nobody")
    quoted = client.get("/rank", params={"user": "ada", "items": '"x,y",i2'}).json()
    assert ids(quoted) == ["i2", "x,y"]
    for path, more in (("/topk/batch", {}), ("/rank/batch", {"items": ["i1"]})):
        refused = client.post(path, json={"users": ["u"] * 101, **more})
        assert (refused.status_code, "users is refused" in refused.json()["detail"]) == (422, True)


def test_batches_of_explanations_and_of_similar_items(client: httpx.Client) -> None:
    """Each answer is that to the single question; items that are unknown have a sentence; too many are refused."""
    more = {"items": ["i7", "x"], "newest": 2, "now_ms": NOW_MS}
    found = client.post("/explain/batch", json={"users": ["ada", "nobody"], **more}).json()["answers"]
    assert found == [client.post("/explain", json={"user": user, **more}).json() for user in ("ada", "nobody")]
    refused = client.post("/explain/batch", json={"users": ["ada"] * 21, "items": ["i7"]})
    assert (refused.status_code, "users is refused" in refused.json()["detail"]) == (422, True)
    like = client.post("/similar/batch", json={"items": ["i2", "x", 3], "k": 2}).json()
    assert like["answers"] == [client.get("/similar", params={"item": "i2", "k": 2}).json()]
    assert (list(like["unknown"]), "x" in like["unknown"]["x"]) == (["x", "3"], True)
    assert client.post("/similar/batch", json={"items": ["i2"], "k": 0}).status_code == 422
    long = client.post("/similar/batch", json={"items": ["x"] * 21, "k": 1000})
    assert "21 items with 1,000 like each are 21,000 pairs" in long.json()["detail"]


def test_users_like_a_user(client: httpx.Client) -> None:
    """Those that can be compared, and why the others cannot; a user without events is a 404."""
    found = client.post("/similar/users", json={"user": "ada", "users": ["nobody", "ada"], "k": 2}).json()
    assert (found["user"], found["users"], list(found["unknown"])) == ("ada", [], ["nobody"])
    assert client.post("/similar/users", json={"user": "nobody", "users": ["ada"]}).status_code == 404
    assert client.post("/similar/users", json={"user": "ada", "users": []}).status_code == 422
    assert client.post("/similar/users", json={"user": "ada", "users": ["u"] * 1001}).status_code == 422


def test_a_batch_of_rankings_has_at_most_20000_pairs(client: httpx.Client) -> None:
    """More are refused before any is ranked."""
    long = client.post("/topk/batch", json={"users": ["u"] * 21, "k": 1000})
    assert (long.status_code, "21 users with 1,000 items each are 21,000" in long.json()["detail"]) == (422, True)
    refused = client.post("/rank/batch", json={"users": ["u"] * 11, "items": ["x"] * 2000})
    assert (refused.status_code, "are 22,000 pairs; give at most 20,000" in refused.json()["detail"]) == (422, True)
    assert client.post("/rank/batch", json={"users": ["u"] * 10, "items": ["x"] * 2000}).status_code == 200


def test_short_queries_find_a_thread_beside_long_ones(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two explanations or batches are computed at a time; more of them wait without a thread."""
    begun, go_on, explain = threading.Semaphore(0), threading.Event(), Answerer.explain

    def wait(*args: Any, **options: Any) -> Any:
        begun.release()
        go_on.wait(10)
        return explain(*args, **options)

    monkeypatch.setattr(Answerer, "explain", wait)
    with ThreadPoolExecutor(_THREADS) as pool:
        slow = [pool.submit(client.get, "/explain?user=ada&items=i1") for _ in range(_THREADS)]
        try:
            assert all(begun.acquire(timeout=5) for _ in range(2))
            assert not begun.acquire(timeout=0.2)
            assert client.get("/topk?user=ada", timeout=2).status_code == 200
        finally:
            go_on.set()
        assert {one.result().status_code for one in slow} == {200}


def test_similar_history_and_freshness_over_http(client: httpx.Client) -> None:
    """Each by its own path; an unknown item is a sentence."""
    similar = client.get("/similar", params={"item": "i2", "k": 3}).json()
    assert (similar["title"], len(similar["items"]), "i6" in ids(similar)) == ("Item 2", 3, False)
    assert client.get("/similar", params={"item": "x"}).status_code == 404
    history = client.get("/history", params={"user": "ada", "last": 2}).json()["events"]
    assert [(event["title"], event["action"]) for event in history] == [("Item 3", "like"), ("Item 1", "click")]
    fresh = client.get("/freshness").json()
    assert (fresh["snapshot"]["age_s"], fresh["behind_s"]) == (10, 70)
