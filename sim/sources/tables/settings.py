"""How a table on disk is written, where its name and its content do not say."""

from dataclasses import dataclass
from typing import Final

from sim.errors import SimError

_NAMED: Final = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
NO_QUOTE: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSettings:
    """Each field is the flag with its name; None leaves it to the file."""

    separator: str | None = None
    """Text between the cells of a row."""
    quote: str | None = None
    """Character around cells, or "none": quotes are ordinary characters."""
    encoding: str | None = None
    """Encoding of a text file, by Python's name."""
    header: bool | None = None
    """Whether the first line names the columns; without a header they are numbered from 1."""
    numbered: bool = False
    """Whether columns are named by number, so that a first line that may be a header is none."""
    explode: str | None = None
    """Columns of lists, with commas between: each element is a row of its own, in all of them together."""
    texts: tuple[str, ...] = ()
    """Columns in which a list makes a row of JSON a bad one."""
    lists: tuple[str, ...] | None = None
    """Columns in which single values among lists are lists of one, in JSON; None: any but `texts`. Of another column
    the first rows decide whether it holds lists, and where most of them do not, a list makes a bad row."""

    def __post_init__(self) -> None:
        if self.separator == "" or (self.separator or "").strip(" ") == "\n":
            raise SimError("--separator is empty; give the text between two cells, such as ';', '::' or tab.")
        if self.quote not in (None, NO_QUOTE) and len(self.quote or "") != 1:
            raise SimError(f"--quote {self.quote} is no single character; give one, or none.")
        if self.encoding is not None:
            try:
                "".encode(self.encoding)
            except (LookupError, UnicodeError):
                raise SimError(
                    f"--encoding {self.encoding} is unknown; known are utf-8, latin-1, cp1252, utf-16 …"
                ) from None

    @property
    def between(self) -> str | None:
        """The separator itself, where it was given by name."""
        return None if self.separator is None else _NAMED.get(self.separator, self.separator)

    @property
    def exploded(self) -> tuple[str, ...]:
        """The columns of lists."""
        return tuple(name.strip() for name in (self.explode or "").split(",") if name.strip())
