"""What a backup of one partition's store consists of: its manifest, version 2.

    line    content
    1       JSON of Manifest
    2       xxh3_128 of line 1 without its end, 32 hex digits

A manifest is written after all the files that it names, so a backup without one is none. One that was cut off, or
edited, does not match its digest.
"""

from typing import Final

import msgspec
from xxhash import xxh3_128_hexdigest

from stream.errors import DamagedError, FormatError
from stream.store.layout import LogState, Meta

VERSION: Final = 2


class File(msgspec.Struct, frozen=True):
    """A file of the store: its name there, the object that holds it, bytes, xxh3_128 in hex."""

    name: str
    stored: str
    bytes: int
    xxh3: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backup. `offsets` are the next of the three sources, `logs` the last records read of them."""

    version: int = VERSION
    partition: int
    partitions: int
    cluster: str
    """Id of the Kafka, empty where it was not known."""
    epoch: str
    made_ms: int
    made_by: str
    offsets: list[int]
    logs: list[LogState]
    serial: int
    watermark_ms: int
    digest: str
    files: list[File]

    @property
    def records(self) -> int:
        """How many records of its sources the store had read: the order of backups."""
        return sum(self.offsets)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.bytes for file in self.files)


def make_manifest(
    number: int, meta: Meta, cluster: str, epoch: str, made_ms: int, made_by: str, files: list[File]
) -> Manifest:
    """Return the manifest of a store that has come this far."""
    return Manifest(
        partition=number,
        partitions=meta.partitions,
        cluster=cluster,
        epoch=epoch,
        made_ms=made_ms,
        made_by=made_by,
        offsets=meta.offsets,
        logs=meta.logs,
        serial=meta.serial,
        watermark_ms=meta.watermark_ms,
        digest=meta.digest.hex(),
        files=files,
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's bytes."""
    line = msgspec.json.encode(manifest)
    return line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n"


def decode_manifest(data: bytes, name: str) -> Manifest:
    """Return the manifest of these bytes.

    Args:
        data: What `encode_manifest` returned.
        name: Where it lies, for the error.

    Raises:
        DamagedError: It was cut off or edited, or lacks what a manifest has.
        FormatError: It is of another version.
    """
    line, _, digest = data.partition(b"\n")
    if digest != xxh3_128_hexdigest(line).encode() + b"\n":
        raise DamagedError(f"The backup {name} is damaged or half written: its manifest does not match its digest.")
    try:
        version = msgspec.json.decode(line, type=_Versioned).version
    except msgspec.DecodeError as error:
        raise DamagedError(f"The backup {name} is damaged: its manifest has no version: {error}.") from None
    if version != VERSION:
        raise FormatError(
            f"The backup {name} is of version {version}; this hstu-stream reads {VERSION}: restore it with the version "
            "that made it, or, where the stores are whole, name another place for backups."
        )
    try:
        return msgspec.json.decode(line, type=Manifest)
    except msgspec.DecodeError as error:
        raise DamagedError(
            f"The backup {name} is damaged: its manifest is none of version {VERSION}: {error}."
        ) from None


class _Versioned(msgspec.Struct):
    version: int
