"""Loops compiled by numba at their first call, for the machine's own vector unit."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import numba
from filelock import FileLock, Timeout
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.types import unliteral
from xxhash import xxh3_64_hexdigest

P = ParamSpec("P")
R = TypeVar("R")
_log: Final = logging.getLogger("hstu.loops")
ANY_ORDER: Final = ("reassoc", "contract", "arcp", "nsz")  # LLVM's flags for it; NaN and infinity keep their meaning
_PATIENCE_S: Final = 60.0  # that other processes get to compile, once a process; the largest function takes 20 s


def compiled(
    function: Callable[P, R], *, any_order: bool = False, calls: Sequence[str] = (), **more: bool
) -> Callable[P, R]:
    """Compile a function without the GIL, and cache the result beside its file if that can be written.

    The function may call functions of its own file and of those in `calls`: numba looks at no other file to see whether
    its cache is old.

    Args:
        function: The function.
        any_order: Whether sums may be taken in any (fixed) order; else they are rounded as written.
        calls: Paths of the other files whose compiled functions it calls.
        more: Further options of numba.njit.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", **more}
    if any_order:
        options["fastmath"] = set(ANY_ORDER)
        function.__qualname__ += "_" + "_".join(ANY_ORDER)  # numba's cache ignores flags as well
    if calls:
        digest = xxh3_64_hexdigest(b"".join(Path(path).read_bytes() for path in calls))
        function.__qualname__ += f"_{digest}"
    made = numba.njit(**options)(function)
    if not hasattr(made, "compile"):  # NUMBA_DISABLE_JIT
        return function
    made.get_call_template = _any_constant(made.get_call_template)
    with suppress(RuntimeError):  # no folder for the cache can be written
        made._cache = _Cache(function)  # type: ignore[no-untyped-call]
        made.compile = _once_a_machine(made.compile, made._cache.lock_path)
    return cast(Callable[P, R], made)


def _any_constant(template: Callable[..., Any]) -> Callable[..., Any]:
    """Return the choice of a function's version for other compiled functions without one of its own for each constant.

    Numba's types have the value of a constant that is passed, so `f(x, 0)` and `f(x, n)` would be compiled apart.
    """

    def chosen(args: Sequence[Any], kws: Mapping[str, Any]) -> Any:
        kinds: Callable[[Any], Any] = unliteral
        return template(tuple(map(kinds, args)), {name: kinds(kind) for name, kind in kws.items()})

    return chosen


class _Cache(FunctionCache):
    """A function's cache on disk; what was cached before a module was moved is compiled again."""

    @property
    def lock_path(self) -> Path:
        """Return the path of the lock of the process that compiles this function, beside the cached code."""
        return Path(self.cache_path, f"{self._impl.filename_base}.lock")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled code for a signature, None if there is none that can be used."""
        found = None
        with suppress(ImportError, AttributeError):
            found = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        if found is None:
            _say_that_it_compiles()
        return found


@cache
def _say_that_it_compiles() -> None:
    """Log once a process why it takes so long."""
    _log.warning(
        "Compiling loops for this machine, once, one to three minutes for all. `hstu warmup` does it beforehand."
    )


class _Turn:
    """Whether this process compiles now, and how long it waits for another one that does; used under numba's lock."""

    def __init__(self) -> None:
        self.depth = 0  # functions, each compiled for the one before
        self.patience_s = _PATIENCE_S

    @contextmanager
    def take(self, lock: FileLock) -> Iterator[None]:
        """Hold the lock of a function, or go on without once another process has had it for too long.

        One that is stopped would hold it for ever. Code that two processes compile is the same, and numba replaces a
        file of its cache as a whole.
        """
        self.depth += 1
        try:
            self._wait(lock)
            yield
        finally:
            self.depth -= 1
            lock.release()

    def _wait(self, lock: FileLock) -> None:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        if not self.patience_s:
            return
        _log.warning(
            "Another process compiles loops for this machine; waiting for it, at most %.0f s.", self.patience_s
        )
        try:
            lock.acquire(timeout=self.patience_s)
        except Timeout:
            self.patience_s = 0.0
            _log.warning(
                "The process that holds %s has not compiled within %.0f s, as if it were stopped; compiling here too.",
                *(lock.lock_file, _PATIENCE_S),
            )


_turn: Final = _Turn()


def compiling() -> bool:
    """Return whether this process compiles loops now, or waits for another one that does."""
    return _turn.depth > 0


def _once_a_machine(compile_: Callable[[Any], Any], lock_path: Path) -> Callable[[Any], Any]:
    """Return `compile_` behind a lock, so that of processes that start together one compiles and the others load.

    Each call has a lock of its own, since one that was made before a fork cannot be used after it.

    Numba's own lock comes first: threads that took the two in turns would wait for each other. Between processes nobody
    waits in a circle, since a function is locked before those that it calls.
    """

    def locked(signature: Any) -> Any:
        with global_compiler_lock, _turn.take(FileLock(lock_path)):
            return compile_(signature)

    return locked
