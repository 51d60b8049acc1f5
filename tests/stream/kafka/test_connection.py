"""Table [kafka]: what a client is given, which combinations are refused, and that no secret is shown."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from stream.config import KafkaSettings
from stream.errors import BrokerError
from stream.kafka.bootstrap import require_kafka
from stream.kafka.connection import Kafka, variable
from stream.transport import faust_credentials

SASL = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "ann"}


def kafka(**keys: Any) -> Kafka:
    return Kafka("a:1, b:2", KafkaSettings.model_validate(keys))


def test_without_the_table_clients_connect_in_plain_text() -> None:
    """Several servers are all named."""
    assert kafka().client_options() == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert faust_credentials(kafka()) is None


def test_user_and_password_reach_every_client(tmp_path: Path) -> None:
    """The password comes from the setting, or from its file without the line's end; Faust gets the same."""
    secret = tmp_path / "password"
    secret.write_text(" pass\nword \r\n")
    for given in ({"sasl.password": " pass\nword "}, {"sasl.password.file": str(secret)}):
        options = kafka(**SASL, **given).client_options()
        assert options.pop("bootstrap_servers")
        assert options == {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "ann",
            "sasl_plain_password": " pass\nword ",
        }
        for_faust: Any = faust_credentials(kafka(**SASL, **given))
        assert (for_faust.protocol.value, for_faust.mechanism.value) == ("SASL_PLAINTEXT", "SCRAM-SHA-512")
        assert (for_faust.username, for_faust.password) == ("ann", " pass\nword ")


@pytest.mark.parametrize(("algorithm", "checked"), [("https", True), ("none", False)])
def test_a_certificate_is_verified_and_has_to_name_the_host(algorithm: str, checked: bool) -> None:
    """Only the host's name can be let off."""
    context = kafka(**{"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": algorithm}).ssl_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, checked)


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"security.protocol": "SASL_SSL"}, "needs sasl.mechanism; set it, for example by HSTU_KAFKA__SASL_MECHANISM"),
        (SASL, "needs sasl.password; .* HSTU_KAFKA__SASL_PASSWORD or HSTU_KAFKA__SASL_PASSWORD_FILE"),
        ({"sasl.username": "ann"}, "sasl.username is set, but security.protocol is PLAINTEXT; set it to SASL_SSL"),
        ({"ssl.ca.location": "x"}, "ssl.ca.location is set, but security.protocol is PLAINTEXT"),
        (
            {**SASL, "sasl.password": "p", "ssl.ca.location": "x"},
            "security.protocol is SASL_PLAINTEXT",
        ),
        ({"sasl.password": "p", "sasl.password.file": "f"}, "sasl.password and sasl.password.file are both set"),
        ({"security.protocol": "SSL", "ssl.key.location": "k"}, "set ssl.certificate.location"),
        ({**SASL, "sasl.password": "p", "sasl.username": "CN=a"}, "sasl.username holds , or =, .*; use PLAIN"),
        ({**SASL, "sasl.password": "p", "sasl.username": "ü"}, "is not ASCII, which SCRAM cannot send; use PLAIN"),
    ],
)
def test_what_cannot_work_is_refused(keys: dict[str, str], sentence: str) -> None:
    """Before anything connects; the sentence says what to set."""
    with pytest.raises(BrokerError, match=rf"^The table \[kafka\] of the settings cannot work: .*{sentence}"):
        kafka(**keys)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Password, CA, certificate: which file, and of which setting."""
    (tmp_path / "empty").touch()
    absent, empty = str(tmp_path / "absent"), str(tmp_path / "empty")
    tls = {"security.protocol": "SSL"}
    cases: list[tuple[dict[str, str], str]] = [
        (
            {**SASL, "sasl.password.file": absent},
            "absent, which sasl.password.file names, cannot be read",
        ),
        ({**SASL, "sasl.password.file": empty}, "empty, which sasl.password.file names, is empty"),
        ({**tls, "ssl.ca.location": absent}, "ssl.ca.location .*absent cannot be used: No such file"),
        ({**tls, "ssl.ca.location": empty}, "ssl.ca.location .*empty cannot be used"),
        ({**tls, "ssl.certificate.location": absent}, "client certificate .*absent .*cannot be loaded: No such file"),
    ]
    for keys, sentence in cases:
        with pytest.raises(BrokerError, match=sentence):
            kafka(**keys).client_options()


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBczCCARmgAwIBAgIUKyRn+YVjaPlymWdplgiEAZNtuGswCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjcxMTI5NDNaFw0zNjExMjQxMTI5NDNa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQaNwwG
6v9Sw0MNDqLFNJYDKlIbORHwKo03Vq613aCZhG+3nic3YX8DYl9wApHcQg+qmaED
dleJvyODJnZFel3Vo1MwUTAdBgNVHQ4EFgQUVsbt1GFY9ZcZI/T+U80nCVAqgUEw
HwYDVR0jBBgwFoAUVsbt1GFY9ZcZI/T+U80nCVAqgUEwDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNIADBFAiEA5TQZevw3bp32DM91P8scrh65W4HUqKgcB1R/
TgvqY84CIA4BTBBNd2j9whZTnZCasYk6XAQt1XIzpMGibI06G7Qo
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHjME4GCSqGSIb3DQEFDTBBMCkGCSqGSIb3DQEFDDAcBAjGZp6kpsS4aAICCAAw
DAYIKoZIhvcNAgkFADAUBggqhkiG9w0DBwQIi+RpKAEvaqwEgZCIGgGpykUTgmti
MCBnzmHvAUGZoW536qGtUctMFW/vrMn3acaOOcv2IlkHlvEMjV+Ge0hBNtLZvVqA
eVKtkIfsV1RF8ChANI1jHxE8Xjrd3njLWVn2UIDjlpJeMZKk8n3y9ivJsavY+G3D
lu0EEHKbXXsh8u8yuHlZ3mnPfm5aySVMphm3D3vMMf35m2jf7bU=
-----END ENCRYPTED PRIVATE KEY-----
"""  # its password is "secret"


