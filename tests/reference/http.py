"""docs/reference/http.md: paths, parameters and answers of `hstu serve`, from its OpenAPI document."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from model.config import ServeSettings
from model.serving.http.app import make_http_app
from tests.reference.markdown import code, grouped, page, paragraph, table
from tests.served import Memory

_INTRO = """What `/openapi.json` and `/docs` of a server say. Filters, errors, limits and the token are explained in
[http](../http.md). Every error is `{"detail": sentence}`."""


def http_page() -> str:
    document = make_http_app(ServeSettings(), Path("none"), Memory()).openapi()
    paths = [
        part
        for path, methods in document["paths"].items()
        for method, asked in methods.items()
        for part in _operation(path, method, asked)
    ]
    schemas = document["components"]["schemas"]
    fields = [part for name in sorted(schemas) for part in _schema(name, schemas[name])]
    return page("HTTP", _INTRO, [*paths, "## Objects", *fields])


def _operation(path: str, method: str, asked: dict[str, Any]) -> Iterator[str]:
    yield f"## {method.upper()} {path}"
    yield paragraph(asked["description"])
    if parameters := asked.get("parameters"):
        heads = ("parameter", "value", "default", "meaning")
        yield table(heads, [(code(each["name"]), *_field(each, each["schema"])) for each in parameters])
        asking = {each["name"]: each["example"] for each in parameters if "example" in each}
        yield f"Example: `{method.upper()} {path}?{urlencode(asking, safe=',')}`"
    if body := asked.get("requestBody"):
        content = body["content"]["application/json"]
        yield f"Body: {_type(content['schema'])}."
        if "example" in content:
            yield _json(content["example"])
    for status, answer in sorted(asked["responses"].items()):
        for kind, content in answer.get("content", {}).items():
            if status == "200":
                yield f"Answer: {_type(content['schema']) or kind}."
                if "example" in content:
                    yield _json(content["example"])
    others = [code(status) for status in sorted(asked["responses"]) if status != "200"]
    yield paragraph(f"Other statuses: {', '.join(others)}.")


def _json(example: Any) -> str:
    return f"```json\n{json.dumps(example, indent=1, ensure_ascii=False)}\n```"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}"
    yield paragraph(schema.get("description", ""))
    required = schema.get("required", ())
    heads = ("field", "value", "default", "meaning")
    yield table(
        heads,
        [
            (code(field), *_field({"required": field in required} | below, below))
            for field, below in schema.get("properties", {}).items()
        ],
    )


def _field(says: dict[str, Any], schema: dict[str, Any]) -> tuple[str, str, str]:
    default = "required" if says.get("required") else code(json.dumps(schema["default"])) if "default" in schema else ""
    return _type(schema), default, says.get("description", "")


def _type(schema: dict[str, Any]) -> str:
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if several := schema.get("anyOf"):
        return " or ".join(_type(each) for each in several)
    if values := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return " or ".join(code(json.dumps(value)) for value in values)
    if "items" in schema:
        name = f"list of {grouped(_type(schema['items']))}"
    elif isinstance(schema.get("additionalProperties"), dict):
        name = f"object of {grouped(_type(schema['additionalProperties']) or 'anything')}"
    else:
        name = schema.get("type", "")
    bounds = {"minimum": "≥", "maximum": "≤", "minLength": "length ≥", "maxLength": "length ≤", "pattern": "like"}
    bounds |= {"minItems": "entries ≥", "maxItems": "entries ≤"}
    said = (
        f"{sign} {code(schema[key]) if key == 'pattern' else int(schema[key])}"
        for key, sign in bounds.items()
        if key in schema
    )
    return ", ".join([name, *said])
