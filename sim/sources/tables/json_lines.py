"""JSON lines: one object a line. Names of nested fields are joined by dots, lists can be exploded into rows.

A file that is one array of objects is made such lines first. A text that holds an object, as Kafka's tools write
payloads, is nested as well: payload.user_id.
"""

import ast
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import polars as pl

from sim.errors import SimError
from sim.sources.tables.batch import ROW, BadRow, Batch
from sim.sources.tables.plain_text import PlainText
from sim.sources.tables.scratch import refusing_full

_SAMPLE_LINES: Final = 20_000  # a field may be missing in the first of them
_LATER_BYTES: Final = 1 << 18  # looked at in the middle, between, and at the end
_MANY, _RARE = 200, 0.01  # names of a file, and share of its objects
_NO_OBJECT: Final = "no JSON object"
_ARRAY: Final = re.compile(rb"\s*\[\s*[{\]]")
_BETWEEN: Final = re.compile(r"[\s,]*")
_BLOCK: Final = 1 << 20  # characters
_LONGEST: Final = 1 << 26
_decode: Final = msgspec.json.Decoder().decode


def is_array(head: bytes) -> bool:
    """Return whether a file that begins so is one array of objects."""
    return _ARRAY.match(head) is not None


def lines_of_array(text: PlainText, folder: Path) -> PlainText:
    """Return the objects of a file that is one array, a line each, in a new file in `folder`.

    Raises:
        SimError: It is no such array, or ends before it does.
    """
    path = folder / f"{text.path.name}.{len(list(folder.iterdir()))}.jsonl"
    with refusing_full(path), path.open("wb") as out:
        for value in _elements(text):
            out.write(json.dumps(value).encode() + b"\n")
    return replace(text, path=path)


def _elements(text: PlainText) -> Iterator[Any]:
    """Yield the elements of an array; of a text that is cut off, those before the end."""
    decoder, number = json.JSONDecoder(), 0
    with text.path.open(encoding="utf-8") as file:
        here = file.read(_BLOCK)
        at = here.index("[") + 1
        while True:
            at = _BETWEEN.match(here, at).end()  # type: ignore[union-attr]
            if here.startswith("]", at):
                return
            try:
                value, at = decoder.raw_decode(here, at)
            except (json.JSONDecodeError, RecursionError) as error:
                more = "" if len(here) - at > _LONGEST or isinstance(error, RecursionError) else file.read(_BLOCK)
                if not more and not text.whole:
                    return
                if not more:
                    raise SimError(
                        f"{text.name} is no JSON array behind its {number:,} first elements, it may be cut off: {error}"
                    ) from None
                here, at = here[at:] + more, 0
                continue
            number += 1
            yield value


class _Fields:
    """The dotted names in the first lines of a file, and in some that are spread over the rest."""

    def __init__(self, text: PlainText) -> None:
        self.inside = dict[str, str | None]()
        """Each name with the list it lies in, if it lies in lists only."""
        self.counts = Counter[str]()
        self.records = 0
        with text.path.open("rb") as file:
            for line in chain(islice(file, _SAMPLE_LINES), _later_lines(file)):
                record = _record(line)
                if isinstance(record, dict):
                    self._add(record)

    def _add(self, record: dict[str, Any]) -> None:
        self.records += 1
        for name, inside in _names(record):
            self.inside[name] = inside if self.inside.get(name, inside) == inside else None
            self.counts[name] += 1


def columns_of(text: PlainText) -> dict[str, str | None]:
    """Return the dotted names of a file's fields, each with that of the list it lies in if it lies in lists only.

    Raises:
        SimError: It holds no object, or one that is a whole table.
    """
    found = _Fields(text)
    if found.records == 1 and text.whole:
        _refuse_frame(list(found.inside), text.name)
    if not found.inside:
        with text.path.open("rb") as file:
            begun = file.read(_BLOCK).lstrip().startswith(b"{")
        why = "objects that span several lines, or several in one" if begun else "no JSON object in its first lines"
        raise SimError(f"{text.name} has {why}; a log has one a line: jq -c . FILE > log.jsonl writes them so.")
    return found.inside


