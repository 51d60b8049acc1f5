"""Digest of the source that decides a run's figures: when that code is edited, the run gets a new id and runs again.

Covered are the modules of model/, stream/ and sim/ that the run reaches by imports: from the streams and the loops that
test and train, and from the contestant's own module. So an edited baseline runs again and the others keep their
results; an edited encoder runs again with whatever uses it. Comments, docstrings and layout do not count. Not covered:
modules in `_IGNORED`, which cannot change a figure, and libraries, whose versions are in about.json.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Final

from xxhash import xxh3_64

from model.baselines import BASELINES
from model.evaluation.prequential import LOGISTIC
from model.network.encoders import ENCODERS
from model.network.rankers import RANKERS
from sim.experiment.contestants import NEURAL
from sim.experiment.upper_bounds import ORACLE

MODELS: Final[dict[str, type]] = {**ENCODERS, **RANKERS}
ROOT: Final = Path(__file__).parents[2]  # holds model/, stream/ and sim/
_OURS: Final = ("model", "stream", "sim")
_RUN: Final = ("sim.experiment.run", "sim.experiment.closed_loop_run", "sim.experiment.streams")
_BOUND: Final = ("sim.experiment.upper_bounds", "sim.experiment.streams")
_LEARNER: Final = "model.learning.learner"
_CLICKS: Final = "model.learning.click_fusion"
_OF_SOME: Final = (_LEARNER, _CLICKS)  # imported by contestants.py, and no part of most baselines' runs
_CHOSEN: Final = ("model.baselines", "model.network.encoders")  # load all their modules; a run uses one of them
_IGNORED: Final = ("model.errors", "model.storage", "model.trainer.run", "sim.config", "sim.errors", "stream.errors")


@cache
def source_digest(contestant: str, root: Path = ROOT) -> str:
    """Return the digest of the source that decides the figures of a contestant, of an upper bound or of the policy.

    Args:
        contestant: The name in RunSpec.
        root: The folder that holds our packages.
    """
    digest = xxh3_64()
    for module in sorted(_reached(_roots(contestant), root)):
        digest.update(f"{module}\n{_code(_file(module, root))}\n".encode())
    return digest.hexdigest()


def _roots(contestant: str) -> tuple[str, ...]:
    if contestant in NEURAL:
        return (*_RUN, *_OF_SOME, MODELS[NEURAL[contestant].model["encoder"]].__module__)
    if contestant in BASELINES:
        return (*_RUN, BASELINES[contestant].__module__)
    if contestant == LOGISTIC:
        return (*_RUN, _CLICKS, BASELINES["stack"].__module__)
    return _BOUND if contestant == ORACLE else _RUN


def _reached(roots: tuple[str, ...], root: Path) -> set[str]:
    """Return the roots and all of our modules that they import, directly or not."""
    found: set[str] = set()
    left = list(roots)
    while left:
        module = left.pop()
        if module not in found and _file(module, root).is_file():
            found.add(module)
            left += [name for name in _imports(module, _file(module, root)) if not _stops(name, roots)]
    return found


def _stops(module: str, roots: tuple[str, ...]) -> bool:
    ignored = any(f"{module}.".startswith(f"{name}.") for name in _IGNORED)
    return ignored or module.split(".")[0] not in _OURS or (module in _OF_SOME and module not in roots)


def _file(module: str, root: Path) -> Path:
    """Return the file of a module; a folder of the same name that has no __init__.py, of data say, is not it."""
    path = root.joinpath(*module.split("."))
    package = path / "__init__.py"
    return (package if package.is_file() else path.with_suffix(".py")).resolve()


@cache
def _imports(module: str, path: Path) -> list[str]:
    """Return what a module imports, late imports included; of `from a import b` both a and a.b, which may be a module.

    A package that loads its modules by `iter_modules` imports all of them.
    """
    found: list[str] = []
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            source = ".".join(filter(None, [*above, node.module]))
            found += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    if any(name.endswith(".iter_modules") for name in found) and module not in _CHOSEN:
        found += [f"{module}.{file.stem}" for file in path.parent.glob("*.py")]
    return found


@cache
def _code(path: Path) -> str:
    """Return a file's statements in one layout, without comments and bare strings."""
    return ast.unparse(_WithoutTexts().visit(ast.parse(path.read_text(encoding="utf-8"))))


class _WithoutTexts(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else node
