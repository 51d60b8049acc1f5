"""Errors of the stream: each message is a sentence that says what was wrong, where, and what to do.

HstuError            what a command prints without a traceback, then exits with 1
├── BrokerError      Kafka or its installation: unreachable, refused, missing topic
├── StoreError       a store that is locked, of another version, or cannot be written
└── FormatError      bytes that are not ours: foreign, truncated or of a newer version
"""


class HstuError(Exception):
    """Something a user can mend; the command line prints its sentence and exits with 1."""


class BrokerError(HstuError):
    """Kafka cannot be installed, started, reached, or lacks a topic."""


class StoreError(HstuError):
    """A sequence store cannot be opened, read or written."""


class FormatError(HstuError):
    """A message or a file is foreign, truncated or written by a newer version."""
