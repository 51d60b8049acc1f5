"""`make reference`: write the examples of the HTTP service and the pages of docs/reference anew."""

import json
import tempfile
from importlib.resources import files
from pathlib import Path

import model.serving.http
from model.serving.http.examples import EXAMPLES, read_examples
from tests.reference.examples import alike, answered
from tests.reference.pages import FOLDER, PAGES

with tempfile.TemporaryDirectory() as folder:
    examples = answered(Path(folder))
if not alike(examples, read_examples()):
    path = Path(str(files(model.serving.http).joinpath(EXAMPLES)))
    path.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n")
    print(path)
FOLDER.mkdir(exist_ok=True)
for name, text in PAGES.items():
    (FOLDER / name).write_text(text())
    print(FOLDER / name)
