"""The tables (.sst) of a store: which there are, and whether they, and the manifest that names them, are as written.

A manifest is a log of records in blocks of 32 KiB (RocksDB's log_format.h); none goes over the end of a block:

    4 bytes  masked CRC-32C of type and content
    2 bytes  length of the content, little-endian like the CRC
    1 byte   type: 1 to 4, whole or a part; 0 in room that is not written to yet
    content
"""

import os
import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from rocksdict import AccessType, Options, Rdict

from stream.store.opening import open_rocksdb
from stream.store.refusals import damaged, unusable

_BLOCK: Final = 32_768
_HEAD: Final = struct.Struct("<IHB")
_CRC_32C: Final = 0x82F63B78
_MASK: Final = 0xA282EAD8
_LAST_TYPE: Final = 4


def tables_of(db: Rdict) -> set[str]:
    """Return the names of the tables that an open RocksDB reads."""
    return {table["name"].lstrip("/") for table in db.live_files()}


def named_tables(path: Path) -> set[str]:
    """Return the names of the tables that a store's manifest names.

    Raises:
        StoreError: One is missing, of another size, or cannot be opened, or the manifest is damaged.
    """
    refuse_odd_manifest(path)
    try:
        db = open_rocksdb(path, AccessType.read_only(), Options(raw_mode=True))
    except Exception as error:
        raise unusable(path, error) from None
    try:
        return tables_of(db)
    finally:
        db.close()


def refuse_odd_manifest(path: Path) -> None:
    """Check that a store's manifest is a row of records, the last of which a crash may have cut off.

    RocksDB takes a whole record whose length leads past the end for one that was cut off, passes over all that follows,
    and deletes the tables that are named there; what was really cut off has another checksum at every length. Where
    records of other types follow it hangs for ever.

    Raises:
        StoreDamagedError: It is not.
    """
    try:
        manifest = path / (path / "CURRENT").read_text().strip()
        data = manifest.read_bytes()
    except (OSError, ValueError):
        return  # whoever opens the store says what is wrong
    place = 0
    while place + _HEAD.size <= len(data):
        left = _BLOCK - place % _BLOCK - _HEAD.size
        if left < 0:
            place += left + _HEAD.size
            continue
        crc, length, kind = _HEAD.unpack_from(data, place)
        if kind > _LAST_TYPE:
            raise damaged(path, f"{manifest.name} has a record of type {kind} at byte {place}")
        end = place + _HEAD.size + length
        if length > left or end > len(data):
            if _is_whole(crc, data[place + _HEAD.size - 1 :][: left + 1]):
                raise damaged(path, f"{manifest.name} has another length than was written at byte {place}")
            return
        place = end


def _is_whole(masked: int, data: bytes) -> bool:
    """Return whether a masked CRC-32C is that of some beginning of the data."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC_32C if crc & 1 else 0)
        done = crc ^ 0xFFFF_FFFF
        if ((done >> 15 | done << 17) + _MASK) & 0xFFFF_FFFF == masked:
            return True
    return False


def damaged_tables(files: Iterable[Path]) -> list[str]:
    """Return the names of those tables of one folder that are damaged; files that are no tables are passed over.

    Each block has a checksum. RocksDB's own repairer reads them all, without Python's lock, from a folder of links, and
    moves away the links to tables that it cannot read.

    Raises:
        OSError: They cannot be linked beside the folder.
        StoreError: They cannot be read, for instance because the disk is full.
    """
    tables = [file for file in files if file.suffix == ".sst"]
    if not tables:
        return []
    folder = tables[0].parent.resolve()
    aside = folder.with_name(f".{folder.name.strip('.')}.tables")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for table in tables:
            os.link(table, aside / table.name)
        _repair(aside)
        return [table.name for table in tables if not (aside / table.name).exists()]
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _repair(folder: Path) -> None:
    try:
        Rdict.repair(str(folder), Options(raw_mode=True))
    except Exception as error:
        raise unusable(folder, error, what="cannot be checked") from None
