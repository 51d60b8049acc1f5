"""Errors of the stream: each message is a sentence that says what was wrong, where, and what to do.

HstuError                what a command prints without a traceback, then exits with 1
├── BrokerError          Kafka or its installation: unreachable, refused, missing topic
│   └── OtherLogError    a log of Kafka that is not, or no longer, the one that was read
│       └── DeletedUnreadError  one whose next records retention has deleted
├── StoreError           a store of another version, damaged, or one that cannot be written
│   ├── StoreDamagedError  a store whose files are not those that were written: it may be replaced
│   └── StoreBusyError   a store that another process has open, or that is being restored: waiting helps
├── BackupError          backups of stores that cannot be read, written or restored
│   └── FencedError      backups of a partition that another worker has taken over
└── FormatError          bytes that are not ours: foreign, truncated or of a newer version
"""


class HstuError(Exception):
    """Something a user can fix; the command line prints its sentence and exits with 1."""


class BrokerError(HstuError):
    """Kafka cannot be installed, started, reached, or lacks a topic."""


class OtherLogError(BrokerError):
    """A log of Kafka lacks what was read of it, or what comes next.

    Args:
        message: The sentence.
        fact: What was found, without what to do: a sentence of another reader may end with it.
    """

    def __init__(self, message: str, fact: str) -> None:
        super().__init__(message)
        self.fact = fact


class DeletedUnreadError(OtherLogError):
    """Retention has deleted records of a log before they were read."""


class StoreError(HstuError):
    """A sequence store cannot be opened, read or written."""


class StoreDamagedError(StoreError):
    """A store's files are not those that were written; a backup, or the events in Kafka, make it anew."""


class StoreBusyError(StoreError):
    """Another process, or another handle of this one, has the store open; or it is being restored."""


class BackupError(HstuError):
    """A backup of a store cannot be read, written or restored."""


class FencedError(BackupError):
    """Another worker has taken over the backups of a partition."""


class FormatError(HstuError):
    """A message or a file is foreign, truncated or written by a newer version."""


class DamagedError(FormatError):
    """A message of our own format and version whose bytes do not fit together."""
