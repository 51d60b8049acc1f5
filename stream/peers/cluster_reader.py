"""Users' tokens wherever they are: from the stores of this host, or from the worker on another that has the partition.

    nobody has said that it has the partition, or a worker of this data directory   the store here
    another worker has                                                              asked over HTTP, within a time limit

A store of this host that another host's worker has taken over is not read: it would answer as of the day it moved. Nor
is one that only stands by, whether or not it is known who has its partition, nor one that no worker of this host has
open while the group has read more. Without a token nobody is asked, but such a store is not read either.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.config import StreamSettings
from stream.consumer.instance_id import SEATS, place_of
from stream.errors import StoreError
from stream.fetch import Answer, FetchError, fetch
from stream.kafka.connection import Kafka
from stream.kafka.topics import workers_group
from stream.peers.address import Address, read_peer_token
from stream.peers.owners import Owners
from stream.peers.sequence_service import ENTRIES, PATH, TOKENS, Question
from stream.schema.bounds import json_depth
from stream.schema.ids import partition_of
from stream.schema.printable import printable
from stream.schema.tokens import TOKEN_DTYPE
from stream.store.entries import Entry
from stream.store.reader import SequenceReader

_FIRST_LOOK_S: Final = 5.0  # in which a new reader waits to hear of the workers
_LEAST_S: Final = 0.2  # that an owner found at the last moment gets to answer
_ENTRY_BYTES: Final = 4096  # of one entry as JSON at most: two ids of 256 bytes, each byte as six characters
_SENTENCE_BYTES: Final = 4096  # of an answer that is no tokens


class Reader(Protocol):
    """Reads the stores of this host."""

    @property
    def problem(self) -> str:
        """What keeps stores of other hosts from being asked, in a few words; empty where nothing does."""

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return the user's last tokens, None where the user is unknown."""

    def entries(self, user: str, last: int) -> list[Entry] | None:
        """Return the same with ids as texts."""

    def first_users(self, most: int) -> list[str]:
        """Return the users of this host's stores with the smallest keys."""

    def close(self) -> None:
        """Close them."""


class KnowsOwners(Protocol):
    """Knows who has which partition."""

    @property
    def problem(self) -> str:
        """Why that is not known, in a sentence; empty where it is."""

    def find(self, partition: int, until_s: float, after: int = 0) -> tuple[Address | None, int]:
        """Return the owner, and the number of the look that found it, later than `after` if that comes in time."""

    def read(self, partition: int, until_s: float) -> Sequence[int]:
        """Return how far the workers have read each source of a partition, 0 where nobody has said it."""

    def close(self) -> None:
        """Stop."""