def test_a_key_that_cannot_be_decrypted_is_a_sentence_on_its_password(tmp_path: Path) -> None:
    """OpenSSL says no more than "PEM lib"."""
    (tmp_path / "both.pem").write_text(CERTIFICATE + KEY)
    keys = {"security.protocol": "SSL", "ssl.certificate.location": str(tmp_path / "both.pem")}
    assert kafka(**keys, **{"ssl.key.password": "secret"}).client_options()
    for given, said in (({}, "not set"), ({"ssl.key.password": "wrong"}, "set")):
        with pytest.raises(BrokerError, match=f"its key cannot be decrypted; .* ssl.key.password, which is {said}, is"):
            kafka(**keys, **given).client_options()


def test_a_password_file_is_utf_8_with_or_without_a_mark(tmp_path: Path) -> None:
    """Whatever the machine's locale is, and whichever editor wrote it."""
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "password").write_text("pässwörd\n", encoding=encoding)
        made = kafka(**SASL, **{"sasl.password.file": str(tmp_path / "password")})
        assert made.client_options()["sasl_plain_password"] == "pässwörd"


def test_a_secret_is_in_no_text() -> None:
    """Neither the value nor what is printed of it holds the password."""
    made = kafka(**SASL, **{"sasl.password": "hunter2"})
    assert "hunter2" not in f"{made!r} {made} {made.security} {made.security.model_dump()}"


def test_a_password_in_plain_text_to_another_machine_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """PLAIN without TLS; on loopback, by TLS or by SCRAM it stays secret."""
    plain = {**SASL, "sasl.mechanism": "PLAIN", "sasl.password": "p"}
    require_kafka("127.0.0.1:1,localhost:2,[::1]:3", KafkaSettings.model_validate(plain))
    require_kafka("kafka:9092", KafkaSettings.model_validate({**plain, "sasl.mechanism": "SCRAM-SHA-256"}))
    require_kafka("kafka:9092", KafkaSettings.model_validate({**plain, "security.protocol": "SASL_SSL"}))
    assert not caplog.messages
    require_kafka("127.0.0.1:1,kafka:9092", KafkaSettings.model_validate(plain))
    assert caplog.messages == [
        "sasl.mechanism PLAIN without TLS sends the password to kafka in plain text; "
        "use security.protocol SASL_SSL, or a SCRAM mechanism."
    ]


def test_the_page_lists_every_key_with_its_variable() -> None:
    """docs/kafka.md is the only reference of table [kafka] beside `hstu settings`."""
    page = (Path(__file__).parents[3] / "docs" / "kafka.md").read_text()
    keys = [str(field.alias) for field in KafkaSettings.model_fields.values()]
    assert not [name for key in keys for name in (key, variable(key)) if f"`{name}`" not in page]
