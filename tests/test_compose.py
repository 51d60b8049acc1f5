"""docker-compose.yml: Docker itself takes it, and it says what the documentation promises."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stream.local_broker.jars import VERSION

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """The file as `docker compose` understands it; skips where its client is not installed. No engine is needed."""
    if shutil.which("docker") is None:
        pytest.skip("docker compose config was not run: there is no docker client here")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker compose config was not run: the docker client here has no compose plugin")
    done = subprocess.run(
        ["docker", "compose", "--file", ROOT / "docker-compose.yml", "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_docker_takes_the_file(composed: dict[str, Any]) -> None:
    """All services are there: Kafka, the topics once, two workers, two trainers of different attention, the server."""
    services = composed["services"]
    assert services.keys() == {"kafka", "topics", "worker", "trainer-silu", "trainer-softmax", "server"}
    assert services["worker"]["deploy"]["replicas"] == 2
    for attention in ("silu", "softmax"):
        assert services[f"trainer-{attention}"]["command"] == ["train", "--name", attention, "--attention", attention]
    assert services["server"]["command"] == ["serve", "--host", "0.0.0.0"]


def test_everything_shares_the_data_and_waits_for_the_topics(composed: dict[str, Any]) -> None:
    """The server reads the workers' stores, so they mount one volume; nobody starts before the topics are made."""
    ours = {name: service for name, service in composed["services"].items() if name != "kafka"}
    for service in ours.values():
        assert [(volume["source"], volume["target"]) for volume in service["volumes"]] == [("data", "/data")]
        assert service["environment"] == {"HSTU_BOOTSTRAP": "kafka:9092", "HSTU_DATA_DIR": "/data"}
    assert ours.pop("topics")["depends_on"]["kafka"]["condition"] == "service_healthy"
    for service in ours.values():
        assert service["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every published port names 127.0.0.1."""
    text = (ROOT / "docker-compose.yml").read_text()
    published = re.findall(r'^\s+- "([\d.:]*\d+:\d+)"$', text, re.MULTILINE)
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_docker_runs_the_kafka_that_we_run() -> None:
    """The image has the version of the locked jars."""
    assert f"image: apache/kafka:{VERSION}\n" in (ROOT / "docker-compose.yml").read_text()


def test_the_image_gets_what_pip_needs_and_runs_as_nobody_special() -> None:
    """All that the Dockerfile copies passes .dockerignore, and the last user is not root."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    copied = {source for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for source in line.split()}
    admitted = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == admitted
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["hstu"]
