"""Which Kafka is meant and how clients connect to it: its addresses, TLS, SASL. No other module knows these options.

`Kafka` is carried through every command that connects; it holds no secret in plain text. Passwords and certificates
are read from their files whenever a client is made.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stream.config import KafkaSettings
from stream.errors import BrokerError

_VARIABLES: Final = "HSTU_KAFKA__"


@dataclass(frozen=True, slots=True)
class Kafka:
    """A cluster: its bootstrap addresses, HOST:PORT[,HOST:PORT…], and table [kafka] of the settings.

    Raises:
        BrokerError: An address is not of that form, or the settings contradict each other.
    """

    bootstrap: str
    security: KafkaSettings = field(default_factory=KafkaSettings)

    def __post_init__(self) -> None:
        addresses(self.bootstrap)
        problem = _contradiction(self.security)
        if problem:
            raise BrokerError(f"The table [kafka] of the settings cannot work: {problem}.")

    def __str__(self) -> str:
        return self.bootstrap

    @property
    def servers(self) -> list[str]:
        """Each address as HOST:PORT."""
        return [server.strip() for server in self.bootstrap.split(",")]

    @property
    def encrypted(self) -> bool:
        """Whether clients speak TLS."""
        return self.security.security_protocol in ("SSL", "SASL_SSL")

    @property
    def authenticated(self) -> bool:
        """Whether clients authenticate by SASL."""
        return self.security.security_protocol.startswith("SASL")

    def client_options(self) -> dict[str, Any]:
        """Return the arguments by which a client connects; kafka-python and aiokafka give them the same names.

        Raises:
            BrokerError: A password or a certificate cannot be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.security.security_protocol,
        }
        if self.encrypted:
            options["ssl_context"] = self.ssl_context()
        if self.authenticated:
            options |= {
                "sasl_mechanism": self.security.sasl_mechanism,
                "sasl_plain_username": self.security.sasl_username,
                "sasl_plain_password": self.password(),
            }
        return options

    def password(self) -> str:
        """Return the user's password, from the setting or its file.

        Raises:
            BrokerError: The file cannot be read, or is empty.
        """
        return secret(self.security, "sasl.password")

    def ssl_context(self) -> ssl.SSLContext:
        """Return what TLS verifies and shows.

        Raises:
            BrokerError: A certificate or a key cannot be read.
        """
        said = self.security
        context = _trusting(said.ssl_ca_location)
        context.check_hostname = said.ssl_endpoint_identification_algorithm == "https"
        if said.ssl_certificate_location:
            password = secret(said, "ssl.key.password")
            try:
                context.load_cert_chain(
                    said.ssl_certificate_location,
                    said.ssl_key_location or None,
                    password or "none is needed",  # else OpenSSL asks on the terminal
                )
            except (OSError, ssl.SSLError) as error:
                raise BrokerError(
                    f"The client certificate {said.ssl_certificate_location} with its key "
                    f"{said.ssl_key_location or '(in the same file)'} cannot be loaded: {_why(error)}; see that "
                    "ssl.certificate.location and ssl.key.location are PEM files that belong together, and that "
                    f"ssl.key.password, which is {'' if password else 'not '}set, is right."
                ) from None
        return context


def addresses(bootstrap: str) -> list[tuple[str, int]]:
    """Return the hosts and ports of HOST:PORT[,HOST:PORT…].

    Raises:
        BrokerError: One is not of that form.
    """
    found = []
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise BrokerError(
                f"The bootstrap address {address.strip()!r} is not HOST:PORT; give for example 127.0.0.1:9092, "
                "and more of them separated by commas."
            )
        found.append((host.strip("[]"), int(port)))
    return found


def variable(key: str) -> str:
    """Return the environment variable of a key of table [kafka]."""
    return _VARIABLES + key.replace(".", "_").upper()


def _contradiction(said: KafkaSettings) -> str | None:
    """Return what cannot work, as the end of a sentence that says what to do; None if all is well."""
    protocol, given = said.security_protocol, said.given()
    for key in ("sasl.password", "ssl.key.password"):
        if {key, f"{key}.file"} <= given:
            return f"{key} and {key}.file are both set; keep one of them"
    sasl = sorted(key for key in given if key.startswith("sasl."))
    if sasl and not protocol.startswith("SASL"):
        return f"{sasl[0]} is set, but security.protocol is {protocol}; set it to SASL_SSL, or to SASL_PLAINTEXT"
    tls = sorted(key for key in given if key.startswith("ssl."))
    if tls and not protocol.endswith("SSL"):
        return f"{tls[0]} is set, but security.protocol is {protocol}; set it to SASL_SSL, or to SSL"
    if protocol.startswith("SASL"):
        for key in ("sasl.mechanism", "sasl.username", "sasl.password"):
            if not given & {key, f"{key}.file"}:
                more = f" or {variable(key)}_FILE" if key == "sasl.password" else ""
                return f"security.protocol {protocol} needs {key}; set it, for example by {variable(key)}{more}"
    name = said.sasl_username  # Kafka reads ASCII alone in SCRAM, and kafka-python escapes nothing
    if said.sasl_mechanism.startswith("SCRAM") and (not name.isascii() or set(",=") & set(name)):
        return "sasl.username holds , or =, or is not ASCII, which SCRAM cannot send; use PLAIN, or another user"
    if given & {"ssl.key.location", "ssl.key.password", "ssl.key.password.file"} and not said.ssl_certificate_location:
        return "a key is set for no certificate; set ssl.certificate.location"
    return None


def secret(said: KafkaSettings, key: str) -> str:
    """Return a secret, from the setting or its file, without the line's end; empty where neither is set.

    Raises:
        BrokerError: The file cannot be read, or is empty.
    """
    name = key.replace(".", "_")
    file = getattr(said, f"{name}_file")
    if not file:
        return str(getattr(said, name).get_secret_value())
    try:
        text = Path(file).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"The file {file}, which {key}.file names, cannot be read: {_why(error)}.") from None
    if not text:
        raise BrokerError(f"The file {file}, which {key}.file names, is empty; write the password into it.")
    return text


def _trusting(location: str) -> ssl.SSLContext:
    """Return a context that trusts the CAs in a PEM file or a folder of them, or the system's where none is named."""
    place = Path(location)
    try:
        if not location:
            return ssl.create_default_context()
        if place.is_dir():
            return ssl.create_default_context(capath=place)
        return ssl.create_default_context(cafile=place)
    except (OSError, ssl.SSLError) as error:
        raise BrokerError(
            f"ssl.ca.location {location} cannot be used: {_why(error)}; name a PEM file of the CA that has signed "
            "the brokers' certificates."
        ) from None


def _why(error: Exception) -> str:
    """Return the reason of an error without the file's name or OpenSSL's place in its source."""
    if isinstance(error, ssl.SSLError):
        if error.reason is None:  # all that OpenSSL says is "PEM lib"
            return "it cannot be read as PEM, or its key cannot be decrypted"
        return error.reason.replace("_", " ").lower()
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
