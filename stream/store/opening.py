"""How RocksDB is opened here: its options, and what is done about its log of the last writes (.log).

A process that was killed leaves a log whose last record may be cut off, which is no damage; anything else that is wrong
with it is. By itself RocksDB passes over both, and over all that follows (point in time).
"""

import logging
from pathlib import Path
from typing import Final

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    DBRecoveryMode,
    Options,
    Rdict,
)

ALL_FILES: Final = -1  # a secondary keeps every file open, since the writer deletes those that it has compacted
_WRITE_BUFFER_BYTES: Final = 32 << 20  # RocksDB keeps two: one is written to while the other goes to disk
_BLOCK_CACHE_BYTES: Final = 32 << 20
_LOG_BYTES: Final = 1 << 20  # of RocksDB's own log, which grows by a line with each catch_up, and of the one before
_log = logging.getLogger("hstu.store")


def open_rocksdb(path: Path, access: AccessType, options: Options | None = None) -> Rdict:
    """Open a RocksDB with options of ours alone.

    Unless the column family has its own as well, rocksdict takes those of a file OPTIONS-…, and a changed bit in that
    ends the process.
    """
    options = options or store_options()
    return Rdict(str(path), options, column_families={"default": options}, access_type=access)


def store_options(open_files: int = 256) -> Options:
    """Return the options of a store; its log of the last writes may be cut off, and nothing else."""
    options = Options(raw_mode=True)
    options.create_if_missing(False)
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_max_open_files(open_files)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(_LOG_BYTES)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(_BLOCK_CACHE_BYTES))
    table.set_bloom_filter(10, False)
    options.set_block_based_table_factory(table)
    return options


def every_level() -> CompactOptions:
    """Return the options by which a compaction rewrites every level."""
    options = CompactOptions()
    options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
    return options


def open_for_writing(path: Path) -> Rdict:
    """Open a store for writing up to where its log ends or is damaged, and warn of damage.

    Nothing is lost by that: the offsets go back as well, and Kafka's records are read again. Only so is what a power
    cut leaves an earlier whole batch: of a log that was cut off and has a successor, the successor must not be read.
    """
    damage = _damage_in_log(path)
    db = open_rocksdb(path, AccessType.read_write(), _up_to_damage())
    if damage:
        _log.warning(
            "The log of the last writes of the store %s is damaged (%s), by its disk or a power cut. The store goes "
            "back to the batch before the damage; what came after it is read from Kafka again",
            *(path, damage),
        )
    return db


def _damage_in_log(path: Path) -> str:
    """Return what keeps a store from being read to the end of its log, empty where nothing does."""
    if any(log.stat().st_size for log in path.glob("*.log")):
        try:
            open_rocksdb(path, AccessType.read_only()).close()
        except Exception as error:
            return str(error) if str(error).startswith("Corruption: ") else ""  # the opening itself says what else
    return ""


def only_log_damaged(path: Path) -> bool:
    """Return whether a store can be read up to the damage of its log: then its worker mends it by its next start."""
    try:
        open_rocksdb(path, AccessType.read_only(), _up_to_damage()).close()
    except Exception:
        return False
    return True


def _up_to_damage() -> Options:
    options = store_options()
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    return options
