"""Examples of the HTTP service: the answers of a real server over a small, untrained model."""

import math
import re
from pathlib import Path
from typing import Any

import httpx

from model.serving.http.examples import read_examples
from tests.http_server import serving
from tests.served import write_model

_SNAPSHOT = re.compile(r"(?<=^\d{8}-)[0-9a-f]{8}$")


def answered(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the examples with the answers of a server in an empty folder, asked in order."""
    write_model(folder / "snapshots" / "silu")
    with serving(folder) as client:
        return {name: example | {"answer": ask(client, name, example)} for name, example in read_examples().items()}


def ask(client: httpx.Client, name: str, example: dict[str, Any]) -> Any:
    method, path = name.split()
    answer = client.request(method, path, params=example.get("parameters"), json=example.get("body"))
    assert answer.status_code == 200, (name, answer.text)
    return _rounded(answer.json())


def _rounded(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {key: _rounded(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return [_rounded(value) for value in answer]
    return round(answer, 4) if isinstance(answer, float) else answer


def alike(one: Any, other: Any) -> bool:
    """Return whether two answers are equal, but for the last digits of numbers and the digests of such."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=2e-4)
    if isinstance(one, str) and isinstance(other, str):
        return _SNAPSHOT.sub("", one) == _SNAPSHOT.sub("", other)
    return bool(one == other)
