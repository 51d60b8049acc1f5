"""`hstu` in this process: what a process of its own prints, without the seconds that it takes to import PyTorch."""

import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from subprocess import CompletedProcess
from unittest.mock import patch

from sim.main import main


def hstu(*arguments: str, **variables: str) -> CompletedProcess[str]:
    """Run a command with these variables of the environment; return its exit code and what it printed."""
    out, err, code = StringIO(), StringIO(), 0
    with (
        patch.dict(os.environ, variables),
        patch.object(sys, "argv", ["hstu", *arguments]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
