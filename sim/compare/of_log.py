"""`hstu compare LOG`: the plan of a comparison on a recorded log, and what is said before and after it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from model.config import ModelSettings, TrainSettings
from sim.compare.plan import Plan
from sim.errors import SimError
from sim.experiment.contestants import NEURAL
from sim.experiment.streams import open_stream
from sim.replay.open_source import describe, remarks
from sim.report.analysis.advice import Advice
from sim.report.analysis.text import NOTHING, number, spread
from stream.config import StreamSettings
from stream.schema.printable import printable

CONTESTANTS: Final = (
    *("hstu", "fast", "gru", "transformer", "encoder"),
    *("stack", "co_occurrence", "markov", "vsknn", "popularity", "last_items"),
)
TOKENS: Final = 64  # of an example, where the configuration names no other number
LATE_SHARE: Final = 0.5
_NETWORK_MS, _COUNTER_MS = (1.3, 3e-4), (0.05, 5e-5)  # CPU time of an event on a Xeon: of any, and for each item
_START_S: Final = 4.0  # of a run: imports, compiled loops, its own pass through the joiner
_LONG_S: Final = 600.0


def log_plan(log: Sequence[str], flags: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> Plan:
    """Return the comparison of all contestants on a log.

    Args:
        log: The files.
        flags: Those of sim/log_flags.py that were given.
        tables: [model], [train] and [stream] of the configuration, as far as they differ from the defaults.

    Raises:
        SimError: The log is standard input, or its bad rows are to be kept.
    """
    if "-" in log:
        raise SimError("Every contestant reads the log again, which standard input does not allow; name a file.")
    if "bad_rows" in flags:
        raise SimError("Every contestant reads the log again, and would write --bad-rows; keep them by hstu inspect.")
    return Plan(
        scenarios=[", ".join(Path(file).name or file for file in log)],
        contestants=CONTESTANTS,
        model=tables["model"],
        train=tables["train"],
        stream={"example_tokens": TOKENS, **tables["stream"]},
        log={"log": [*log], **flags},
        late_share=LATE_SHARE,
        frozen=False,
    )


def announced(plan: Plan, workers: int) -> Iterator[str]:
    """Yield sentences on what a log holds, as `hstu replay` says it, and on what its comparison will cost.

    Raises:
        SimError: The log cannot be read, or nothing in it is a target.
    """
    load = open_stream(plan.scenarios[0], {}, 0, plan.stream, plan.log).recorded
    assert load is not None
    source = load()
    negative_actions = TrainSettings(**plan.train).negative_actions
    if not set(source.summary.actions) - set(negative_actions):
        named = ", ".join(map(printable, source.summary.actions)) or "nothing but what was shown"
        raise SimError(
            f"In {plan.scenarios[0]} no row is a positive action (it has {named}; train.negative_actions are "
            f"{', '.join(negative_actions)}), so there is nothing to find; `hstu inspect` shows how the log is read."
        )
    yield describe(source)
    rank_actions = ModelSettings(**plan.model).rank_actions
    yield from remarks(source, StreamSettings(**plan.stream), negative_actions, rank_actions)
    yield (
        f"Examples have at most {plan.stream['example_tokens']} tokens of history: stream.example_tokens, "
        f"which is {TOKENS} in a comparison unless it is configured."
    )
    cpu_s = sum(_cpu_s(name, len(source), source.items) for name in plan.contestants) * plan.seeds
    wall_s = cpu_s / min(workers, len(plan.contestants) * plan.seeds)
    yield f"This will take about {_span(wall_s)} ({_span(cpu_s)} of one core); what is stopped can be continued."
    if wall_s > _LONG_S and "limit" not in plan.log:
        yield "--limit 20000 compares by the earliest 20,000 rows; --contestant names the ones that you want to see."


def _cpu_s(contestant: str, events: int, items: int) -> float:
    """Return about the CPU seconds of a run; its catalogue grows up to the number of items."""
    each_ms, item_ms = _NETWORK_MS if contestant in NEURAL else _COUNTER_MS
    return _START_S + events * (each_ms + item_ms * items / 2) / 1000


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:,.0f} minutes" if seconds < 5400 else f"{seconds / 3600:,.1f} hours"


def print_advice(found: Advice, console: Console) -> None:
    """Print who is how far behind the best, and the settings of the best network."""
    title = f"HR@10 in {found.late}, {found.targets:,} targets (95 % interval over hundredths of the stream)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for head in ("", "HR@10", "behind the best", "CPU ms a target"):
        table.add_column(head, justify="right" if head else "left", no_wrap=True)
    for place, each in enumerate(found.standings):
        behind = spread(each.behind, each.half) if place else NOTHING
        table.add_row(f"{each.contestant} {each.variant}", number(each.hr10), behind, number(each.cpu_ms, 2))
    if found.standings:
        console.print(table)
    for sentence in found.sentences:
        console.print(sentence, soft_wrap=True)
    if found.toml:
        console.print(f"\n{found.toml_title}\n", soft_wrap=True)
        console.print(found.toml, soft_wrap=True, markup=False)
