"""An example of each endpoint for openapi.json: a question and its answer, as a server has really given it.

examples.json: "METHOD /path" → {"parameters"?: name → value, "body"?: JSON, "answer": JSON}. `make reference` writes
the answers anew; a test asks each question and compares.
"""

import json
from importlib.resources import files
from typing import Any, Final

EXAMPLES: Final = "examples.json"


def read_examples() -> dict[str, dict[str, Any]]:
    """Return the examples by method and path."""
    found: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath(EXAMPLES).read_text())
    return found


def add_examples(document: dict[str, Any]) -> None:
    """Put the examples into an OpenAPI document."""
    for name, example in read_examples().items():
        method, path = name.split()
        operation = document["paths"][path][method.lower()]
        for parameter in operation.get("parameters", ()):
            if parameter["name"] in example.get("parameters", {}):
                parameter["example"] = example["parameters"][parameter["name"]]
        if "body" in example:
            operation["requestBody"]["content"]["application/json"]["example"] = example["body"]
        operation["responses"]["200"]["content"]["application/json"]["example"] = example["answer"]
