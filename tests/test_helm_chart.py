"""charts/hstu-stream: what Helm renders is what Kubernetes takes, and what `hstu` takes from Kubernetes.

tests/helm holds what Helm rendered, so that the tests need no Helm; its first line is a digest of the chart. After a
change of the chart render it again, with Helm installed: `python -m tests.test_helm_chart`.
"""

import shutil
import subprocess
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import typer.main
import yaml
from xxhash import xxh3_128_hexdigest

from model.serving.http.server import GRACE_S
from sim.config import Settings, load
from sim.main import app

CHART: Final = Path(__file__).parents[1] / "charts" / "hstu-stream"
FOLDER: Final = Path(__file__).parent / "helm"
NAMES: Final = ("default", "full")
KUBERNETES: Final = "1.30"  # the first that the chart promises
PARTS: Final = ("worker", "trainer", "server")


def digest(name: str) -> str:
    """Return the digest of the chart's files and of the values of one rendering."""
    files = sorted(path for path in CHART.rglob("*") if path.is_file())
    return xxh3_128_hexdigest(b"\0".join(path.read_bytes() for path in (*files, FOLDER / f"{name}-values.yaml")))


def render(name: str) -> str:
    """Return what Helm renders of the chart."""
    values = ["--values", str(FOLDER / f"{name}-values.yaml")]
    command = ["helm", "template", "hstu", str(CHART), "--namespace", "rec", "--kube-version", "1.34.0", *values]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def objects(name: str) -> list[dict[str, Any]]:
    text = (FOLDER / f"{name}.yaml").read_text()
    return [found for found in yaml.safe_load_all(text) if found]


def of_kind(name: str, *kinds: str) -> dict[str, dict[str, Any]]:
    """Return the rendered objects of some kinds by the part that they are of."""
    found = (each for each in objects(name) if each["kind"] in kinds)
    return {each["metadata"]["name"].removeprefix("hstu-"): each for each in found}


def pods(name: str) -> dict[str, dict[str, Any]]:
    return {
        part: each["spec"]["template"]["spec"] | {"labels": each["spec"]["template"]["metadata"]["labels"]}
        for part, each in of_kind(name, "StatefulSet", "Deployment").items()
    }


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_checked_is_rendered_from_the_chart(name: str) -> None:
    """The digest is that of the chart as it is; where Helm is installed, it renders the same."""
    text = (FOLDER / f"{name}.yaml").read_text()
    first, _, rest = text.partition("\n")
    assert first == f"# {digest(name)}", "render it again: python -m tests.test_helm_chart"
    if shutil.which("helm"):
        assert render(name) == rest


def test_helm_finds_nothing_to_complain_of() -> None:
    """`helm lint`, and a sentence where a value without default is missing; skips where Helm is not installed."""
    if shutil.which("helm") is None:
        pytest.skip("helm lint was not run: there is no helm here")
    values = ["--values", str(FOLDER / "full-values.yaml")]
    subprocess.run(["helm", "lint", "--strict", str(CHART), *values], capture_output=True, text=True, check=True)
    for value, missing in (("kafka.bootstrap", "name the Kafka"), ("tokens.existingSecret", "name the Secret")):
        command = ["helm", "template", str(CHART), "--kube-version", "1.34.0", *values, "--set", f"{value}="]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"{value} is empty: {missing}" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes_takes_it(name: str) -> None:
    """By its schemas, without unknown fields; a ServiceMonitor is of Prometheus' operator, and has none there."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"] == f">={KUBERNETES}.0-0"
    for each in objects(name):
        if each["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(each, KUBERNETES, strict=True)
    assert set(pods(name)) == set(PARTS)
    assert len({(each["kind"], each["metadata"]["name"]) for each in objects(name)}) == len(objects(name))


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_somewhere(name: str) -> None:
    """Services, budgets and monitors select pods; mounts have volumes, probes and Services have ports."""
    for part, pod in pods(name).items():
        main = pod["containers"][0]
        ports = {port["name"] for port in main["ports"]}
        volumes = {volume["name"] for volume in pod["volumes"]}
        own = of_kind(name, "StatefulSet", "Deployment")[part]["spec"]
        volumes |= {claim["metadata"]["name"] for claim in own.get("volumeClaimTemplates", ())}
        service = of_kind(name, "Service")[part]["spec"]
        assert service["selector"] == own["selector"]["matchLabels"]
        assert service["selector"].items() <= pod["labels"].items()
        assert {port["targetPort"] for port in service["ports"]} <= ports
        assert own.get("serviceName", f"hstu-{part}") == f"hstu-{part}"
        assert {mount["name"] for each in containers(pod) for mount in each["volumeMounts"]} == volumes
        probes = [main[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness", "startup")]
        assert [probe["path"] for probe in probes] == ["/live", "/ready", "/live"]
        assert {probe["port"] for probe in probes} <= ports
    for kind, parts in (("PodDisruptionBudget", ("worker", "server")), ("ServiceMonitor", PARTS)):
        for part, each in of_kind(name, kind).items():
            assert part in parts
            assert each["spec"]["selector"] == {"matchLabels": of_kind(name, "Service")[part]["spec"]["selector"]}


def started(name: str, monkeypatch: pytest.MonkeyPatch, part: str, container: dict[str, Any]) -> Settings:
    """Return the settings that a container's command loads, as the second pod of its kind, beside a Service `hstu`."""
    variables = {**of_kind(name, "ConfigMap")["settings"]["data"], "HSTU_PORT": "tcp://10.0.0.1:80"}
    for entry in container.get("env", ()):
        value = entry.get("value", f"hstu-{part}-1")
        variables[entry["name"]] = value.replace("$(POD_NAME)", variables.get("POD_NAME", ""))
    flags = {}
    with monkeypatch.context() as changed:
        for key, value in variables.items():
            changed.setenv(key, value)
        group: Any = typer.main.get_command(app)
        verb, command, rest = group.resolve_command(group.make_context("hstu", ["x"]), list(container["args"]))
        while rest and hasattr(command, "resolve_command"):
            _, command, rest = command.resolve_command(command.make_context(verb, ["x"]), rest)
        given = command.make_context(verb, rest).params
        if verb == "serve":
            flags = {f"serve.{key}": given[key] for key in ("host", "port", "name")}
        elif verb == "train":
            flags = {"train.name": given["name"], "model.attention": given["attention"]}
        return load(None, flags)


