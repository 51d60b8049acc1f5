"""A worker's answers to servers, over HTTP on a real port, and what a server makes of them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from stream.config import StreamSettings
from stream.consumer.instance_id import place_of
from stream.errors import StoreError
from stream.join.partition import Partition
from stream.metrics_server import Health, serve_metrics
from stream.peers.address import Address
from stream.peers.cluster_reader import ClusterReader
from stream.peers.sequence_service import ENTRIES, PATH, TOKENS, SequenceService
from stream.schema.topics import SourceTopic
from stream.store.entries import Entry
from stream.store.reader import SequenceReader
from stream.store.rocksdb import open_store, partition_path
from stream.store.standby import mark_standby
from tests.odd_server import Way, answering
from tests.wire import Record, action, wire

SETTINGS = StreamSettings(partitions=1, lateness_s=0, peer_timeout_s=0.5)
TOKEN = "a secret of the cluster"
QUESTION = b'{"user":"ann","last":5,"prefix":"","place":"elsewhere"}'
ASK = {"Authorization": f"Bearer {TOKEN}"}


class Worker:
    """The store of one worker, and where it answers."""

    def __init__(self, folder: Path) -> None:
        self.partition = Partition(open_store(partition_path(folder, 0)), 0, SETTINGS)
        clicks = [Record(n, wire(action("ann", f"i{n}", 1000 + n))) for n in range(20)]
        self.partition.handle(SourceTopic.ACTIONS, clicks)  # type: ignore[arg-type]
        self.owns, self.url = True, ""


@contextmanager
def serving(folder: Path) -> Iterator[Worker]:
    """Yield a worker that answers."""
    worker, reader = Worker(folder), SequenceReader(folder, SETTINGS)
    service = SequenceService(reader, SETTINGS, "elsewhere", lambda number: worker.owns, TOKEN)
    port, stop = serve_metrics(CollectorRegistry(), "127.0.0.1", 0, Health(), "", {PATH: service})
    worker.url = f"http://127.0.0.1:{port}"
    try:
        yield worker
    finally:
        stop()
        reader.close()
        worker.partition.close()


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with serving(tmp_path_factory.mktemp("worker")) as found:
        yield found


def ask(worker: Worker, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> httpx.Response:
    return httpx.request(method, worker.url + PATH, content=body, headers=ASK if headers is None else headers)


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_without_the_token_nothing_is_answered(worker: Worker, shown: dict[str, str]) -> None:
    """Not even whether the user is known."""
    answer = ask(worker, QUESTION, shown)
    assert (answer.status_code, "ann" in answer.text) == (401, False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"user":"ann"}',
        b'{"user":7,"last":1}',
        b'{"user":"ann","last":5}',
        b'{"user":"ann","last":0,"prefix":"","place":"elsewhere"}',
        b'{"user":"ann","last":10001,"prefix":"","place":"elsewhere","texts":true}',
        b" " * 5000,
        b'{"x":' + b"[" * 1500 + b"]" * 1500 + b"}",
    ],
)
def test_what_is_no_question_is_refused(worker: Worker, body: bytes) -> None:
    """Whatever is sent, the service lives on."""
    assert ask(worker, body).status_code == 400
    assert ask(worker, QUESTION, method="GET").status_code == 400


def test_a_partition_that_is_not_ours_is_not_answered(worker: Worker) -> None:
    """Its store may lie here still, as old as the day that it moved."""
    worker.owns = False
    try:
        assert ask(worker, QUESTION).status_code == 421
    finally:
        worker.owns = True


@pytest.mark.parametrize(("prefix", "place"), [("f-", "elsewhere"), ("", "another place")])
def test_a_worker_of_another_system_is_not_believed(prefix: str, place: str, worker: Worker, tmp_path: Path) -> None:
    """Its address stands in a note, and it has the token: it answers for its own topics and its own name alone."""
    settings = SETTINGS.model_copy(update={"topic_prefix": prefix})
    owners = Owners(Address(worker.url, place))
    with (
        closing(
            ClusterReader(SequenceReader(tmp_path, settings), owners, tmp_path / "seats", settings, TOKEN)
        ) as reader,
        pytest.raises(StoreError, match=f"Partition 0 is not, or no longer, of the worker at {worker.url}; ask again"),
    ):
        reader.tokens("ann", 3)


class Owners:
    """Says who has partition 0; the next look is another answer."""

    def __init__(self, *owners: Address | None) -> None:
        self._owners, self.closed, self.problem = list(owners), False, ""

    def find(self, partition: int, until_s: float, after: int = 0) -> tuple[Address | None, int]:
        look = min(after + 1, len(self._owners))
        return self._owners[look - 1], look

    def close(self) -> None:
        self.closed = True


def reader_of(folder: Path, *owners: Address | None) -> ClusterReader:
    return ClusterReader(SequenceReader(folder, SETTINGS), Owners(*owners), folder / "seats", SETTINGS, TOKEN)


def test_a_server_elsewhere_reads_what_one_here_reads(worker: Worker, tmp_path: Path) -> None:
    """All tokens, those of events that wait included, the last ones alone, none of a stranger."""
    with closing(reader_of(tmp_path, Address(worker.url, "elsewhere"))) as reader:
        tokens = reader.tokens("ann", 2**31 - 1)
        assert tokens is not None
        assert tokens["ts_ms"].tolist() == [1000 + n for n in range(20)]
        last = reader.tokens("ann", 3)
        assert last is not None
        assert last.tolist() == tokens[-3:].tolist()
        assert reader.tokens("nobody", 3) is None


def test_a_sequence_elsewhere_is_shown_as_one_here(worker: Worker, tmp_path: Path) -> None:
    """With the texts that the other store has; what is no list of entries, or a longer one, is refused."""
    with closing(reader_of(tmp_path, Address(worker.url, "elsewhere"))) as reader:
        assert reader.entries("ann", 2) == [Entry(1000 + n, "action", f"i{n}", "click", None) for n in (18, 19)]
        assert reader.entries("nobody", 2) is None
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {ENTRIES}\r\n\r\n".encode()
    entry = b'{"ts_ms":1,"kind":"action","item_id":"a","action":"b","attribute":null'
    deep = b',"x":' + b"[" * 2000 + b"]" * 2000
    for odd in (b"{}", b'[{"ts_ms":1}]', b"[" + b",".join([entry + b"}"] * 3) + b"]", b"[" + entry + deep + b"}]"):
        with (
            answering(head + odd) as (url, _),
            closing(reader_of(tmp_path, Address(url, "elsewhere"))) as reader,
            pytest.raises(StoreError, match="are not at most 2 entries of a sequence"),
        ):
            reader.entries("ann", 2)


def test_without_owners_only_a_store_that_is_not_behind_is_read(tmp_path: Path) -> None:
    """A store that stands by would answer as of the last backup: the refusal says why no worker was asked."""
    owners = Owners(None)
    with serving(tmp_path), closing(reader_of(tmp_path, None)) as reader:
        reader._owners = owners
        owners.problem = "Kafka refused."
        assert reader.tokens("ann", 3) is not None
        mark_standby(partition_path(tmp_path, 0))
        for read in (reader.tokens, reader.entries):
            with pytest.raises(StoreError, match=r"p0 only stands by .* cannot be read: Kafka refused\."):
                read("ann", 3)
        assert reader.first_users(3) == []
        assert "127" not in reader.problem
        owners.problem = ""
        with pytest.raises(StoreError, match=r"so that the worker is asked\.$"):
            reader.tokens("ann", 3)
        assert not reader.problem


def test_a_partition_that_moves_is_found_again(worker: Worker, tmp_path: Path) -> None:
    """The worker of before says that it is not its own any more; one that nobody takes over is an error in time."""
    moved, here = Address(worker.url, "elsewhere"), tmp_path / "moved"
    with serving(here) as other:
        other.owns = False
        with closing(reader_of(tmp_path, Address(other.url, "elsewhere"), moved)) as reader:
            assert reader.tokens("ann", 3) is not None
        with closing(reader_of(tmp_path, Address(other.url, "elsewhere"))) as reader:
            began_s = time.monotonic()
            with pytest.raises(StoreError, match="Partition 0 is not, or no longer, of the worker at http://127"):
                reader.tokens("ann", 3)
            assert time.monotonic() - began_s < 2


def test_a_worker_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    """The sentence says which worker, and what to look at; so it does where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with closing(reader_of(tmp_path, Address(url, "elsewhere"))) as reader:
            began_s = time.monotonic()
            with pytest.raises(StoreError, match=rf"worker at {url}, .*did not answer within 0.5 s: .*worker_url"):
                reader.tokens("ann", 3)
            assert time.monotonic() - began_s < 2
    with closing(reader_of(tmp_path, Address(url, "elsewhere"))) as reader, pytest.raises(StoreError, match="refused"):
        reader.tokens("ann", 3)


