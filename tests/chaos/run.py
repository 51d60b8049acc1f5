"""One run: a system under live load, a schedule of faults, and the verdict at the end."""

import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.chaos.checks import Verdict, judge, orphans
from tests.chaos.faults import Chaos
from tests.chaos.load import Load
from tests.chaos.processes import System, wait_for
from tests.chaos.report import Outcome, Run
from tests.chaos.schedule import Fault

_END_S = 1800.0  # much is left to learn on a busy machine
_WORKERS = 2
_NEVER = ("Traceback", "holds another record", "begins at offset", "ends at offset", "lost between Kafka")


def run(
    folder: Path, profile: str, seed: int, schedule: Iterable[Fault], rate: float, say: Callable[[str], None]
) -> Run:
    """Run a schedule under a profile of settings, in a folder that is new.

    Args:
        folder: Of Kafka, both hosts and all logs; removed if nothing is wrong.
        profile: default or strict.
        seed: Of the load.
        schedule: What is done, in order.
        rate: Events a second.
        say: Gets a line for each fault.
    """
    begun = time.monotonic()
    system, outcomes, verdict = System(folder, profile), list[Outcome](), Verdict()
    try:
        system.start(_WORKERS)
        load = Load(system.broker.bootstrap, system.settings.stream, seed, rate)
        outcomes.extend(_under_load(system, load, schedule, say))
        verdict = _verdict(system)
    except Exception as error:  # Kafka that does not come back, say: what was found up to then is still told
        say(traceback.format_exc())
        verdict.wrong.append(str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}")
    finally:
        ends = _close(system)
    verdict.wrong += ends
    verdict.wrong += [f"left behind: {line}" for line in orphans(folder)]
    verdict.wrong += [f"wrongly ended by itself: {line}" for line in system.ends if any(map(line.__contains__, _NEVER))]
    done = Run(profile, seed, time.monotonic() - begun, outcomes, verdict)
    for line in system.ends:
        say(f"ended by itself: {line}")
    if not done.wrong:
        shutil.rmtree(folder)
    return done


def _close(system: System) -> list[str]:
    """End everything; return what is wrong with its end."""
    try:
        return [f"{name} had to be killed at the end" for name in system.close()]
    except Exception as error:
        return [f"the end: {type(error).__name__}: {error}"]


def _under_load(system: System, load: Load, schedule: Iterable[Fault], say: Callable[[str], None]) -> Iterator[Outcome]:
    """Do all faults while events come in, end the logs, and wait until the trainer has learned from all of them.

    Raises:
        AssertionError: The trainer does not start, stops again and again, or does not come to the end.
    """
    load.start()
    chaos = Chaos(system, load)
    try:
        if not chaos.recovered(time.time() * 1000):
            raise AssertionError(f"the system does not start: {system.trainer.last_words()}")
        for fault in schedule:
            outcome = chaos.do(fault)
            say(_line(outcome))
            yield outcome
    finally:
        chaos.close()
        load.finish()
    if not wait_for(lambda: _is_over(system), _END_S, system.supervise):
        raise AssertionError(f"the trainer has not come to the end: {system.trainer.last_words()}")


def _is_over(system: System) -> bool:
    return not system.trainer.running() and system.trainer.wait(1) == 0


def _verdict(system: System) -> Verdict:
    shown = json.loads(system.run("snapshots", "show", "--json"))
    return judge(system.kafka, system.settings, shown, system.folder / "one-process")


def _line(outcome: Outcome) -> str:
    fault = outcome.fault
    came = outcome.wrong or outcome.skipped or ("said" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f} s")
    return f"{fault.number:3} {fault.kind}: {came}"
