"""Whatever bytes come in, from Kafka or from a disk, each decoder returns a value or refuses them by its own error."""

import gzip
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import cramjam
import numpy as np
import pytest
from aiokafka import codec
from xxhash import xxh3_128_hexdigest

from model.dashboard.metrics_logs import _COUNTS as COUNTS, METRICS, point_of
from model.data import catalogue
from model.errors import ModelError
from model.serving.http.questions import decode_body
from model.storage.aliases import find, move, survey_aliases
from model.storage.checkpoint import Checkpoint, read_newest, write_checkpoint
from model.storage.delta_log import read_delta
from model.storage.snapshot import MANIFEST, read_manifest, survey
from model.trainer.metrics_log import MetricsLog
from sim.errors import SimError
from sim.replay.progress_file import ReplayState, load_state, save_state
from sim.sources.tables.json_lines import batches, columns_of
from sim.sources.tables.plain_text import plain_text
from stream.config import StreamSettings
from stream.errors import FormatError, StoreError
from stream.example import Example, Heartbeat, decode, encode_example, encode_heartbeat
from stream.join.partition import Partition
from stream.kafka.record_batches import read_batch
from stream.schema.dead_letters import RefusedError
from stream.schema.events import decode_event, decode_waiting
from stream.schema.topics import SourceTopic
from stream.store import layout
from tests.memory_store import MemoryStore
from tests.model.storage.test_delta_log import Chain
from tests.raw_records import batch, record
from tests.snapshots import write_line

SETTINGS: Final = StreamSettings(partitions=1)
WAITING: Final = layout.waiting_key(1, 17_000, SourceTopic.ACTIONS, 3)
HEARTBEAT: Final = b'{"watermark":1700000000000}'
EVENTS: Final = {
    SourceTopic.IMPRESSIONS: b'{"user_id":7,"request_id":"r-1","ts":1700000000000,"items":["a","b\\u00e9",3]}',
    SourceTopic.ACTIONS: b'{"user_id":"u","item_id":"b","action":"click","ts":17000,"request_id":"r","value":1.5}',
    SourceTopic.ATTRIBUTES: b'{"user_id":7,"name":"country","value":"NO","ts":1700000000000}',
}
ITEM: Final = b'{"item_id":"b","title":"A title","features":{"genre":["x",null,2.5],"year":1999},"ts":1700000000000}'
WORDS: Final = (
    *(b"[", b"]", b"{", b"}", b'"', b"\\", b":", b",", b"null", b"NaN", b"1e999", b"-0", b"0" * 400, b"9" * 5000),
    *(b"\xff", b"\xed\xa0\x80", b'"\\ud800"', b"\x00", b"[" * 40, b"]" * 40, b"[" * 1000, b'{"x":' * 990, b" " * 3000),
)


class Decoder(NamedTuple):
    """Where mutation begins, and what may happen."""

    seeds: list[bytes]
    decode: Callable[[bytes], Any]
    refusals: tuple[type[Exception], ...]


def mutated(rng: random.Random, value: bytes) -> bytes:
    """Change some bytes: flip, cut, repeat, or put in what decoders stumble over."""
    data = bytearray(value)
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randint(0, len(data)) for _ in range(2))
        kind = rng.random()
        if kind < 0.3 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind < 0.45 and at < len(data):
            data[at] = rng.randrange(256)
        elif kind < 0.6:
            del data[at : min(end, at + 9)]
        elif kind < 0.7:
            data[at:at] = data[at : min(end, at + 60)]
        elif kind < 0.75:
            del data[at:]
        else:
            data[at:at] = rng.choice(WORDS)
    return bytes(data)


def an_example() -> bytes:
    n, t = 5, 3
    keys = np.arange(n, dtype=np.uint64)
    return encode_example(
        Example(
            partition=1,
            serial=2,
            final_ms=3,
            user=4,
            first=5,
            keys=keys,
            actions=keys,
            ts_ms=keys.astype(np.int64),
            kinds=np.ones(n, np.uint8),
            positions=np.arange(t, dtype=np.int32),
            queries=np.arange(t, dtype=np.int32) - 1,
            requests=np.zeros(t, np.uint32),
            request_ms=np.zeros(t, np.int64),
            label_offsets=np.array([0, 1, 1, 2], np.uint32),
            labels=keys[:2],
            text_keys=keys[:2],
            texts=("an item", "ünï"),
        )
    )


