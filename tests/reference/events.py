"""docs/reference/events.md: topics, the records on them, and why records are refused."""

import inspect
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from model.data.catalogue import WireRecord
from stream.schema.dead_letters import DeadLetter, Reason
from stream.schema.events import Action, Attribute, Forget, Heartbeat, Impression
from stream.schema.topics import DEAD_LETTERS, EVENTS, EXAMPLES, ITEMS
from tests.reference.markdown import code, grouped, member_docs, page, paragraph, table

_INTRO = """The topics, without `stream.topic_prefix`, and the JSON of their records. Ids are text or integers of at
most 256 bytes; additional fields are ignored. Keys, headers and formats of bytes are in [formats](../formats.md), what
becomes of events in [design](../design.md#joiner)."""
_RECORDS = {"impressions": (Impression,), "actions": (Action,), "attributes": (Attribute, Forget), ITEMS: (WireRecord,)}
_ITEMS = "A record without a value withdraws the item that its key names."
_EXAMPLES = "What trainers read, in bytes: [examples](../formats.md#examples-version-2)."
_HEADERS = "The refused record with its key and its value, and these headers:"


def events_page() -> str:
    return page("Events", _INTRO, _parts())


def _parts() -> Iterator[str]:
    for topic in (*EVENTS, ITEMS):
        yield f"## {topic}"
        for record in _RECORDS[topic]:
            yield from _record(record)
    yield _ITEMS
    yield "## Heartbeats"
    yield "On any of these topics:"
    yield from _record(Heartbeat)
    yield f"## {EXAMPLES}"
    yield _EXAMPLES
    yield f"## {DEAD_LETTERS}"
    headers = [name for name, _ in DeadLetter(Reason.LATE, "", "actions", 0, 0, None, b"").headers()]
    yield paragraph(f"{_HEADERS} {', '.join(map(code, headers))}.")
    said = member_docs(Reason)
    yield table(("reason", "meaning"), [(code(each.value), said[each.name]) for each in Reason])


def _record(record: type[Struct]) -> Iterator[str]:
    yield paragraph(inspect.getdoc(record) or "")
    said = member_docs(record)
    (schema,) = (each for each in msgspec.json.schema_components([record])[1].values())
    rows = [
        (code(name), _type(field), "may be left out" if "default" in field else "", said[name])
        for name, field in schema["properties"].items()
        if name != "watermark" or record is Heartbeat
    ]
    yield table(("field", "value", "", "meaning"), rows)


def _type(schema: dict[str, Any]) -> str:
    if several := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(each) for each in several))
    if values := schema.get("enum"):
        return " or ".join(map(str, values)).lower()
    if schema["type"] == "array":
        return f"list of {grouped(_type(schema['items']))}"
    if isinstance(below := schema.get("additionalProperties"), dict):
        return f"object of {grouped(_type(below))}"
    return {"string": "text", "null": "null"}.get(schema["type"], schema["type"])
