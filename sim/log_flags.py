"""The flags of a recorded log, for every verb that reads one. Only typer is imported here.

A verb decorated by `with_log_flags` gets them as one dict; `sim.sources.open_log.open_log` turns that into a source.
"""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import typer

PANEL: Final = "How the log is read"


class Flag(NamedTuple):
    """One flag; its name is that of a field of LogSettings, or `items`."""

    kind: Any
    text: str
    default: str | bool = True
    """What --help shows as its default."""
    flag: str = ""
    """How it is written, where that is not its name."""


FLAGS: Final[dict[str, Flag]] = {
    "read_as": Flag(
        str,
        "A known log: mind, otto, ml-25m, ga4 … (hstu inspect lists them), or a .toml file.",
        "by its header",
        "--as",
    ),
    "user": Flag(str, "Column of users; of several (userId,anonymousId), the first that has a value.", "user_id"),
    "item": Flag(str, "Column of items; of several as well.", "item_id"),
    "time": Flag(str, "Column of times: since 1970 in any unit, or ISO-8601.", "ts"),
    "time_offset": Flag(str, "Column added to --time: a time of the day, hours, or a number (ms, or --time-unit)."),
    "time_unit": Flag(
        str,
        "Unit of numbers in --time, or --time-offset: s, ms, us, ns, minutes, hours, days, excel-days.",
        "by their median",
    ),
    "time_format": Flag(str, "Format of times that are texts: '%m/%d/%Y %I:%M:%S %p'.", "ISO-8601"),
    "time_zone": Flag(str, "Zone of times without an offset: Europe/Berlin.", "UTC"),
    "action": Flag(str, "Column of action names, or of labels 0 and 1; without it and --rating each row is a click."),
    "rating": Flag(str, "Column of ratings."),
    "request": Flag(str, "Column of request ids: the rows of one were shown together."),
    "shown": Flag(str, "Column of whole slates: a list, or ids in a text, as N1-1 N2-0 with their labels."),
    "clicked": Flag(str, "Column of the items of --shown that were clicked."),
    "rating_as": Flag(
        str,
        "action: a rating is an action. impression: it is an impression of that one item, and from --positive-from on "
        "a `like` on it.",
        "action",
    ),
    "positive_from": Flag(
        float,
        "Ratings of at least this are the action `like`, lower ones `dislike`.",
        "none, all are the action `rate`",
    ),
    "shuffle_ties": Flag(int, "Seed that shuffles a user's rows of one instant.", "none, they keep the file's order"),
    "limit": Flag(int, "Number of rows at most: the earliest; of a log in time order no more is read.", "all"),
    "skip_bad": Flag(str, "Bad rows left out at most: a number, a share as 1%, or all.", "none, the log is refused"),
    "bad_rows": Flag(str, "JSONL file of the rows that --skip-bad left out."),
    "drop_duplicates": Flag(bool, "Keep one of rows that are equal in all columns read.", False),
    "separator": Flag(str, "Text between cells: ';', '::', tab.", "by the file"),
    "quote": Flag(str, "Character around cells, or none.", '" in .csv, none in .tsv'),
    "encoding": Flag(str, "Encoding of texts: latin-1, cp1252, utf-16.", "utf-8"),
    "header": Flag(
        bool,
        "Whether the first line names the columns; without, they are numbered from 1.",
        "by the file",
        "--header/--no-header",
    ),
    "explode": Flag(str, "Columns of lists whose elements are rows, with commas between."),
    "items": Flag(str, "Catalogue: item id, title, and features as columns."),
    "item_id": Flag(str, "Column of ids in --items.", "the name of --item, item_id, id …"),
    "title": Flag(str, "Column of titles in --items.", "title, name …"),
    "features": Flag(str, "Columns of --items that are features, with commas between.", "all others"),
}


LogArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[LOG]...", help="Files, folders or globs of a log; - is standard input.", show_default=False
    ),
]


def with_log_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the flags of a log; it gets their values, None if not given, as the dict `log_flags`."""

    def run(**values: Any) -> Any:
        flags = {name: values.pop(name) for name in FLAGS}
        return command(**values, log_flags=flags)

    own = [parameter for name, parameter in inspect.signature(command).parameters.items() if name != "log_flags"]
    parameters = own + [_parameter(name, flag) for name, flag in FLAGS.items()]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, command.__module__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


def flag_of(name: str) -> str:
    """Return how the flag of a name is written."""
    return FLAGS[name].flag.partition("/")[0] or "--" + name.replace("_", "-")


def _parameter(name: str, flag: Flag) -> inspect.Parameter:
    option = typer.Option(flag.flag or flag_of(name), help=flag.text, rich_help_panel=PANEL, show_default=flag.default)
    annotation = Annotated[flag.kind | None, option]  # type: ignore[name-defined]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
