"""Bounds on JSON that comes from outside, checked on the bytes before anything decodes them.

How deep a decoder can go depends on how deep Python's own stack is when it is called, so that what one caller reads
another could not. These bounds depend on the bytes alone.
"""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_JSON_BYTES: Final = 1 << 20
MAX_JSON_DEPTH: Final = 32  # brackets and braces inside each other; an event has 2 at most

# A string, or the rest of the bytes where it does not end: so each byte is looked at once.
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_STEPS: Final[NDArray[np.int64]] = np.zeros(256, np.int64)
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


class JsonBoundsError(ValueError):
    """Bytes that are too long or too deep to be decoded; a subclass for each."""


class TooManyBytesError(JsonBoundsError):
    """More than MAX_JSON_BYTES."""


class TooDeepError(JsonBoundsError):
    """More than MAX_JSON_DEPTH levels."""


def check_json(value: bytes) -> None:
    """Check that JSON is neither too long nor too deep; whether it is JSON at all is the decoder's affair.

    Raises:
        TooManyBytesError: It has more than MAX_JSON_BYTES bytes.
        TooDeepError: It has more than MAX_JSON_DEPTH levels.
    """
    if len(value) > MAX_JSON_BYTES:
        raise TooManyBytesError(f"it has {len(value)} bytes where {MAX_JSON_BYTES} are allowed")
    if value.count(b"[") + value.count(b"{") <= MAX_JSON_DEPTH:
        return
    if (depth := json_depth(value)) > MAX_JSON_DEPTH:
        raise TooDeepError(f"it is {depth} levels deep where {MAX_JSON_DEPTH} are allowed")


def json_depth(value: bytes) -> int:
    """Return how many brackets and braces stand open at the deepest place, those in strings left out."""
    bare = np.frombuffer(_STRING.sub(b"", value), np.uint8)
    return int(_STEPS[bare].cumsum().max(initial=0))
