"""Folders for what is too large for memory."""

import shutil
import weakref
from pathlib import Path
from tempfile import mkdtemp


class Scratch:
    """A folder that is deleted with this object, or when the process ends; TMPDIR decides where."""

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="hstu-log-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
