"""TLS, users and ACLs of the local node: `hstu broker --sasl-user USER --tls`.

Files in the node's directory, for their owner alone:

    secrets/USER.password   made if no password is given; clients name it by sasl.password.file
    tls/ca.pem              the CA that clients trust (ssl.ca.location); its key is deleted once it has signed
    tls/server.p12          certificate and key for localhost and 127.0.0.1, made by Java's keytool
    tls/server.password     the password of that file

The user authenticates by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, and may do everything. Other users, made by Kafka's own
tools, may do what ACLs allow. The node itself, its controller and this module connect as User:hstu-broker by PLAIN,
with a password that is made at each start.
"""

import json
import os
import re
import secrets
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from stream.config import KafkaSettings
from stream.errors import BrokerError
from stream.kafka import clients
from stream.kafka.connection import Kafka, variable

_ITSELF: Final = "hstu-broker"
_MECHANISMS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_ANSWER_S: Final = 30.0
_VALID_DAYS: Final = "3650"
_TLS: Final = """\
ssl.keystore.type=PKCS12
ssl.keystore.location=tls/server.p12
ssl.keystore.password={password}
ssl.truststore.type=PEM
ssl.truststore.location=tls/ca.pem
"""
_SASL: Final = """\
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{itself};User:{user}
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config={plain} user_{itself}="{own_password}";
listener.name.clients.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.clients.plain.sasl.jaas.config={plain} user_{itself}="{own_password}" user_{user}="{password}";
listener.name.clients.scram-sha-256.sasl.jaas.config={scram};
listener.name.clients.scram-sha-512.sasl.jaas.config={scram};
"""
_PLAIN: Final = (
    'org.apache.kafka.common.security.plain.PlainLoginModule required username="{itself}" password="{own_password}"'
)
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule required"


@dataclass(frozen=True, slots=True)
class Security:
    """How a node is secured: by TLS, by one user, or both; by neither if nothing is given.

    Args:
        user: Its name, which is that of a file as well; empty means that nobody authenticates.
        password: Empty means one that is made and kept in the node's directory.
        tls: Whether clients speak TLS.

    Raises:
        BrokerError: The user cannot be named so.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    _own_password: str = field(default_factory=secrets.token_urlsafe, repr=False)

    def __post_init__(self) -> None:
        if self.user and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.user) or self.user == _ITSELF):
            raise BrokerError(
                f"--sasl-user {self.user} cannot be a user here; give one of at most 64 letters, digits and ._- "
                f"that is not {_ITSELF}."
            )
        if not all(" " <= sign <= "~" for sign in self.password):
            raise BrokerError("The password of --sasl-user holds a sign that is not printable ASCII; choose another.")

    @property
    def protocol(self) -> str:
        """Kafka's name of how clients connect."""
        if self.user:
            return "SASL_SSL" if self.tls else "SASL_PLAINTEXT"
        return "SSL" if self.tls else "PLAINTEXT"

    @property
    def controller_protocol(self) -> str:
        """Kafka's name of how the node connects to its own controller, on loopback."""
        return "SASL_PLAINTEXT" if self.user else "PLAINTEXT"

    def prepare(self, directory: Path, java: Path) -> str:
        """Write passwords and certificates where they are missing; return the node's properties.

        Raises:
            BrokerError: Java's keytool fails.
        """
        properties = ""
        if self.tls:
            folder = _private(directory / "tls")
            if not (folder / "server.p12").exists():
                _make_certificates(folder, java)
            properties += _TLS.format(password=(folder / "server.password").read_text())
        if self.user:
            own = self._own_password
            properties += _SASL.format(
                itself=_ITSELF,
                own_password=own,
                user=self.user,
                password=_quoted(self._password(directory)),
                plain=_PLAIN.format(itself=_ITSELF, own_password=own),
                scram=_SCRAM,
            )
        return properties

    def kafka(self, bootstrap: str, directory: Path) -> Kafka:
        """Return how the user connects."""
        given: dict[str, str] = {"security_protocol": self.protocol, **self._trust(directory)}
        if self.user:
            given |= {"sasl_mechanism": _MECHANISMS[-1], "sasl_username": self.user}
            file = {"sasl_password_file": str(self._password_file(directory))}
            given |= {"sasl_password": self.password} if self.password else file
        return Kafka(bootstrap, KafkaSettings.model_validate(given))

    def as_itself(self, bootstrap: str, directory: Path) -> Kafka:
        """Return how the node itself connects."""
        given: dict[str, str] = {"security_protocol": self.protocol, **self._trust(directory)}
        if self.user:
            given |= {"sasl_mechanism": "PLAIN", "sasl_username": _ITSELF, "sasl_password": self._own_password}
        return Kafka(bootstrap, KafkaSettings.model_validate(given))

    def add_user(self, bootstrap: str, directory: Path) -> None:
        """Let the user of a running node authenticate by the SCRAM mechanisms; PLAIN is in its properties.

        Raises:
            BrokerError: The node refuses.
        """
        if self.user:
            add_user(self.as_itself(bootstrap, directory), self.user, self._password(directory))

    def _trust(self, directory: Path) -> dict[str, str]:
        return {"ssl_ca_location": str((directory / "tls" / "ca.pem").absolute())} if self.tls else {}

    def _password_file(self, directory: Path) -> Path:
        return (directory / "secrets" / f"{self.user}.password").absolute()

    def _password(self, directory: Path) -> str:
        """Return the user's password, made and kept if none is given."""
        if self.password:
            return self.password
        file = self._password_file(directory)
        _private(file.parent)
        if not file.exists():
            _write_private(file, secrets.token_urlsafe())
        return file.read_text()


