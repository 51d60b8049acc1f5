"""What holds everywhere: imports go one way, files and functions fit into one head, the command line starts quickly."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("stream", "model", "sim")
CORE = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
ALL = [*CORE, *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "bench").rglob("*.py"))]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(path: Path, module: str) -> bool:
    """Tell whether a file may import one of our modules."""
    mine, other = path.relative_to(ROOT).parts[0], module.split(".")[0]
    if mine == "sim" or other not in FOLDERS or other == mine:
        return True
    if mine == "model" and other == "stream":
        part = module.split(".")[1] if "." in module else "example"
        return part == "example" or (part == "transport" and path.name == "kafka.py")
    return False


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    """stream/ knows nobody, model/ of stream/ the example alone (and in the trainer's shell the transport)."""
    wrong = {module for module in imports(ast.parse(path.read_text())) if not allowed(path, module)}
    assert not wrong


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    """400 lines a file, 60 a function without its docstring."""
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            first = node.body[1] if documented and len(node.body) > 1 else node.body[0]
            assert (node.end_lineno or 0) - first.lineno < 60, node.name


def test_help_is_light() -> None:
    """`hstu --help` imports no torch, no numpy and nothing else that takes its time."""
    heavy = {"torch", "numpy", "faust", "kafka", "polars", "fastapi", "pydantic", "rocksdict", "matplotlib"}
    code = f"""
import sys
sys.argv = ["hstu", "--help"]
from sim.main import main
try:
    main()
except SystemExit:
    pass
assert not (found := {heavy} & set(sys.modules)), found
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for verb in (
        "worker",
        "train",
        "serve",
        "replay",
        "query",
        "snapshots",
        "topics",
        "broker",
        "scenarios",
        "compare",
        "demo",
    ):
        assert verb in done.stdout