class ClusterReader:
    """Reads users' tokens; safe to share between threads.

    Args:
        local: Reads the stores of this host, but for those that were left.
        owners: Knows who has which partition.
        seats: The folder of the locks of this data directory's workers.
        settings: Shared by all workers.
        token: Shown to workers; empty where none is to be asked.
    """

    def __init__(self, local: Reader, owners: KnowsOwners, seats: Path, settings: StreamSettings, token: str) -> None:
        self._local, self._owners, self._seats = local, owners, seats
        self._settings, self._token = settings, token
        self._heard_by_s = _first_look_by_s()

    def tokens(self, user: str, last: int) -> NDArray[np.void] | None:
        """Return the user's last tokens in order, as TOKEN_DTYPE [n], or None where the user is unknown.

        Raises:
            StoreError: No store can be read, here or by the worker that has the partition, within the time limit.
        """
        question = Question(user, last, self._settings.topic_prefix, "")
        found = self._of_another(question, TOKENS, last * TOKEN_DTYPE.itemsize)
        if found is None:
            with self._of_this_host():
                return self._local.tokens(user, last)
        return _tokens(*found, last)

    def entries(self, user: str, last: int) -> list[Entry] | None:
        """Return the same with ids as texts.

        Raises:
            StoreError: No store can be read, here or by the worker that has the partition, within the time limit.
        """
        question = Question(user, last, self._settings.topic_prefix, "", texts=True)
        found = self._of_another(question, ENTRIES, last * _ENTRY_BYTES)
        if found is None:
            with self._of_this_host():
                return self._local.entries(user, last)
        return _entries(*found, last)

    @property
    def problem(self) -> str:
        """What keeps the workers of other hosts from being asked, in a few words; empty where nothing does."""
        return "Which worker has which partition is not known" if self._owners.problem else ""

    def first_users(self, most: int) -> list[str]:
        """Return the users of this host's stores with the smallest keys."""
        return self._local.first_users(most)

    def close(self) -> None:
        """Close the stores, and stop following the workers."""
        self._owners.close()
        self._local.close()

    @contextmanager
    def _of_this_host(self) -> Iterator[None]:
        """Add to a refusal of the stores here why no worker was asked."""
        try:
            yield
        except StoreError as error:
            if problem := self._owners.problem:
                raise StoreError(f"{error} Which worker has the partition cannot be read: {problem}") from None
            raise

    def _place(self) -> str:
        return place_of(self._seats) if self._seats.exists() else ""

    def _of_another(self, question: Question, kind: str, most_bytes: int) -> tuple[Address, Answer] | None:
        """Return what the worker answers that has the user's partition, None where that is of this host, or nobody's.

        Raises:
            StoreError: It does not answer within the time limit, or by something else than `kind`, or a refusal.
        """
        if not self._token:
            return None
        number = partition_of(question.user.encode(), self._settings.partitions)
        owner, look = self._owners.find(number, self._heard_by_s)
        until_s = time.monotonic() + self._settings.peer_timeout_s
        while owner is not None and owner.place != self._place():
            answer = self._ask(owner, msgspec.structs.replace(question, place=owner.place), until_s, most_bytes)
            if answer.status != 421:
                _check(owner, answer, kind)
                return owner, answer
            if time.monotonic() >= until_s:
                raise StoreError(f"Partition {number} is not, or no longer, of the worker at {owner.url}; ask again.")
            owner, look = self._owners.find(number, until_s, look)
        return None

    def _ask(self, owner: Address, question: Question, until_s: float, most_bytes: int) -> Answer:
        """Return a worker's answer."""
        try:
            return fetch(
                owner.url.rstrip("/") + PATH,
                timeout_s=max(_LEAST_S, until_s - time.monotonic()),
                most_bytes=max(_SENTENCE_BYTES, most_bytes),
                body=msgspec.json.encode(question),
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            )
        except FetchError as error:
            raise StoreError(
                f"The worker at {owner.url}, which has the user's partition, did not answer within "
                f"{self._settings.peer_timeout_s:g} s: {error}; see that it runs, and what its stream.worker_url says."
            ) from None


def _check(owner: Address, answer: Answer, kind: str) -> None:
    """Refuse an answer that is none of a type.

    Raises:
        StoreError: With what the worker says.
    """
    if answer.status == 200 and answer.kind != kind:
        raise StoreError(f"The worker at {owner.url} answers {answer.kind or 'no type'}, not {kind}: use one version.")
    if answer.status not in (200, 204):
        said = printable(answer.body[:500].decode(errors="replace")).strip()
        raise StoreError(f"The worker at {owner.url} answers {answer.status}: {said}")


def _tokens(owner: Address, answer: Answer, last: int) -> NDArray[np.void] | None:
    """Return the tokens of an answer.

    Raises:
        StoreError: They are others than were asked for.
    """
    if answer.status == 204:
        return None
    count, rest = divmod(len(answer.body), TOKEN_DTYPE.itemsize)
    if rest or count > last:
        raise StoreError(
            f"The worker at {owner.url} answers {len(answer.body):,} bytes, which are not at most {last:,} "
            f"tokens of {TOKEN_DTYPE.itemsize} bytes: use one version."
        )
    return np.frombuffer(answer.body, TOKEN_DTYPE)


def _entries(owner: Address, answer: Answer, last: int) -> list[Entry] | None:
    """Return the entries of an answer.

    Raises:
        StoreError: They are others than were asked for.
    """
    if answer.status == 204:
        return None
    entries = None
    with suppress(ValueError):
        if json_depth(answer.body) == 2:
            entries = msgspec.json.decode(answer.body, type=list[Entry])
    if entries is None or len(entries) > last:
        raise StoreError(
            f"The worker at {owner.url} answers {len(answer.body):,} bytes, which are not at most {last:,} entries of "
            "a sequence: use one version."
        )
    return entries


def _first_look_by_s() -> float:
    """Return until when a new reader waits to hear of the workers, by time.monotonic."""
    return time.monotonic() + _FIRST_LOOK_S


def open_sequences(data_dir: Path, settings: StreamSettings, kafka: Kafka | None) -> Reader:
    """Return a reader of users' tokens: of this host alone where no token is named, and as it is where no Kafka is.

    Raises:
        HstuError: The token cannot be read.
    """
    token = read_peer_token(settings.peer_token_file)
    if kafka is None:
        return SequenceReader(data_dir, settings)
    owners, heard_by_s = Owners(kafka, settings, workers_group(settings)), _first_look_by_s()
    local = SequenceReader(data_dir, settings, lambda partition: owners.read(partition, heard_by_s))
    return ClusterReader(local, owners, data_dir / SEATS, settings, token)