def refusal(folder: Path, url: str) -> str:
    """Return why a server cannot read the tokens of a user whose worker is said to be at an address."""
    with closing(reader_of(folder, Address(url, "elsewhere"))) as reader, pytest.raises(StoreError) as refused:
        reader.tokens("ann", 3)
    return str(refused.value)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", "IncompleteRead"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\nshort", "IncompleteRead"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "answers no type, not application/x-hstu-tokens"),
    ],
)
def test_odd_answers_are_named(answer: bytes, why: str, tmp_path: Path) -> None:
    """Whatever listens at the address."""
    with answering(answer) as (url, _):
        said = refusal(tmp_path, url)
    assert f"worker at {url}" in said
    assert why in said


HEAD = f"HTTP/1.1 200 OK\r\nContent-Type: {TOKENS}\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "way", "why"),
    [
        (HEAD + b"X: " + b"x" * 500, "trickling", "did not answer within 0.5 s: timed out"),
        (HEAD + b"\r\n" + bytes(500), "trickling", "did not answer within 0.5 s: timed out"),
        (HEAD + b"\r\n" + bytes(25), "endless", "more than 4,096 bytes"),
        (HEAD + b"\r\n" + bytes(100), "at once", "answers 100 bytes, which are not at most 3 tokens of 25 bytes"),
        (HEAD + b"\r\n" + bytes(26), "at once", "answers 26 bytes, which are not at most 3 tokens of 25 bytes"),
        (b"HTTP/1.1 503 No\r\n\r\n\x1b[31mred", "at once", r"answers 503: \x1b[31mred"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: \x1b[31m\r\n\r\n", "at once", r"answers \x1b[31m, not application"),
    ],
)
def test_an_answer_is_bounded_in_time_and_bytes_and_printed_safely(
    answer: bytes, way: Way, why: str, tmp_path: Path
) -> None:
    """A worker that is slow, or no worker, holds a query up for peer_timeout_s at most, whatever it sends."""
    with answering(answer, way) as (url, _):
        began_s = time.monotonic()
        assert why in refusal(tmp_path, url)
        assert time.monotonic() - began_s < 2


@pytest.mark.parametrize("url", ["worker-1:9100", "//h", "file:///etc", "http://a b", "http://h:x", "http://h:99999"])
def test_odd_addresses_are_named(url: str, tmp_path: Path) -> None:
    """Nothing but HTTP is opened."""
    said = refusal(tmp_path, url)
    assert f"worker at {url}, which" in said
    assert "stream.worker_url" in said


def test_the_token_goes_nowhere_else(tmp_path: Path) -> None:
    """A redirect is not followed, but named."""
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (other, requests):
        redirect = f"HTTP/1.1 302 Found\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n".encode()
        with answering(redirect) as (url, _):
            assert f"worker at {url} answers 302" in refusal(tmp_path, url)
    assert requests == []


def test_another_token_and_another_format_are_named(worker: Worker, tmp_path: Path) -> None:
    """What the worker says is part of the sentence."""
    owners = Owners(Address(worker.url, "elsewhere"))
    wrong = ClusterReader(SequenceReader(tmp_path, SETTINGS), owners, tmp_path, SETTINGS, "another token, wrong")
    with closing(wrong), pytest.raises(StoreError, match="answers 401: Send the header Authorization"):
        wrong.tokens("ann", 3)
    assert owners.closed


@pytest.mark.parametrize("owner", ["nobody", "a worker of this data directory"])
def test_the_store_of_this_host_is_read_where_nobody_else_has_it(owner: str, tmp_path: Path) -> None:
    """Also while its worker is away."""
    (tmp_path / "seats").mkdir()
    here = None if owner == "nobody" else Address("http://127.0.0.1:1", place_of(tmp_path / "seats"))
    with closing(Worker(tmp_path).partition), closing(reader_of(tmp_path, here)) as reader:
        tokens = reader.tokens("ann", 3)
        assert tokens is not None
        assert tokens["ts_ms"].tolist() == [1017, 1018, 1019]


def test_many_servers_ask_at_once(worker: Worker, tmp_path: Path) -> None:
    """Each gets the whole answer."""
    found: list[int] = []

    def read() -> None:
        with closing(reader_of(tmp_path, Address(worker.url, "elsewhere"))) as reader:
            for _ in range(5):
                tokens = reader.tokens("ann", 100)
                found.append(0 if tokens is None else len(tokens))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 20
