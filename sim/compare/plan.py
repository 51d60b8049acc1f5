"""From what a user asks to the runs: streams × seeds × contestants × what is varied."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from model.config import ModelSettings, TrainSettings
from sim.compare.ceilings import ORACLE, has_ceiling
from sim.compare.closed import POLICY
from sim.compare.contestants import NEURAL, title_of
from sim.compare.runs import RunSpec, Scalar
from sim.compare.subjects import open_subject
from sim.errors import SimError

TABLES: Final[Mapping[str, type[BaseModel]]] = {"model": ModelSettings, "train": TrainSettings}


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    scenarios: Sequence[str]
    """Scenarios by name or file, and data sets."""
    contestants: Sequence[str]
    seeds: int = 1
    changes: Mapping[str, Scalar] = field(default_factory=dict)
    """Of the scenarios."""
    vary: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    """Key to values: "train.learning_rate", "model.dim", "scenario.alpha_high"."""
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    stream: Mapping[str, Any] = field(default_factory=dict)
    score_at: Literal["label", "request"] = "label"
    test_share: float = 1.0
    frozen: bool = True

    def specs(self) -> list[RunSpec]:
        """Give the runs, those on one stream next to one another.

        Raises:
            SimError: a scenario, a contestant or a setting is not there, or has no such value.
        """
        for name in self.contestants:
            title_of(name)
        return list(self._specs())

    def _specs(self) -> Iterator[RunSpec]:
        worlds = [key for key in self.vary if key.startswith("scenario.")]
        own = [key for key in self.vary if key not in worlds]
        for name, values in product(self.scenarios, product(*(self.vary[key] for key in worlds))):
            changed = {key.removeprefix("scenario."): value for key, value in zip(worlds, values, strict=True)}
            for seed in range(self.seeds):
                yield from self._on_one(name, {**self.changes, **changed}, seed, own)

    def _on_one(self, name: str, overrides: dict[str, Scalar], seed: int, own: Sequence[str]) -> Iterator[RunSpec]:
        subject = open_subject(name, overrides, seed, self.stream)
        usual: dict[str, Any] = {"scenario": name, "overrides": overrides, "seed": seed, "stream": dict(self.stream)}
        if has_ceiling(subject):
            yield RunSpec(contestant=ORACLE, **usual)
        elif subject.closed:
            yield RunSpec(contestant=POLICY, **usual)
        usual |= {"score_at": self.score_at, "test_share": self.test_share, "frozen": self.frozen}
        width = {"max_len": max(16, subject.stream.example_tokens)}
        for contestant in self.contestants:
            neural = contestant in NEURAL
            keys = own if neural else [key for key in own if key.removeprefix("train.") in _OF_BASELINES]
            for values in product(*(self.vary[key] for key in keys)):
                tables: dict[str, dict[str, Any]] = {"model": width | dict(self.model), "train": dict(self.train)}
                for dotted, value in zip(keys, values, strict=True):
                    table, key = dotted.split(".", 1)
                    tables[table][key] = value
                if not neural:
                    train = {key: value for key, value in tables["train"].items() if key in _OF_BASELINES}
                    tables = {"model": {}, "train": train}
                _check(tables)
                variant = " ".join(f"{key.split('.', 1)[1]}={value}" for key, value in zip(keys, values, strict=True))
                yield RunSpec(
                    contestant=contestant, variant=variant, model=tables["model"], train=tables["train"], **usual
                )


_OF_BASELINES: Final = ("batch_examples", "exclude_seen", "popularity_half_life_d", "negative_actions")


def _check(tables: Mapping[str, Mapping[str, Any]]) -> None:
    for name, kind in TABLES.items():
        try:
            kind(**tables[name])
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise SimError(f"{name}.{key} = {first['input']!r} is refused: {first['msg']}.") from None


def parse_vary(text: str) -> tuple[str, list[Scalar]]:
    """Read KEY=VALUE[,VALUE…]; a bare key is looked for in [model], then in [train], and is else the scenario's.

    >>> parse_vary("learning_rate=1e-3,3e-3")
    ('train.learning_rate', [0.001, 0.003])

    Raises:
        SimError: it is not of this form.
    """
    key, equals, values = text.partition("=")
    if not (key and equals and values):
        raise SimError(f"--vary {text!r} is not of the form KEY=VALUE,VALUE.")
    if key.partition(".")[0] not in (*TABLES, "scenario"):
        found = [table for table, kind in TABLES.items() if key in kind.model_fields]
        key = f"{found[0] if found else 'scenario'}.{key}"
    return key, [parse_scalar(value) for value in values.split(",")]


def parse_scalar(text: str) -> Scalar:
    """Read a number, true, false, or else a text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
