"""Small worlds, their laws once more as plain loops, and a reader of streams that checks them."""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.scenarios.scenario import WorldScenario
from sim.sources.source import SourceEvent
from sim.world.settings import WorldSettings
from sim.world.world import World
from stream.schema.topics import ITEMS

SMALL: dict[str, Any] = {"events": 3_000, "users": 40, "items": 60, "categories": 6, "days": 10}
MANY: dict[str, Any] = {"events": 60_000, "session": 1.0}
ALL: dict[str, Any] = {  # every drift at once
    "growth": {"first": 0.5},
    "turnover": {"lifetime_d": 4},
    "shock": [{"at_d": 3, "items": 4, "factor": 20, "half_life_d": 1}, {"at_d": 6, "items": 3}],
    "rotation": {"period_d": 3, "move": "glide"},
    "season": {"period_d": 4, "amplitude": 0.6},
    "noise": {"share": 0.1},
    "bots": {"share": 0.1, "activity": 5},
}
SLATES: dict[str, Any] = {
    "slates": {"size": 5, "explore": 0.2, "half_lift": 4},
    "position": {"decay": 0.7},
    "delay": {"law": "lognormal", "seconds": 200, "sigma": 1.5},
}


def scenario(*, base: dict[str, Any] | None = None, **tables: Any) -> WorldScenario:
    """Return a small scenario with these tables."""
    return WorldScenario("small", WorldSettings.model_validate({"base": SMALL | (base or {}), **tables}))


def written(folder: Path, text: str) -> Path:
    """Write a scenario file and return its path."""
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def naive_law(world: World, user: int, tick: int) -> dict[int, float]:
    """Return p(item | user, tick) by the formulas of sim/scenarios/__init__.py, one item at a time."""
    settings, items, day = world.settings, world.items, world.elapsed_d(tick)
    alive = [i for i in range(len(items)) if items.born[i] <= tick < items.dies[i]]
    crowd: dict[int, float] = defaultdict(float)
    for item in alive:
        crowd[int(items.category[item])] += float(items.weight[item])
    scores = {}
    for item in alive:
        category, boost, season = int(items.category[item]), 1.0, 1.0
        for shock, chosen in zip(settings.shock, world.shocked, strict=True):
            felt = next(n for n in range(world.ticks) if world.elapsed_d(n) >= shock.at_d - 1e-6)
            if item in chosen and tick >= felt:
                half_lives = (day - world.elapsed_d(felt)) / shock.half_life_d
                boost *= 1 + (shock.factor - 1) * 0.5**half_lives
        if settings.season:
            turn = day / settings.season.period_d + category / settings.base.categories
            season += settings.season.amplitude * np.sin(2 * np.pi * turn)
        taste = naive_taste(world, user, day)[category]
        scores[item] = taste * season * float(items.weight[item]) * boost / crowd[category]
    noise = settings.noise.share if settings.noise else 0.0
    noise = 1.0 if world.users.bots[user] else noise
    total = sum(scores.values())
    return {item: (1 - noise) * score / total + noise / len(alive) for item, score in scores.items()}


def naive_taste(world: World, user: int, day: float) -> NDArray[np.float64]:
    rotation = world.settings.rotation
    if rotation is None:
        return world.users.taste(0)[user]
    number = int(day // rotation.period_d)
    part = day / rotation.period_d - number if rotation.move == "glide" else 0.0
    return (1 - part) * world.users.taste(number)[user] + part * world.users.taste(number + 1)[user]


@dataclass
class ReadBack:
    """The content of a stream."""

    clicks: list[tuple[int, str, str, str | None]] = field(default_factory=list)  # ts, user, item, request
    slates: dict[str, tuple[int, str, list[str]]] = field(default_factory=dict)  # request: ts, user, items
    born: dict[str, int] = field(default_factory=dict)
    died: dict[str, int] = field(default_factory=dict)

    def check_alive(self, ts: int, item: str) -> None:
        assert self.born[item] <= ts
        assert item not in self.died


def read_back(catalogue: Iterable[tuple[str, bytes]], events: Iterable[SourceEvent]) -> ReadBack:
    """Return the content of a stream, after checking that time does not go back and that only live items are seen."""
    stream, last = ReadBack(born={item: json.loads(value)["ts"] for item, value in catalogue}), 0
    for event in events:
        assert event.ts_ms >= last
        last = event.ts_ms
        key, value = (event.key or b"").decode(), json.loads(event.value) if event.value else None
        if value is None:
            assert event.topic == ITEMS
            stream.check_alive(last, key)
            stream.died[key] = last
            continue
        assert value["ts"] == last
        if event.topic == ITEMS:
            assert value["item_id"] == key
            assert value["title"]
            assert key not in stream.born
            stream.born[key] = last
        elif event.topic == "actions":
            assert (value["user_id"], value["action"]) == (key, "click")
            stream.check_alive(last, value["item_id"])
            stream.clicks.append((last, key, value["item_id"], value.get("request_id")))
        else:
            for item in value["items"]:
                stream.check_alive(last, item)
            stream.slates[value["request_id"]] = (last, key, value["items"])
    return stream


def fits(counts: NDArray[Any], expected: NDArray[np.float64]) -> bool:
    """Return whether counts fit the expected ones: chi-square within five sigma of its mean.

    Cells of fewer than five are joined.
    """
    small = expected < 5
    assert (counts[expected == 0] == 0).all()
    rest = [counts[small].sum()], [expected[small].sum()]
    observed, wanted = np.concatenate([counts[~small], rest[0]]), np.concatenate([expected[~small], rest[1]])
    used = wanted > 0
    statistic, freedom = float(((observed - wanted)[used] ** 2 / wanted[used]).sum()), int(used.sum()) - 1
    return abs(statistic - freedom) < 5 * (2 * freedom) ** 0.5
