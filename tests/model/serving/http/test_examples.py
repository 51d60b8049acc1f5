"""The examples in openapi.json are answers that a server gives."""

from pathlib import Path

from model.config import ServeSettings
from model.serving.http.app import make_http_app
from model.serving.http.examples import read_examples
from tests.reference.examples import alike, answered
from tests.served import Memory


def test_the_examples_are_what_a_server_answers(tmp_path: Path) -> None:
    """Each question has status 200, and its answer but for the last digits."""
    written = read_examples()
    for name, example in answered(tmp_path).items():
        assert alike(example, written[name]), f"the example of {name} is out of date: run `make reference`"


def test_every_endpoint_has_an_example() -> None:
    """In openapi.json: of all that must be asked, and of the answer."""
    paths = make_http_app(ServeSettings(), Path("none"), Memory()).openapi()["paths"]
    asked = {f"{method.upper()} {path}": each for path, methods in paths.items() for method, each in methods.items()}
    assert asked.keys() == read_examples().keys()
    for name, operation in asked.items():
        contents = [operation["responses"]["200"], operation.get("requestBody", operation["responses"]["200"])]
        assert all("example" in each["content"]["application/json"] for each in contents), name
        needed = [each for each in operation.get("parameters", ()) if each["required"]]
        assert all("example" in each for each in needed), name


def test_every_field_and_parameter_has_a_text() -> None:
    """In openapi.json, and so in /docs and the reference."""
    document = make_http_app(ServeSettings(), Path("none"), Memory()).openapi()
    fields = {
        f"{name}.{field}": each
        for name, schema in document["components"]["schemas"].items()
        for field, each in schema.get("properties", {}).items()
    }
    parameters = {
        f"{path} {each['name']}": each
        for path, methods in document["paths"].items()
        for operation in methods.values()
        for each in operation.get("parameters", ())
    }
    assert len(fields) > 100
    assert not [name for name, each in (fields | parameters).items() if not each.get("description")]
