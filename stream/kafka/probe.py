"""Why a broker does not let a client in, as a sentence: TLS and SASL fail in ways that clients only retry.

One connection of aiokafka is made and closed again. kafka-python, whose clients follow, would try the same credentials
until its time is over, and then say no more than that it found no broker.
"""

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from stream.errors import BrokerError
from stream.kafka.connection import Kafka, addresses

_CLOSE_S: Final = 0.2
_NAMES_OTHER_HOST: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED


def lets_in(kafka: Kafka, host: str, port: int, timeout_s: float) -> bool:
    """Return whether a broker there accepts a connection, its TLS and its SASL included; False if none answers.

    Raises:
        BrokerError: One answers that will refuse every further attempt.
    """
    with ThreadPoolExecutor(1) as thread:  # the caller may have an event loop of its own
        return thread.submit(asyncio.run, _lets_in(kafka, host, port, timeout_s)).result()


def check_lets_in(kafka: Kafka, timeout_s: float = 5.0) -> None:
    """Raise a sentence if a broker refuses us; one that does not answer may do so later.

    Raises:
        BrokerError: One answers that will refuse every further attempt.
    """
    for host, port in addresses(kafka.bootstrap):
        lets_in(kafka, host, port, timeout_s)


def hint(kafka: Kafka, host: str, port: int, timeout_s: float = 1.0) -> str:
    """Return what a broker there may want, as the end of a sentence; empty if nothing can be said."""
    speaks_tls = _speaks_tls(host, port, timeout_s)
    if speaks_tls is None:
        return f" {host}:{port} takes connections and answers nothing: see whether that broker hangs, or is still busy."
    if speaks_tls and not kafka.encrypted:
        return f" {host}:{port} speaks TLS: set security.protocol to SSL or SASL_SSL."
    if kafka.encrypted and not speaks_tls:
        return (
            f" {host}:{port} does not speak TLS, but security.protocol is {kafka.security.security_protocol}; name the "
            "port of its TLS listener, or set another."
        )
    with suppress(BrokerError):
        if not kafka.authenticated and lets_in(kafka, host, port, timeout_s):
            return (
                f" {host}:{port} answers and then closes the connection, as a broker does that wants a user: set "
                f"security.protocol to {'SASL_SSL' if kafka.encrypted else 'SASL_PLAINTEXT'}, and sasl.*."
            )
    return ""


async def _lets_in(kafka: Kafka, host: str, port: int, timeout_s: float) -> bool:
    options = kafka.client_options()
    del options["bootstrap_servers"]
    where = f"{host}:{port}"
    connection = AIOKafkaConnection(host, port, request_timeout_ms=int(timeout_s * 1000), **options)
    try:
        async with asyncio.timeout(timeout_s):
            await connection.connect()
            return True
    except ssl.SSLCertVerificationError as error:
        raise BrokerError(_distrust(error, host, where)) from None
    except (AuthenticationFailedError, SaslAuthenticationFailed):
        raise BrokerError(
            f"Kafka at {where} does not accept the user {kafka.security.sasl_username!r} with this password by "
            f"{kafka.security.sasl_mechanism}; correct sasl.username, the password or sasl.mechanism of table [kafka]."
        ) from None
    except UnsupportedSaslMechanismError as error:
        raise BrokerError(
            f"Kafka at {where} does not know sasl.mechanism {kafka.security.sasl_mechanism}: {error.args[0]}."
        ) from None
    except IllegalSaslStateError:
        raise BrokerError(
            f"{where} takes no users, but security.protocol is {kafka.security.security_protocol}; name the port of "
            f"its SASL listener, or set it to {'SSL' if kafka.encrypted else 'PLAINTEXT'} and remove sasl.*."
        ) from None
    except (KafkaError, OSError, TimeoutError):
        return False
    finally:
        await asyncio.wait([connection.close()], timeout=_CLOSE_S)


def _distrust(error: ssl.SSLCertVerificationError, host: str, where: str) -> str:
    if error.verify_code in _NAMES_OTHER_HOST:
        return (
            f"The certificate of {where} does not name {host}; connect by a name that it has, or set "
            "ssl.endpoint.identification.algorithm to none if any broker of this CA will do."
        )
    if error.verify_code == _EXPIRED:
        return f"The certificate of {where} has expired; its owner has to renew it."
    return (
        f"The certificate of {where} is not signed by a CA that is trusted here ({error.verify_message}); "
        "set ssl.ca.location to the PEM file of its CA."
    )


def _speaks_tls(host: str, port: int, timeout_s: float) -> bool | None:
    """Return whether TLS is answered there; None if nothing is, within the time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as plain:
            context.wrap_socket(plain).close()
            return True
    except TimeoutError:
        return None
    except OSError:
        return False