def used(message: bytes) -> None:
    """Decode an example and look up everything that its columns point to."""
    example = decode(message)
    if isinstance(example, Example):
        example.keys[example.positions], example.keys[example.queries]
        assert len(np.split(example.labels, example.label_offsets[1:-1])) == max(1, len(example.positions))
        assert len(example.texts) == len(example.text_keys)


def stored(key: bytes, value: bytes) -> None:
    """Open a partition whose store has been tampered with; what waits there becomes a dead-letter at worst."""
    partition = Partition(MemoryStore({key: value}), 0, SETTINGS)
    assert key[:1] != layout.WAITING or partition.waiting <= 1


def in_file(path: Path, read: Callable[[], Any]) -> Callable[[bytes], None]:
    def decode_there(value: bytes) -> None:
        path.write_bytes(value)
        read()

    return decode_there


def event(source: SourceTopic) -> Decoder:
    def both(value: bytes) -> None:
        decode_event(source, value, max_slate=100, now_ms=None)
        decode_waiting(source, value)

    return Decoder([EVENTS[source], HEARTBEAT], both, (RefusedError,))


def snapshot_manifest(folder: Path) -> Decoder:
    """Besides the manifest itself: the other snapshot of the folder is listed whatever this one holds."""
    first, second = write_line(folder, 2)
    path = folder / second / MANIFEST

    def read() -> None:
        assert first in [manifest.id for manifest in survey(folder)[0]]
        read_manifest(folder / second)

    return Decoder([path.read_bytes()], in_file(path, read), (ModelError,))


def alias(folder: Path) -> Decoder:
    (first,) = write_line(folder, 1)
    move(folder, "good", first)
    path = folder / "aliases" / "odd"

    def read() -> None:
        assert survey_aliases(folder)[0]["good"] == first
        find(folder, "odd")

    return Decoder([f"{first}\n".encode(), b"../x/" + first.encode()], in_file(path, read), (ModelError,))


def checkpoint(folder: Path) -> Decoder:
    """The one before it is taken."""
    arrays = {"weights": np.zeros(3, np.float32)}
    for step in (1, 2):
        path = write_checkpoint(folder, Checkpoint(arrays, {"step": step, "marks": [{"offset": 7}], "loss": 1.5}))

    def read() -> None:
        found, complaints = read_newest(folder)
        assert found is not None
        assert found.facts["step"] == 2 - len(complaints)

    return Decoder([(path / "manifest.json").read_bytes()], in_file(path / "manifest.json", read), (ModelError,))


def store(key: bytes, seed: bytes, *refusals: type[Exception]) -> Decoder:
    return Decoder([seed], lambda value: stored(key, value), refusals)


def record_batches() -> Decoder:
    """Contents of batches by any codec; what cannot be read is a record that says so."""
    plain = b"".join(record(b"k", b"value", [(b"name", b"x")], delta=delta) for delta in range(3))
    packed = bytes(cramjam.zstd.compress(plain)), bytes(cramjam.lz4.compress(plain)), codec.snappy_encode(plain)

    def read(content: bytes) -> None:
        for number in range(8):
            assert 1 <= len(read_batch(batch(content, 3, codec=number))) <= 3

    return Decoder([plain, gzip.compress(plain), *packed], read, ())


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: a disk takes milliseconds for each input."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


def meta() -> bytes:
    """Return the meta of a store that has just been made."""
    store = MemoryStore({})
    Partition(store, 0, SETTINGS).handle(SourceTopic.ACTIONS, [])
    return store.data[layout.META_KEY]


def delta(folder: Path) -> Decoder:
    """Its name is the digest of what it holds, so that all is read."""
    seed = Chain(folder / "chain").append().read_bytes()

    def read(value: bytes) -> None:
        path = folder / f"00000001-{xxh3_128_hexdigest(value)}.safetensors"
        path.write_bytes(value)
        try:
            read_delta(path)
        finally:
            path.unlink()

    return Decoder([seed], read, (ModelError,))


