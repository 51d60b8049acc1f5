"""Schemathesis asks what openapi.json allows, and what it does not: every answer has to be one that it declares."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.http_server import serving
from tests.served import model_arrays, write_model


@pytest.mark.parametrize(
    "phases",
    [
        ["--phases", "coverage"],
        pytest.param(  # ids have at most 256 bytes, which a schema cannot say: so in ASCII
            ["--phases", "coverage,fuzzing", "--max-examples", "100", "--generation-codec", "ascii"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["coverage", "fuzzing"],
)
def test_the_service_does_what_its_schema_says(phases: list[str], tmp_path: Path) -> None:
    """Statuses, fields, headers, methods: what is allowed is answered, what is not is refused, and nothing fails."""
    write_model(tmp_path / "snapshots" / "silu", arrays=model_arrays(withdrawn=[6]))
    with serving(tmp_path) as client:
        paths = client.get("/openapi.json").json()["paths"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json", "--seed", "1"]
        done = subprocess.run([*command, *phases], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert f"{sum(map(len, paths.values()))} passed" in done.stdout, done.stdout[-1500:]
