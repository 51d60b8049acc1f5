"""Text that is safe to print: ids, titles and errors come from outside, and a terminal obeys some characters."""

import re
from typing import Final

# All controls but tab and newline (ESC begins a command), marks that turn the direction of writing, lone surrogates.
_UNSAFE: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return the text with what a terminal would obey, or could not print, as escapes.

    >>> printable("a title\x1b]0;pwned\x07")
    'a title\\x1b]0;pwned\\x07'
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