def metrics_line(folder: Path) -> Decoder:
    """Of the dashboard, and of a trainer that goes on with its file."""
    window = {"hstu": {"window": {"all": {"targets": 1, **dict.fromkeys(METRICS, 0.5)}}}}
    counts = dict.fromkeys((*COUNTS, "expired", "evicted"), 1)
    line = json.dumps({**counts, "name": "silu", "step": 3, "retrieval": window, "drift": []}).encode()
    assert point_of(line)
    path = folder / "m.jsonl"

    def read(value: bytes) -> None:
        point_of(value)
        path.write_bytes(value + b"\n" + line + b"\n")
        MetricsLog(path, "silu", 2)

    return Decoder([line], read, ())


def progress(folder: Path) -> Decoder:
    path = folder / "p.json"
    save_state(path, ReplayState(fingerprint="f", total=9, offsets={"items/0": 3}))
    return Decoder([path.read_bytes()], in_file(path, lambda: load_state(path, "f")), (SimError,))


def log_lines(folder: Path) -> Decoder:
    """Of a log as JSON, and in Python's notation: a line that is none is a bad row."""
    path = folder / "log.jsonl"
    good = b'{"user_id":"u","item_id":[{"id":7}],"ts":1700000000000}'
    python = b"{'user_id': 'u', 'item_id': {'id': 7}, 'ts': 1700000000000, 'at': (1, {2}, None)}"

    def read(value: bytes) -> None:
        path.write_bytes(good + b"\n" + value + b"\n")
        text = plain_text(path, "log", None, folder)
        for _ in batches(text, [*columns_of(text), "item_id.id"], ["item_id"], 100):
            pass

    return Decoder([good, python], read, (SimError,))


DECODERS: Final[dict[str, Callable[[Path], Decoder]]] = {
    "impressions": lambda _: event(SourceTopic.IMPRESSIONS),
    "actions": lambda _: event(SourceTopic.ACTIONS),
    "attributes": lambda _: event(SourceTopic.ATTRIBUTES),
    "items": lambda _: Decoder([ITEM, HEARTBEAT], lambda value: catalogue.decode(b"b", value, 5), (ModelError,)),
    "tombstones": lambda _: Decoder([b"an item"], lambda key: catalogue.decode(key, None, 5), (ModelError,)),
    "record batches": lambda _: record_batches(),
    "examples": lambda _: Decoder([an_example(), encode_heartbeat(Heartbeat(1, 2))], used, (FormatError,)),
    "waiting events": lambda _: store(WAITING, EVENTS[SourceTopic.ACTIONS]),
    "meta of a store": lambda _: store(layout.META_KEY, meta(), StoreError),
    "snapshot manifests": snapshot_manifest,
    "aliases": alias,
    "checkpoints": checkpoint,
    "deltas": delta,
    "lines of metrics": metrics_line,
    "progress of a replay": progress,
    "lines of a log": log_lines,
    "bodies": lambda _: Decoder([b'{"user":"u","items":["a",2],"k":3}'], decode_body, (json.JSONDecodeError,)),
}


@pytest.mark.parametrize("inputs", [500, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("name", DECODERS)
def test_no_bytes_do_more_than_be_refused(name: str, inputs: int, memory: Path) -> None:
    """Mutated messages, manifests and records of each kind; some are decoded, and some refused."""
    seed = name if inputs < 1000 else f"{name} {time.time_ns()}"
    decoder, rng, decoded = DECODERS[name](memory), random.Random(seed), 0
    for _ in range(inputs):
        value = mutated(rng, rng.choice(decoder.seeds))
        try:
            decoder.decode(value)
            decoded += 1
        except decoder.refusals:
            pass
        except Exception as error:
            raise AssertionError(f"{name}, seed {seed!r}: {value!r}") from error
    assert decoded > 0
    assert decoded < inputs or not decoder.refusals or name == "checkpoints"
