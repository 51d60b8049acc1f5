"""The dashboard over HTTP: who gets what, the events of its stream, and how streams end."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.serving.http import dashboard
from tests.dashboard import line, write_lines
from tests.http_server import SETTINGS, serving
from tests.served import write_model

TOKEN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "EVERY_S", 0.05)
    monkeypatch.setattr("model.dashboard.overview._FRESH_S", 0.0)


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    name = ""
    for text in response.iter_lines():
        if text.startswith("event: "):
            name = text.removeprefix("event: ")
        elif text.startswith("data: "):
            yield name, json.loads(text.removeprefix("data: "))


def test_the_page_is_open_and_its_figures_are_not(tmp_path: Path) -> None:
    """Page, scripts and style need no token, since a browser sends none; they load nothing from elsewhere."""
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path, token=TOKEN) as client:
        page = client.get("/")
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "http://" not in page.text
        assert "https://" not in page.text
        for name in ("main.js", "style.css", "icon.svg"):
            assert client.get(f"/dashboard/static/{name}").status_code == 200
        assert client.get("/dashboard/static/../stream").status_code in (401, 404)
        assert client.get("/dashboard/stream").status_code == 401
        assert client.get("/snapshots").status_code == 401
        assert client.post("/snapshots/alias", json={"alias": "latest", "snapshot": "latest"}).status_code == 401
        with client.stream("GET", "/dashboard/stream", headers={"Authorization": f"Bearer {TOKEN}"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert next(events(response))[0] == "now"


def test_points_are_sent_once(tmp_path: Path) -> None:
    """All at first, then the new ones; then none."""
    write_model(tmp_path / "snapshots" / "silu")
    write_lines(tmp_path, "silu", line("silu", 1), line("silu", 2))
    with serving(tmp_path) as client, client.stream("GET", "/dashboard/stream") as response:
        found = events(response)
        name, first = next(found)
        assert (name, first["trainer"], first["from"], len(first["points"])) == ("points", "silu", 0, 2)
        name, now = next(found)
        assert (name, now["follows"], now["serving"]["snapshot"]["alias"]) == ("now", "latest", "latest")
        assert [row["aliases"] for row in now["snapshots"]] == [["latest"]]
        write_lines(tmp_path, "silu", line("silu", 3))
        more = next(data for name, data in found if name == "points")
        assert (more["from"], [point["step"] for point in more["points"]]) == (2, [30])
        assert [next(found)[0] for _ in range(3)] == ["now"] * 3


def test_a_trainer_that_is_deleted_is_named_no_more(tmp_path: Path) -> None:
    """A page drops what `now` does not name; another trainer of that name is sent from its first point on."""
    write_model(tmp_path / "snapshots" / "silu")
    path = write_lines(tmp_path, "silu", line("silu", 1))
    with serving(tmp_path) as client, client.stream("GET", "/dashboard/stream") as response:
        found = events(response)
        assert next(data["trainers"] for name, data in found if name == "now") == ["silu"]
        path.unlink()
        next(data for name, data in found if name == "now" and not data["trainers"])
        write_lines(tmp_path, "silu", line("silu", 3))
        again = next(data for name, data in found if name == "points")
        assert (again["from"], [point["step"] for point in again["points"]]) == (0, [30])


def test_too_many_pages_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one gets an event and its end; a page that has gone makes room."""
    monkeypatch.setattr(dashboard, "WATCHERS", 1)
    with serving(tmp_path) as client:
        with client.stream("GET", "/dashboard/stream") as first:
            found = events(first)  # kept, since a collected generator closes its connection
            assert next(found)[0] == "now"
            with client.stream("GET", "/dashboard/stream") as second:
                assert list(events(second)) == [("full", 1)]
        deadline = time.monotonic() + 20
        while True:
            with client.stream("GET", "/dashboard/stream") as third:
                if next(events(third))[0] == "now":
                    break
            assert time.monotonic() < deadline


def test_a_page_does_not_hold_the_server_up(tmp_path: Path) -> None:
    """A stream ends when the server stops, long before the ten seconds that other requests get."""
    with serving(tmp_path) as client:
        response = client.send(client.build_request("GET", "/dashboard/stream"), stream=True)
        found = events(response)
        next(found)
        start_s = time.monotonic()
        client_closed = client
    assert client_closed.is_closed
    assert time.monotonic() - start_s < 5


def test_an_alias_is_moved_and_followed(tmp_path: Path) -> None:
    """POST /snapshots/alias is `hstu snapshots alias`; what is wrong is a sentence without a path; HTML forms fail."""
    directory = tmp_path / "snapshots" / "silu"
    old, new = write_model(directory, 1), write_model(directory, 2)
    with serving(tmp_path, settings=SETTINGS) as client:
        listed = client.get("/snapshots").json()
        assert (listed["name"], listed["follows"], listed["snapshots"][0]["aliases"]) == ("silu", "latest", ["latest"])
        moved = client.post("/snapshots/alias", json={"alias": "latest", "snapshot": old.name}).json()
        assert moved == {"alias": "latest", "snapshot": old.name, "before": new.name}
        deadline = time.monotonic() + 20
        while client.get("/snapshot").json()["id"] != old.name:
            assert time.monotonic() < deadline
        gone = "00000009-00000000"
        for body, status, sentence in (
            ({"alias": "latest", "snapshot": gone}, 404, f"The snapshot {gone} is not in this folder"),
            ({"alias": "a/b", "snapshot": old.name}, 422, "'a/b' is no name for an alias"),
            ({"alias": "latest", "snapshot": "nothing"}, 404, "'nothing' is neither a snapshot nor an alias"),
        ):
            refused = client.post("/snapshots/alias", json=body)
            assert refused.status_code == status
            assert sentence in refused.json()["detail"]
            assert str(tmp_path) not in refused.text
        (directory / ".lock").unlink()
        (directory / ".lock").mkdir()  # as good as a folder that cannot be written
        refused = client.post("/snapshots/alias", json={"alias": "latest", "snapshot": new.name})
        assert refused.json()["detail"].startswith("The folder of the snapshots cannot be locked: Is a directory; is")
        form = client.post("/snapshots/alias", content=json.dumps({"alias": "latest", "snapshot": new.name}))
        assert form.status_code == 422
