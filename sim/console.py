"""The terminal: standard error, a progress bar with rate and remaining time, and Ctrl-C as a request to stop."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

ERR: Final = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


class _Rate(ProgressColumn):
    """Events a second since the bar began."""

    def render(self, task: Task) -> Text:
        """Return the rate as text."""
        return Text(f"{task.speed or 0:,.0f}/s")


@contextmanager
def progress(name: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; the block gets a function that takes the number of events done."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
    )
    with Progress(*columns, _Rate(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM; a second SIGINT interrupts as usual."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: Any) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
