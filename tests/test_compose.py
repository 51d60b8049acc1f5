"""docker-compose.yml and Dockerfile: Docker itself takes the file, and both hold what the documentation promises."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.local_broker.jars import VERSION

ROOT = Path(__file__).parents[1]
COMPOSED: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSED["services"]
THEIRS = {"kafka", "prometheus", "grafana"}
OURS = {name: service for name, service in SERVICES.items() if name not in THEIRS}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_docker_takes_the_file() -> None:
    """`docker compose` reads the same services; skips where its client is not installed. No engine is needed."""
    if shutil.which("docker") is None:
        pytest.skip("docker compose config was not run: there is no docker client here")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker compose config was not run: the docker client here has no compose plugin")
    arguments = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--services"]
    environment = {**os.environ, "HSTU_SERVE__TOKEN": "of the test"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {name for name, service in SERVICES.items() if "profiles" not in service}


def test_the_whole_pipeline_is_there() -> None:
    """Kafka, the topics once, two workers, two trainers of different attention, the server."""
    assert OURS.keys() == {"topics", "worker", "trainer-silu", "trainer-softmax", "server"}
    assert SERVICES.keys() > THEIRS
    assert all(SERVICES[name]["profiles"] == ["monitoring"] for name in THEIRS - {"kafka"})
    assert OURS["topics"]["command"] == "topics create"
    assert OURS["worker"]["deploy"]["replicas"] == 2
    for attention in ("silu", "softmax"):
        assert OURS[f"trainer-{attention}"]["command"] == f"train --name {attention} --attention {attention}"
    assert OURS["server"]["command"] == "serve --host 0.0.0.0"


def test_everything_shares_the_data_and_waits_for_the_topics() -> None:
    """The server reads the workers' stores, so all mount one volume; nothing starts before the topics are made."""
    for service in OURS.values():
        assert service["volumes"] == ["data:/data"]
        assert service["environment"]["HSTU_BOOTSTRAP"] == "kafka:9092"
        assert service["environment"]["HSTU_DATA_DIR"] == "/data"
    assert OURS["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"
    for name, service in OURS.items():
        if name != "topics":
            assert service["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_workers_run_from_the_slim_image() -> None:
    """Topics and workers need no extra; trainers and the server share an image with extras that exist."""
    images = {name: service["image"] for name, service in OURS.items()}
    slim, full = images["worker"], images["server"]
    assert images == {
        "topics": slim,
        "worker": slim,
        "trainer-silu": full,
        "trainer-softmax": full,
        "server": full,
    }
    assert slim != full
    assert OURS["worker"]["build"] == OURS["topics"]["build"] == "."
    arguments = OURS["server"]["build"]["args"]
    assert arguments["EXTRAS"] == "train,serve"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(arguments["EXTRAS"].split(",")) <= set(extras)
    assert set(arguments) <= set(re.findall(r'^ARG (\w+)=""$', DOCKERFILE, re.MULTILINE))


def test_the_server_is_healthy_once_it_answers() -> None:
    """Its health check is what Docker would run: it asks /ready at the port that is published."""
    server = OURS["server"]
    kind, program, *arguments = server["healthcheck"]["test"]
    assert (kind, program, arguments[0]) == ("CMD", "python", "-c")
    compile(arguments[1], "healthcheck", "exec")
    (published,) = server["ports"]
    assert f"http://127.0.0.1:{published.split(':')[-1]}/ready" in arguments[1]


def test_the_server_gets_its_token_from_whoever_starts_it() -> None:
    """No token is written in the file, and without one nothing starts."""
    assert OURS["server"]["environment"]["HSTU_SERVE__TOKEN"].startswith("${HSTU_SERVE__TOKEN:?")


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every published port names 127.0.0.1."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_docker_runs_the_kafka_that_we_run() -> None:
    """The image has the version of the locked jars."""
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{VERSION}"


def test_the_image_gets_what_pip_needs_and_does_not_run_as_root() -> None:
    """All that the Dockerfile copies passes .dockerignore, and the last user is not root."""
    copied = {source for line in re.findall(r"^COPY (.*) \S+$", DOCKERFILE, re.MULTILINE) for source in line.split()}
    admitted = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == admitted
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["hstu"]


def test_compiled_code_survives_the_container() -> None:
    """Numba's cache lies in the volume."""
    (cache,) = re.findall(r"NUMBA_CACHE_DIR=(\S+)", DOCKERFILE)
    assert Path(cache).is_relative_to("/data")
