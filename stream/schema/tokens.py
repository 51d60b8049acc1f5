"""Tokens: the elements of a user's sequence, and their order.

A token is (key, action, ts_ms, kind): an impression shows an item, an action acts on one (`action` is the key of its
name; NO_KEY otherwise), an attribute token gives a slowly changing feature a new value (`key` is that of "name=value").
A sequence is in (ts_ms, kind, key, action) order: at one time an attribute precedes an impression, and an impression
an action.

    bytes of a token: key u64 | action u64 | ts_ms i64 | kind u8, little-endian, 25 in all
"""

import struct
from enum import IntEnum
from typing import Final

import numpy as np

TOKEN_DTYPE: Final = np.dtype([("key", "<u8"), ("action", "<u8"), ("ts_ms", "<i8"), ("kind", "u1")])

TOKEN: Final = struct.Struct("<QQqB")

END_OF_TIME_MS: Final = 2**53 - 1  # the largest integer that every JSON reader keeps; the last heartbeat of a log
LAST_TS_MS: Final = 7_258_118_400_000  # 2200-01-01; a time in microseconds lies beyond it


class Kind(IntEnum):
    """What a token says; the value is its rank among tokens of one time."""

    ATTRIBUTE = 0
    IMPRESSION = 1
    ACTION = 2
