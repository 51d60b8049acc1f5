"""Users' tokens wherever they are: from the stores of this host, or from the worker on another that has the partition.

    nobody has said that it has the partition, or a worker of this data directory   the store here
    another worker has                                                              asked over HTTP, within a time limit

A store of this host that another host's worker has taken over is not read: it would answer as of the day it moved.
"""

import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.config import StreamSettings
from stream.consumer.instance_id import SEATS, place_of
from stream.errors import StoreError
from stream.kafka.connection import Kafka
from stream.kafka.topics import workers_group
from stream.peers.address import Address, read_peer_token
from stream.peers.owners import Owners
from stream.peers.sequence_service import CONTENT_TYPE, PATH, Question
from stream.schema.ids import partition_of
from stream.schema.tokens import TOKEN_DTYPE
from stream.store.reader import SequenceReader

_FIRST_LOOK_S: Final = 5.0  # in which a new reader waits to hear of the workers


class Reader(Protocol):
    """Reads the stores of this host."""

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return the user's last tokens, None where the user is unknown."""

    def first_users(self, most: int) -> list[str]:
        """Return the users of this host's stores with the smallest keys."""

    def close(self) -> None:
        """Close them."""


class KnowsOwners(Protocol):
    """Knows who has which partition."""

    def find(self, partition: int, until_s: float, after: int = 0) -> tuple[Address | None, int]:
        """Return the owner, and the number of the look that found it, later than `after` if that comes in time."""

    def close(self) -> None:
        """Stop."""


class ClusterReader:
    """Reads users' tokens; safe to share between threads.

    Args:
        local: Reads the stores of this host.
        owners: Knows who has which partition.
        seats: The folder of the locks of this data directory's workers.
        settings: Shared by all workers.
        token: Shown to workers.
    """

    def __init__(self, local: Reader, owners: KnowsOwners, seats: Path, settings: StreamSettings, token: str) -> None:
        self._local, self._owners, self._seats = local, owners, seats
        self._settings, self._token = settings, token
        self._heard_by_s = time.monotonic() + _FIRST_LOOK_S

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return the user's last tokens in order, as TOKEN_DTYPE [n], or None where the user is unknown.

        Raises:
            StoreError: No store can be read, here or by the worker that has the partition, within the time limit.
        """
        number = partition_of(user.encode(), self._settings.partitions)
        owner, look = self._owners.find(number, self._heard_by_s)
        until_s = time.monotonic() + self._settings.peer_timeout_s
        while owner is not None and owner.place != self._place():
            question = Question(user, last, self._settings.topic_prefix, owner.place)
            status, body = self._ask(owner, question, until_s)
            if status != 421:
                return _tokens(owner, status, body)
            if time.monotonic() >= until_s:
                raise StoreError(f"Partition {number} is not, or no longer, of the worker at {owner.url}; ask again.")
            owner, look = self._owners.find(number, until_s, look)
        return self._local.tokens(user, last)

    def first_users(self, most: int) -> list[str]:
        """Return the users of this host's stores with the smallest keys."""
        return self._local.first_users(most)

    def close(self) -> None:
        """Close the stores, and stop following the workers."""
        self._owners.close()
        self._local.close()

    def _place(self) -> str:
        return place_of(self._seats) if self._seats.exists() else ""

    def _ask(self, owner: Address, question: Question, until_s: float) -> tuple[int, bytes]:
        """Return the status and the body of a worker's answer."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        left_s = max(0.05, until_s - time.monotonic())
        try:
            request = urllib.request.Request(owner.url.rstrip("/") + PATH, msgspec.json.encode(question), headers)
            status, kind, body = _fetch(request, left_s)
        except (OSError, HTTPException, ValueError, OverflowError) as error:
            why = getattr(error, "reason", None) or f"{type(error).__name__}: {error}".rstrip(": ")
            raise StoreError(
                f"The worker at {owner.url}, which has the user's partition, did not answer within "
                f"{self._settings.peer_timeout_s:g} s: {why}; see that it runs, and what its stream.worker_url says."
            ) from None
        if status == 200 and kind != CONTENT_TYPE:
            raise StoreError(f"The worker at {owner.url} answers {kind}, not {CONTENT_TYPE}: use one version.")
        return status, body


def _make_opener() -> urllib.request.OpenerDirector:
    """Return what opens http: and https: alone, follows no redirect, as the token is for the worker, and no proxy."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


_opener: Final = _make_opener()


def _fetch(request: urllib.request.Request, timeout_s: float) -> tuple[int, str | None, bytes]:
    """Return status, content type and body of an answer, whatever its status is."""
    try:
        answer = _opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.status, answer.headers.get("Content-Type"), answer.read()


def _tokens(owner: Address, status: int, body: bytes) -> NDArray[np.void] | None:
    if status == 200 and len(body) % TOKEN_DTYPE.itemsize == 0:
        return np.frombuffer(body, TOKEN_DTYPE)
    if status == 204:
        return None
    raise StoreError(f"The worker at {owner.url} answers {status}: {body[:500].decode(errors='replace').strip()}")


def open_sequences(data_dir: Path, settings: StreamSettings, kafka: Kafka | None) -> Reader:
    """Return a reader of users' tokens: of this host alone, without those that stand by, where no token or no Kafka is
    named.

    Raises:
        HstuError: The token cannot be read.
    """
    token = read_peer_token(settings.peer_token_file)
    if not token or kafka is None:
        return SequenceReader(data_dir, settings, standbys=False)
    local = SequenceReader(data_dir, settings)
    return ClusterReader(local, Owners(kafka, settings, workers_group(settings)), data_dir / SEATS, settings, token)