@pytest.mark.parametrize("name", NAMES)
def test_hstu_takes_every_variable_and_argument(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting is misspelt, those of the values arrive, and variables of Kubernetes' Services do no harm."""
    monkeypatch.chdir(tmp_path)
    found = {
        (part, each["name"]): started(name, monkeypatch, part, each)
        for part, pod in pods(name).items()
        for each in containers(pod)
    }
    worker, trainer, server = (found[part, part] for part in PARTS)
    assert worker.stream.instance_id == "hstu-worker-1"
    assert worker.stream.worker_url == "http://hstu-worker-1.hstu-worker.rec.svc:9100"
    assert worker.stream.metrics_port == trainer.train.metrics_port == 9100
    assert {worker.stream.metrics_host, trainer.train.metrics_host, server.serve.host} == {"0.0.0.0"}
    assert server.serve.name == trainer.train.name
    assert server.serve.watch == ("hstu-worker:9100", "hstu-trainer:9100")
    assert server.stream.peer_token_file == worker.stream.peer_token_file == "/secrets/peers/token"
    assert {str(each.data_dir) for each in found.values()} == {"/data"}
    values = yaml.safe_load((FOLDER / f"{name}-values.yaml").read_text())
    for each in found.values():
        assert each.bootstrap == values["kafka"]["bootstrap"]
        for table, keys in values.get("settings", {}).items():
            for key, value in keys.items():
                taken = getattr(getattr(each, table), key.replace(".", "_"))
                assert (list(taken) if isinstance(value, list) else taken) == value, (table, key)
    if name == "full":
        assert worker.kafka.sasl_password_file == "/secrets/kafka/password"
        assert worker.kafka.ssl_ca_location == "/secrets/kafka/ca.crt"
        assert found.keys() == {(part, part) for part in PARTS}  # nobody makes topics


@pytest.mark.parametrize("name", NAMES)
def test_files_that_settings_name_are_mounted(name: str) -> None:
    """Tokens and passwords come from Secrets that are there, and nothing of them stands in a variable."""
    for pod in pods(name).values():
        secrets = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
        for each in containers(pod):
            mounts = {mount["mountPath"]: mount["name"] for mount in each["volumeMounts"]}
            own = [entry.get("value", "") for entry in each.get("env", ())]
            for value in chain(own, of_kind(name, "ConfigMap")["settings"]["data"].values()):
                if value.startswith("/secrets/"):
                    assert mounts[str(Path(value).parent)] in secrets
    data = of_kind(name, "ConfigMap")["settings"]["data"]
    assert not [key for key in data if key.endswith(("PASSWORD", "TOKEN"))]


def test_snapshots_are_written_by_one_and_read_by_all() -> None:
    """Trainer and servers mount one claim where snapshots lie; servers cannot write there."""
    for name, claim in zip(NAMES, ("hstu-snapshots", "shared-snapshots"), strict=True):
        for part, read_only in (("trainer", False), ("server", True)):
            pod = pods(name)[part]
            (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "snapshots"]
            (volume,) = [each for each in pod["volumes"] if each["name"] == "snapshots"]
            assert mount["mountPath"] == "/data/snapshots"
            assert mount.get("readOnly", False) is read_only
            assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert list(of_kind("default", "PersistentVolumeClaim")) == ["snapshots"]
    assert not of_kind("full", "PersistentVolumeClaim")


def test_nothing_is_cut_off_or_too_powerful() -> None:
    """A server has time for its running requests; nobody is root, and no Service puts variables into a pod."""
    for name in NAMES:
        server = pods(name)["server"]
        wait_s = server["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert server["terminationGracePeriodSeconds"] > wait_s + GRACE_S
        for pod in pods(name).values():
            assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert all(each["securityContext"]["allowPrivilegeEscalation"] is False for each in containers(pod))
    dockerfile = (CHART.parents[1] / "Dockerfile").read_text()
    assert f"useradd --uid {pods('default')['worker']['securityContext']['runAsUser']} " in dockerfile


if __name__ == "__main__":
    for each in NAMES:
        (FOLDER / f"{each}.yaml").write_text(f"# {digest(each)}\n{render(each)}")
