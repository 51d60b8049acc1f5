"""The flags of `hstu replay` as one object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.errors import SimError
from sim.replay.rate_limit import RateLimit, parse_speed


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """Each field is the flag of its name; None means that it was not given."""

    log: Sequence[str] | None = None
    log_flags: Mapping[str, Any] = field(default_factory=dict)
    """The flags of sim/log_flags.py."""
    dataset: str | None = None
    scenario: str | None = None
    synthetic: str | None = None
    records: int | None = None
    events: int | None = None
    seed: int | None = None
    direct: bool = False
    speed: str = "max"
    restart: bool = False
    append: bool = False
    name: str | None = None
    attention: str | None = None
    metrics: Path | None = None
    bootstrap: str | None = None
    create_topics: bool = True
    data_dir: Path | None = None

    def of_log(self) -> dict[str, Any]:
        """Return the flags of a log that were given."""
        return {name: value for name, value in self.log_flags.items() if value is not None}

    def of_stream(self) -> dict[str, Any]:
        """Return the size and seed of a generated stream, None where they were not given."""
        return {"records": self.records, "events": self.events, "seed": self.seed}

    def settings(self) -> dict[str, Any]:
        """Return the flags that are settings, by dotted names."""
        given = {"bootstrap": self.bootstrap, "data_dir": self.data_dir}
        if not self.direct:
            return given
        return given | {
            "train.name": self.name or self.attention,
            "model.attention": self.attention,
            "train.metrics_file": None if self.metrics is None else str(self.metrics),
        }

    def refuse_contradictions(self) -> None:
        """Refuse flags that do not go together.

        Raises:
            SimError: They do not.
        """
        speed = parse_speed(self.speed)
        if self.direct and self.append:
            raise SimError("--direct begins with nothing, so nothing can be appended to; remove --append.")
        if self.direct and RateLimit(speed).limited:
            raise SimError("--direct always runs at full speed; remove --speed.")
        if not self.direct and (self.attention or self.metrics):
            raise SimError(
                "--attention and --metrics belong to --direct; into Kafka, give hstu train --attention, and "
                "train.metrics_file by hstu.toml."
            )
