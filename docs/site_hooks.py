"""What `make docs` changes in pages that are read on GitHub as well: mkdocs.yml names this file.

The repository's README is the first page; CONTRIBUTING.md and CHANGELOG.md are pages too. Links to source files become
text, since the site has no sources. Comments for tests/test_docs.py go.
"""

import logging
import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
_LINK: Final = re.compile(r"\[((?:[^][]|\[[^]]*\])*)\]\(([^)#:\s]+)(#[^)]*)?\)")
_COMMENT: Final = re.compile(r"^<!-- test: .* -->\n", re.MULTILINE)
_log: Final = logging.getLogger("mkdocs.hooks")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository's root."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page without comments, its links as the site has them."""
    uri = page.file.src_uri
    here = "" if uri in PAGES.values() else posixpath.dirname(f"docs/{uri}")

    def linked(found: re.Match[str]) -> str:
        text, target, anchor = found[1], posixpath.normpath(posixpath.join(here, found[2])), found[3] or ""
        if target in PAGES or target.startswith("docs/"):
            there = PAGES.get(target, target.removeprefix("docs/"))
            return f"[{text}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor})"
        if not (ROOT / target).exists():
            _log.warning("%s links to %s, which does not exist.", uri, target)
        return text

    return _COMMENT.sub("", _LINK.sub(linked, markdown))
