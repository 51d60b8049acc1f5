import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model.config import ServeSettings
from model.serving.http.prometheus import access_log
from tests.http_server import serving
from tests.served import write_model

SCOPE = {"client": ("10.0.0.9", 1234), "method": "GET", "raw_path": b"/topk", "query_string": b"user=ada&token=x"}
NOW = datetime(2026, 11, 26, 18, 21, 13, 123456, UTC)


@pytest.mark.parametrize(
    ("style", "line"),
    [
        ("text", "2026-11-26T18:21:13.123Z 10.0.0.9 GET /topk 200 4.1 ms"),
        (
            "json",
            '{"time": "2026-11-26T18:21:13.123Z", "client": "10.0.0.9", "method": "GET", "path": "/topk", '
            '"status": 200, "ms": 4.1}',
        ),
    ],
)
def test_a_request_is_one_line_without_its_parameters(style: str, line: str) -> None:
    """Time, client, method, path, status and milliseconds; neither users nor tokens."""
    lines: list[str] = []
    access_log(style, lines.append, lambda: NOW)(SCOPE, 200, 0.00412)
    assert lines == [line]


def test_every_answer_is_logged_refusals_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Control characters come as percent codes; a long path is cut."""
    write_model(tmp_path / "snapshots" / "silu")
    with serving(tmp_path, settings=ServeSettings(access_log="json"), token="0123456789abcdef") as client:
        for path in ("/live", "/topk?user=ada", "/%1b]0;x%07", "/" + "x" * 3000):
            client.get(path, headers={"Host": "localhost"})
        client.head("/live")
        client.get("/health", headers={"Host": "evil.example"})
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/live", 200),
        ("GET", "/topk", 401),
        ("GET", "/%1b]0;x%07", 401),
        ("GET", "/" + "x" * 199, 401),
        ("HEAD", "/live", 200),
        ("GET", "/health", 421),
    ]


def test_requests_are_not_logged_by_default(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever wants a log asks for it."""
    with serving(tmp_path) as client:
        client.get("/live")
    assert capfd.readouterr().out == ""
