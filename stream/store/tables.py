"""The tables (.sst) of a store: which there are, and whether they are those that RocksDB wrote."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from rocksdict import AccessType, Options, Rdict

from stream.store.refusals import unusable


def tables_of(db: Rdict) -> set[str]:
    """Return the names of the tables that an open RocksDB reads."""
    return {table["name"].lstrip("/") for table in db.live_files()}


def named_tables(path: Path) -> set[str]:
    """Return the names of the tables that a store's manifest names.

    Raises:
        StoreError: One is missing, of another size, or cannot be opened.
    """
    try:
        db = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
    except Exception as error:
        raise unusable(path, error) from None
    try:
        return tables_of(db)
    finally:
        db.close()


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