def usual(names: Sequence[str], text: PlainText) -> list[str]:
    """Return of very many names the most usual: those of others may be keys that each row makes anew."""
    if len(names) <= _MANY:
        return list(names)
    found = _Fields(text)
    often = {name for name, count in found.counts.most_common(_MANY) if count > _RARE * found.records}
    return [name for name in names if name in often]


def _refuse_frame(names: Sequence[str], owner: str) -> None:
    """Refuse one object that holds a table by columns or by rows, as pandas writes it unless told otherwise."""
    numbered = all(re.search(r"^\d+\.|\.\d+$", name) for name in names)
    if (numbered and names) or set(names) == {"columns", "index", "data"} or {"schema.fields", "data"} <= set(names):
        raise SimError(
            f"{owner} is one object with a whole table in it, as pandas writes; a log has an object a line: "
            "df.to_json('log.jsonl', orient='records', lines=True)."
        )


def _later_lines(file: IO[bytes]) -> Iterator[bytes]:
    here, size = file.tell(), file.seek(0, os.SEEK_END)
    for start in (*(size * part // 4 for part in (1, 2, 3)), size - _LATER_BYTES):
        if start > here:
            file.seek(start)
            file.readline()
            yield from file.readlines(_LATER_BYTES)


def is_looked_through(text: PlainText) -> bool:
    """Return whether the first lines, which `columns_of` looks at, are all."""
    with text.path.open("rb") as file:
        return text.whole and next(islice(file, _SAMPLE_LINES, None), None) is None


def _names(record: dict[str, Any], before: str = "", inside: str | None = None) -> Iterator[tuple[str, str | None]]:
    for key, value in record.items():
        name = before + key
        value = _opened(value)
        if isinstance(value, dict) and value:
            yield from _names(value, f"{name}.", inside)
            continue
        yield name, inside
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield from _names(value[0], f"{name}.", name)


def _opened(value: Any) -> Any:
    """Return the object that a text holds, or the value itself."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return _decoded(value.encode())
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def batches(
    text: PlainText,
    columns: Sequence[str],
    exploded: Sequence[str],
    size: int,
    texts: Sequence[str] = (),
    lists: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Yield the named columns as texts, or lists of texts; lines without an object or with a strange list are bad.

    Args:
        text: The file.
        columns: The dotted names.
        exploded: Lists whose elements are rows.
        size: Lines of a batch.
        texts: Columns in which no list is allowed.
        lists: Columns in which lists are allowed; None: in any other. Of the rest the first rows decide.
    """
    paths = [_Path(name, exploded) for name in columns]
    kinds = _Kinds(texts, lists)
    with text.path.open("rb") as file:
        numbered = enumerate(file, 1)
        while lines := list(islice(numbered, size)):
            numbers, cells, bad = [], [list[Any]() for _ in columns], list[BadRow]()
            for number, line in lines:
                record = _record(line)
                if not isinstance(record, dict):
                    if line.strip():
                        bad.append(_bad(number, _NO_OBJECT, line))
                    continue
                for row in _rows(record, paths, exploded):
                    numbers.append(number)
                    for column, value in zip(cells, row, strict=True):
                        column.append(value)
            named = dict(zip(columns, cells, strict=True))
            if wrong := kinds.strange(named):
                before = lines[0][0]
                bad += [_bad(numbers[at], reason, lines[numbers[at] - before][1]) for at, reason in wrong.items()]
                numbers = [number for at, number in enumerate(numbers) if at not in wrong]
                named = {
                    name: [each for at, each in enumerate(some) if at not in wrong] for name, some in named.items()
                }
            rows = {name: _series(name, values) for name, values in named.items()}
            yield Batch(pl.DataFrame({ROW: pl.Series(ROW, numbers, dtype=pl.Int64)} | rows), bad)


class _Kinds:
    """Knows which columns may hold lists."""

    def __init__(self, texts: Sequence[str], lists: Sequence[str] | None) -> None:
        self._any = lists is None
        self._objects = dict[str, bool]()
        self._may = dict.fromkeys(lists or (), True) | dict.fromkeys(texts, False)

    def strange(self, cells: Mapping[str, Sequence[Any]]) -> dict[int, str]:
        """Return the places of rows with a list where none is allowed, or an object among others, and what is wrong."""
        found = dict[int, str]()
        for name, values in cells.items():
            places = [at for at, value in enumerate(values) if isinstance(value, list)]
            given = len(values) - values.count(None)
            if name not in self._may and not self._any and given:
                self._may[name] = len(places) * 2 > given
            if not self._may.get(name, True):
                found |= dict.fromkeys(places, f"{name} is a list")
            objects = [at for at, value in enumerate(values) if isinstance(value, dict)]
            if given:
                self._objects.setdefault(name, len(objects) * 2 > given)
            if not self._objects.get(name, False):
                found |= dict.fromkeys(objects, f"{name} is an object")
        return found


def _bad(number: int, reason: str, line: bytes) -> BadRow:
    return BadRow(number, reason, line[:1000].decode(errors="replace").strip())


def _record(line: bytes) -> Any:
    try:
        return _decoded(line)
    except RecursionError:
        return None
    except msgspec.DecodeError:
        return _of_python(line) if line.lstrip()[:2] in (b"{'", b"{u") else None


def _decoded(text: bytes) -> Any:
    """Return what JSON says; NaN and Infinity, which Python writes though JSON has none, are null.

    Raises:
        msgspec.DecodeError: It is no JSON.
        RecursionError: It is nested too deeply.
    """
    try:
        return _decode(text)
    except msgspec.DecodeError:
        if b"NaN" not in text and b"Infinity" not in text:
            raise
        try:
            return _decode(msgspec.json.encode(json.loads(text)))
        except (ValueError, OverflowError):
            pass
        raise


def _of_python(line: bytes) -> Any:
    """Return what Python's own notation says, as older dumps of Amazon and Steam have it, by what JSON would have."""
    try:
        tree = _NumberNames().visit(ast.parse(line.decode().strip(), mode="eval"))
        return _decode(msgspec.json.encode(ast.literal_eval(tree)))
    except (ValueError, TypeError, OverflowError, SyntaxError, RecursionError, MemoryError):
        return None


class _NumberNames(ast.NodeTransformer):
    """Replaces the names nan and inf by those numbers."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node


class _Path:
    """A dotted name, and the exploded list that it leads through."""

    def __init__(self, name: str, exploded: Sequence[str]) -> None:
        self.through = next((at for at, each in enumerate(exploded) if name == each or name.startswith(each + ".")), -1)
        rest = name[len(exploded[self.through]) + 1 :] if self.through >= 0 else name
        self.name, self.keys = rest, rest.split(".")
        self.is_element = self.through >= 0 and name == exploded[self.through]

    def of(self, value: Any) -> Any:
        if self.is_element:
            return value
        if isinstance(value, dict) and self.name in value:
            return value[self.name]  # a key may hold dots itself
        for key in self.keys:
            value = _opened(value)
            value = value.get(key) if isinstance(value, dict) else None
        return value


def _rows(record: dict[str, Any], paths: Sequence[_Path], exploded: Sequence[str]) -> Iterator[list[Any]]:
    if not exploded:
        yield [path.of(record) for path in paths]
        return
    lists = [_Path(name, ()).of(record) for name in exploded]
    lists = [value if isinstance(value, list) else [] if value is None else [value] for value in lists]
    for place in range(max(1, *map(len, lists))):  # an empty list is a row without elements
        elements = [values[place] if place < len(values) else None for values in lists]
        yield [path.of(record if path.through < 0 else elements[path.through]) for path in paths]


def _series(name: str, values: list[Any]) -> pl.Series:
    if any(isinstance(value, list) for value in values):
        return pl.Series(name, [_texts(value) for value in values], dtype=pl.List(pl.String))
    return pl.Series(name, [_text(value) for value in values], dtype=pl.String)


def _texts(value: Any) -> list[str | None] | None:
    """Return the texts of a list; a scalar beside lists is a list of one."""
    if value is None:
        return None
    return [_text(each) for each in (value if isinstance(value, list) else [value])]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value) if isinstance(value, int) else msgspec.json.encode(value).decode()
