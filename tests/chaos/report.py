"""What a run prints: faults by kind with their recovery, and what was found at the end."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from tests.chaos.checks import Verdict
from tests.chaos.schedule import Fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one fault."""

    fault: Fault
    recovery_s: float | None
    """From the fault to the first watermark of every partition beyond it; None: a refusal, or none in time."""
    wrong: str = ""
    """What did not hold; empty if all did."""
    skipped: str = ""
    """Why it did not happen here."""


@dataclass(frozen=True, slots=True)
class Run:
    """One schedule under one profile of settings."""

    profile: str
    seed: int
    seconds: float
    outcomes: list[Outcome]
    verdict: Verdict

    @property
    def wrong(self) -> list[str]:
        """Everything that does not hold."""
        faults = [f"fault {o.fault.number}, {o.fault.kind}: {o.wrong}" for o in self.outcomes if o.wrong]
        return faults + self.verdict.wrong


def table(runs: Iterable[Run]) -> str:
    """Return the Markdown table of all faults, and a line for each run."""
    runs = list(runs)
    lines = ["| fault | " + " | ".join(f"{run.profile}: count | recovery, median | max" for run in runs) + " |"]
    lines.append("|---|" + "---:|---:|---:|" * len(runs))
    by_kind: dict[str, list[list[Outcome]]] = defaultdict(lambda: [[] for _ in runs])
    for at, run in enumerate(runs):
        for outcome in run.outcomes:
            if not outcome.skipped:
                by_kind[outcome.fault.kind][at].append(outcome)
    for kind in sorted(by_kind):
        lines.append(f"| {kind} | " + " | ".join(_cells(outcomes) for outcomes in by_kind[kind]) + " |")
    total = (" | ".join(_cells([o for o in run.outcomes if not o.skipped]) for run in runs)) + " |"
    return "\n".join([*lines, "| all | " + total, "", *(line for run in runs for line in _summary(run))])


def _cells(outcomes: list[Outcome]) -> str:
    times = [outcome.recovery_s for outcome in outcomes if outcome.recovery_s is not None]
    if not outcomes:
        return "0 | | "
    if not times:
        return f"{len(outcomes)} | said | "
    return f"{len(outcomes)} | {median(times):.1f} s | {max(times):.1f} s"


def _summary(run: Run) -> Iterable[str]:
    found, done = run.verdict, [outcome for outcome in run.outcomes if not outcome.skipped]
    yield (
        f"{run.profile} (seed {run.seed}): {len(done)} faults in {run.seconds:.0f} s; {found.events:,} records, "
        f"{found.examples:,} examples with {found.targets:,} targets, each trained on once; {found.repeats:,} repeats "
        f"in Kafka, {found.two_contents} serials with two contents; {found.letters:,} dead-letters. "
        + ("Lost 0, doubled 0; sequences, examples and model as in one process." if not run.wrong else "WRONG:")
    )
    yield from (f"- {sentence}" for sentence in run.wrong)
    for outcome in run.outcomes:
        if outcome.skipped:
            yield f"- not done: {outcome.fault.kind} ({outcome.skipped})"
