"""From a plan to its runs: streams × seeds × contestants × variants."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

from model.config import ModelSettings, TrainSettings
from sim.errors import SimError
from sim.experiment.closed_loop_run import POLICY
from sim.experiment.contestants import NEURAL, title_of
from sim.experiment.run import RunSpec, Scalar
from sim.experiment.source_digest import source_digest
from sim.experiment.streams import open_stream
from sim.experiment.upper_bounds import ORACLE, has_upper_bound

TABLES: Final[Mapping[str, type[BaseModel]]] = {"model": ModelSettings, "train": TrainSettings}


@dataclass(frozen=True)
class Plan:
    """What to compare."""

    scenarios: Sequence[str]
    """Scenarios by name or file, data sets, or the one log."""
    contestants: Sequence[str]
    seeds: int = 1
    changes: Mapping[str, Scalar] = field(default_factory=dict)
    """Changed keys of the scenarios."""
    vary: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    """Key to values: "train.learning_rate", "model.dim", "scenario.alpha_high"."""
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    stream: Mapping[str, Any] = field(default_factory=dict)
    log: Mapping[str, Any] = field(default_factory=dict)
    """Files of the log as "log", and the flags of sim/log_flags.py that read them; empty: there is no log."""
    score_at: Literal["label", "request"] = "label"
    test_share: float = 1.0
    late_share: float = 0.1
    frozen: bool = True

    def specs(self) -> list[RunSpec]:
        """Return the runs; those on one stream follow one another.

        Raises:
            SimError: There is no such scenario, contestant or setting, or a setting has a wrong value.
        """
        for name in self.contestants:
            title_of(name)
        self._check_vary()
        return list({spec.id: spec for spec in self._specs()}.values())

    def _check_vary(self) -> None:
        """Refuse settings that would compare different targets, and those that no contestant has."""
        if "train.seed" in self.vary:
            raise SimError("seed is not varied by itself: --seeds N runs everything with the seeds 0 to N - 1.")
        if "train.negative_actions" in self.vary:
            raise SimError(
                "negative_actions decides which actions are targets, so it is not varied within a comparison."
            )
        if "train.batch_examples" in self.vary and self.test_share < 1:
            raise SimError(
                f"With --test-share {self.test_share} each batch_examples would be tested on other targets; "
                "vary it with --test-share 1."
            )
        for key in self.vary:
            if not key.startswith("scenario.") and not any(self._keys_of([key], name) for name in self.contestants):
                raise SimError(f"None of {', '.join(self.contestants)} has a {key} that could be varied.")

    def _keys_of(self, keys: Sequence[str], contestant: str) -> list[str]:
        """Return the keys that change something for a contestant."""
        if contestant in NEURAL:
            return [key for key in keys if key not in NEURAL[contestant].fixed]
        return [key for key in keys if key.removeprefix("train.") in _OF_BASELINES]

    def _exclude_seen_values(self) -> Sequence[Any]:
        return self.vary.get("train.exclude_seen", [self.train.get("exclude_seen", False)])

    def _specs(self) -> Iterator[RunSpec]:
        worlds = [key for key in self.vary if key.startswith("scenario.")]
        own = [key for key in self.vary if key not in worlds]
        for name, values in product(self.scenarios, product(*(self.vary[key] for key in worlds))):
            changed = {key.removeprefix("scenario."): value for key, value in zip(worlds, values, strict=True)}
            for seed in range(self.seeds):
                yield from self._on_one(name, {**self.changes, **changed}, seed, own)

    def _on_one(self, name: str, overrides: dict[str, Scalar], seed: int, own: Sequence[str]) -> Iterator[RunSpec]:
        stream = open_stream(name, overrides, seed, self.stream, self.log)
        usual: dict[str, Any] = {
            **{"scenario": name, "overrides": overrides, "log": dict(self.log), "world": stream.world},
            **{"seed": seed, "stream": dict(self.stream), "late_share": self.late_share},
        }
        if stream.closed:
            if self.score_at == "request" or self.test_share < 1 or any(self._exclude_seen_values()):
                raise SimError(
                    f"In the closed loop {name} regret is measured and nothing is tested, so --score-at request, "
                    "--test-share below 1 and exclude_seen mean nothing there; leave them out."
                )
            yield _spec(POLICY, **usual)
        elif has_upper_bound(stream) and not all(self._exclude_seen_values()):  # bounds rank seen items too
            yield _spec(ORACLE, **usual)
        usual |= {"score_at": self.score_at, "test_share": self.test_share, "frozen": self.frozen}
        tokens = max(16, stream.settings.example_tokens)
        for contestant in self.contestants:
            keys = self._keys_of(own, contestant)
            for values in product(*(self.vary[key] for key in keys)):
                tables = self._tables(contestant, {"max_len": tokens}, dict(zip(keys, values, strict=True)))
                _check(tables, stream.settings.example_tokens)
                variant = " ".join(f"{key.split('.', 1)[1]}={value}" for key, value in zip(keys, values, strict=True))
                yield _spec(contestant, variant=variant, model=tables["model"], train=tables["train"], **usual)

    def _tables(
        self, contestant: str, fitting: Mapping[str, Any], changed: Mapping[str, Scalar]
    ) -> dict[str, dict[str, Any]]:
        """Return the settings of a run; later wins: `fitting`, the plan's, `changed`, the contestant's fixed ones."""
        train = {key: value for key, value in self.train.items() if key != "seed"}
        tables: dict[str, dict[str, Any]] = {"model": {**fitting, **self.model}, "train": train}
        for dotted, value in changed.items():
            table, key = dotted.split(".", 1)
            tables[table][key] = value
        if contestant in NEURAL:
            tables["model"] |= NEURAL[contestant].model
            tables["train"] |= NEURAL[contestant].train
            return tables
        return {
            name: {key: value for key, value in table.items() if key in _OF_BASELINES} for name, table in tables.items()
        }


def _spec(contestant: str, **settings: Any) -> RunSpec:
    return RunSpec(contestant=contestant, source=source_digest(contestant), **settings)


_OF_BASELINES: Final = ("batch_examples", "exclude_seen", "popularity_half_life_d", "negative_actions", "rank_actions")


def _check(tables: Mapping[str, Mapping[str, Any]], example_tokens: int) -> None:
    for name, kind in TABLES.items():
        try:
            kind(**tables[name])
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise SimError(f"{name}.{key} = {first['input']!r} is refused: {first['msg']}.") from None
    if tables["model"].get("max_len", example_tokens) < example_tokens:
        raise SimError(
            f"model.max_len = {tables['model']['max_len']} is less than the {example_tokens} tokens that an example "
            "may have (stream.example_tokens)."
        )


def parse_vary(text: str) -> tuple[str, list[Scalar]]:
    """Parse KEY=VALUE[,VALUE…]; a bare key is that of [model], else of [train], else of the scenario.

    >>> parse_vary("learning_rate=1e-3,3e-3")
    ('train.learning_rate', [0.001, 0.003])

    Raises:
        SimError: The text has another form.
    """
    key, equals, values = text.partition("=")
    if not (key and equals and values):
        raise SimError(f"--vary {text!r} is not of the form KEY=VALUE,VALUE.")
    if key.partition(".")[0] not in (*TABLES, "scenario"):
        found = [table for table, kind in TABLES.items() if key in kind.model_fields]
        key = f"{found[0] if found else 'scenario'}.{key}"
    return key, [parse_scalar(value) for value in values.split(",")]


def parse_scalar(text: str) -> Scalar:
    """Parse a number, true or false; anything else is a text."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
