"""Checks of the bootstrap address: Kafka is the one that `--bootstrap` or HSTU_BOOTSTRAP names, and no other."""

from stream.errors import BrokerError
from stream.kafka import clients


def require_bootstrap(setting: str) -> str:
    """Return the setting, or raise an error that says how to get a Kafka.

    Raises:
        BrokerError: It is empty, or not HOST:PORT[,HOST:PORT…].
    """
    if not setting:
        raise BrokerError(
            "No Kafka is named; give --bootstrap HOST:PORT or set HSTU_BOOTSTRAP. "
            "Where there is none, hstu broker starts one, on 127.0.0.1:9092 if not told otherwise."
        )
    clients.addresses(setting)
    return setting


def check_reachable(bootstrap: str, timeout_s: float = 10.0) -> None:
    """Check that a Kafka answers.

    Raises:
        BrokerError: None did within that time.
    """
    with clients.admin_client(bootstrap, timeout_s):
        pass
