"""`make reference`: write the pages of docs/reference anew."""

from tests.reference.pages import FOLDER, PAGES

FOLDER.mkdir(exist_ok=True)
for name, text in PAGES.items():
    (FOLDER / name).write_text(text())
    print(FOLDER / name)
