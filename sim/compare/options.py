"""From the options of `hstu compare` to a plan: a preset or the named streams and contestants, with changes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sim.compare.of_log import log_plan
from sim.compare.plan import Plan, parse_vary
from sim.compare.presets import preset
from sim.config import Settings
from sim.errors import SimError
from sim.experiment.run import Scalar
from sim.log_flags import flag_of


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options; None and empty mean not given."""

    preset: str | None = None
    scenarios: Sequence[str] = ()
    contestants: Sequence[str] = ()
    vary: Sequence[str] = ()
    records: int | None = None
    events: int | None = None
    seeds: int | None = None
    score_at: str | None = None
    test_share: float | None = None
    late_share: float | None = None
    frozen: bool | None = None
    log: Sequence[str] = ()
    log_flags: Mapping[str, Any] = field(default_factory=dict)
    """The flags of sim/log_flags.py that were given."""


def plan_of(options: Options, settings: Settings) -> Plan:
    """Return the plan; without a preset it takes [model], [train] and [stream] of the configuration.

    The one of a log has all contestants, a preset its own; what is named takes their place.

    Raises:
        SimError: An option is missing or has a wrong value.
    """
    for flag in () if options.log else options.log_flags:
        raise SimError(f"{flag_of(flag)} says how a LOG is read; name the LOG, or remove {flag_of(flag)}.")
    plan = preset(options.preset) if options.preset and not options.log else _from(settings, options)
    vary = dict(plan.vary)
    for text in options.vary:
        key, values = parse_vary(text)
        vary[key] = values
    changes: dict[str, Scalar] = {} if options.scenarios else dict(plan.changes)  # for a preset's own scenarios
    for name in ("records", "events"):
        if (value := getattr(options, name)) is not None:
            changes[name] = value
    if options.score_at not in (None, "label", "request"):
        raise SimError(f"--score-at {options.score_at} is neither label nor request.")
    if options.test_share is not None and not 0 < options.test_share <= 1:
        raise SimError(f"--test-share {options.test_share} does not lie in (0, 1].")
    if options.late_share is not None and not 0.01 <= options.late_share <= 1:
        raise SimError(f"--late-share {options.late_share} does not lie in [0.01, 1]; 0.5 is the second half.")
    given: dict[str, Any] = {
        "scenarios": options.scenarios,
        "contestants": options.contestants,
        "seeds": options.seeds,
        "score_at": options.score_at,
        "test_share": options.test_share,
        "late_share": options.late_share,
    }
    given = {name: value for name, value in given.items() if value not in (None, [], ())}
    if options.frozen is not None:
        given["frozen"] = options.frozen
    return replace(plan, **given, vary=vary, changes=changes)


def _from(settings: Settings, options: Options) -> Plan:
    tables = {name: getattr(settings, name).model_dump(exclude_defaults=True) for name in ("model", "train", "stream")}
    if options.log:
        _refuse_streams(options)
        return log_plan(options.log, options.log_flags, tables)
    if not options.scenarios or not options.contestants:
        raise SimError("Name a LOG, a --preset, or at least one --scenario and one --contestant.")
    return Plan(scenarios=options.scenarios, contestants=options.contestants, **tables)


def _refuse_streams(options: Options) -> None:
    others = {"preset": options.preset, "scenario": options.scenarios, "records": options.records}
    for flag, value in (others | {"events": options.events}).items():
        if value:
            raise SimError(f"A LOG is compared by itself; remove --{flag}, or the LOG and the flags that read it.")