def add_user(kafka: Kafka, user: str, password: str) -> None:
    """Make a user, or change its password, for both SCRAM mechanisms.

    Raises:
        BrokerError: Kafka refuses.
    """
    with clients.admin_client(kafka, _ANSWER_S) as admin:
        for mechanism in _MECHANISMS:  # Kafka takes one for each request
            credential = clients.UserScramCredentialUpsertion(user, mechanism, password)
            if refused := admin.alter_user_scram_credentials([credential]).get(user):
                raise BrokerError(f"Kafka at {kafka} does not take the user {user}: {refused}.")


def _make_certificates(folder: Path, java: Path) -> None:
    """Make a CA, let it sign a certificate for loopback, and delete its key."""
    password, store, ca = secrets.token_urlsafe(), folder / "making.p12", folder / "ca.pem"
    store.unlink(missing_ok=True)
    _write_private(folder / "server.password", password)
    key = ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", _VALID_DAYS, "-storetype", "PKCS12"]
    of_ca = ["-dname", "CN=hstu broker CA", "-ext", "bc:c=ca:true,pathlen:0", "-ext", "ku:c=keyCertSign,cRLSign"]
    of_server = [
        "-dname",
        "CN=localhost",
        "-ext",
        "san=dns:localhost,ip:127.0.0.1",
        "-ext",
        "eku=serverAuth",
    ]
    steps = (
        ["-genkeypair", "-alias", "ca", *key, *of_ca],
        ["-genkeypair", "-alias", "server", "-signer", "ca", *key, *of_server],
        ["-exportcert", "-rfc", "-alias", "ca", "-file", str(ca)],
        ["-delete", "-alias", "ca"],
    )
    for step in steps:
        _keytool(java, [*step, "-keystore", str(store), "-storepass:env", "HSTU_STORE"], password)
    store.chmod(0o600)
    store.rename(folder / "server.p12")


def _keytool(java: Path, arguments: Sequence[str], password: str) -> None:
    tool = java.with_name("keytool")
    try:
        done = subprocess.run(
            [tool, *arguments],
            env=os.environ | {"HSTU_STORE": password},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise BrokerError(f"Java's keytool, {tool}, does not run: {error.strerror}; see that Java is whole.") from error
    if done.returncode != 0:
        said = (done.stdout.strip() or done.stderr.strip())[-300:]
        raise BrokerError(f"Java's keytool could not make the node's certificate: {said}.")


def _quoted(password: str) -> str:
    """Return a password as it stands between quotes in a JAAS line of a properties file."""
    return re.sub(r'(["\\])', r"\\\1", password).replace("\\", "\\\\")


def _private(folder: Path) -> Path:
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _write_private(file: Path, text: str) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)


def settings_of(kafka: Kafka) -> str:
    """Return the lines of hstu.toml by which clients connect; of a secret only where it comes from."""
    lines = [f'bootstrap = "{kafka.bootstrap}"', "", "[kafka]"]
    for key in sorted(kafka.security.given()):
        value = getattr(kafka.security, key.replace(".", "_"))
        given = isinstance(value, SecretStr)
        lines.append(
            f"# {key}: as for this node, by {variable(key)} or {key}.file" if given else f"{key} = {json.dumps(value)}"
        )
    return "\n".join(lines)
