"""The whole learner on a GPU and on the CPU, for bench/gpu.py: the same micro-batches, tested and trained on.

The stream is made in memory: people, each with a taste in a few genres, are shown slates of films and click one of a
slate. A film has its genre as a feature, so every part of the learner takes part: counts, fusion, features, replay.
"""

import statistics
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np
from gpu_rows import TINY, Rows, line

from model.config import ModelSettings, TrainSettings
from model.data.catalogue import ItemRecord
from model.learning.learner import Learner
from stream.example import TOKEN_DTYPE, Example, Kind, id_key

START_MS: Final = 1_700_000_000_000
SLATE: Final = 8
GENRES: Final = 20
CLOSE: Final = 2e-2  # relative difference of a loss after `AGREE` steps, whose rounding errors training makes larger
AGREE: Final = 3 if TINY else 20
PAPER: Final = ModelSettings(layers=6, max_len=512, dim=256, heads=4)
SMALL: Final = ModelSettings(layers=1, max_len=64, dim=16, heads=2)


def records(films: int) -> list[ItemRecord]:
    """Return the catalogue."""
    features = [{"genre": f"genre {film % GENRES}"} for film in range(films)]
    return [
        ItemRecord(int(id_key(f"film {film}")), f"film {film}", f"Film {film}", features[film], START_MS - 1)
        for film in range(films)
    ]


def slates(films: int, people: int, tokens: int, seed: int = 0) -> Iterator[Example]:
    """Yield examples: a person's last tokens, which end with a slate and the click on one of its films."""
    rng = np.random.default_rng(seed)
    keys = np.array([id_key(f"film {film}") for film in range(films)], np.uint64)
    popular, click = 1 / (np.arange(films) + 20.0), id_key("click")
    popular /= popular.sum()
    taste_PG = rng.dirichlet(np.full(GENRES, 0.2), people)
    histories = [np.zeros(0, TOKEN_DTYPE) for _ in range(people)]
    serial = 0
    while True:
        person = int(rng.integers(people))
        shown = rng.choice(films, SLATE, replace=False, p=popular)
        liked = taste_PG[person, shown % GENRES] + 1e-3
        chosen = int(rng.choice(SLATE, p=liked / liked.sum()))
        new = np.zeros(SLATE + 1, TOKEN_DTYPE)
        new["key"] = keys[np.append(shown, shown[chosen])]
        new["kind"] = [Kind.IMPRESSION] * SLATE + [Kind.ACTION]
        new["action"][-1] = click
        new["ts_ms"] = START_MS + 10_000 * serial + np.arange(SLATE + 1) // SLATE * 1000
        histories[person] = np.concatenate((histories[person], new))[-tokens:]
        serial += 1
        yield _example(serial, person, histories[person], chosen, int(click))


def _example(serial: int, person: int, tokens: np.ndarray, chosen: int, click: int) -> Example:
    at = np.arange(len(tokens) - SLATE - 1, len(tokens) - 1)
    labels = np.full(1, click, np.uint64)
    names = {"keys": "key", "actions": "action", "ts_ms": "ts_ms", "kinds": "kind"}
    columns = {name: np.ascontiguousarray(tokens[column]) for name, column in names.items()}
    return Example(
        partition=0,
        serial=serial,
        final_ms=int(tokens["ts_ms"][-1]),
        user=person + 1,
        first=0,
        **columns,
        positions=at.astype(np.int32),
        queries=np.full(SLATE, at[0] - 1, np.int32),
        requests=np.zeros(SLATE, np.uint32),
        request_ms=tokens["ts_ms"][at].copy(),
        label_offsets=(np.arange(SLATE + 1) > chosen).astype(np.uint32),
        labels=labels,
        text_keys=np.empty(0, np.uint64),
        texts=(),
    )


def make(model: ModelSettings, device: str, films: int, **train: Any) -> Learner:
    """Return a learner that knows the catalogue."""
    learner = Learner(model, TrainSettings(device=device, **train))
    learner.learn_items(records(films))
    return learner


def batches(films: int, tokens: int, size: int, count: int) -> list[list[Example]]:
    """Return micro-batches of one size."""
    made = slates(films, 40 if TINY else 500, tokens)
    return [[next(made) for _ in range(size)] for _ in range(count)]


def agree_row(device: str, films: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Compare losses on both devices, two runs on this one, and one that is saved and loaded in its middle.

    Raises:
        RuntimeError: The losses are not close, or runs of one device are not the same to the bit.
    """
    model = SMALL if TINY else ModelSettings(layers=2, max_len=128, **settings)
    steps = batches(films, model.max_len, 4, AGREE)
    cpu, ours, again = (make(model, where, films) for where in ("cpu", device, device))
    losses = [(cpu.step(batch).loss, ours.step(batch).loss) for batch in steps]
    off = max(abs(a - b) / abs(a) for a, b in losses)
    for batch in steps[: AGREE // 2]:
        again.step(batch)
    resumed = make(model, device, films)
    resumed.load_state({name: np.array(array) for name, array in again.state().items()})
    for batch in steps[AGREE // 2 :]:
        again.step(batch)
        resumed.step(batch)
    same = {"repeated": again.digest() == ours.digest(), "resumed": resumed.digest() == ours.digest()}
    if not (off < CLOSE and all(same.values())):
        raise RuntimeError(f"relative difference of a loss {off:.1e}, wanted below {CLOSE}; the same bits: {same}")
    return {"off": off, **same}


def rate_row(device: str, model: ModelSettings, size: int, films: int, seconds: float) -> dict[str, Any]:
    """Time whole steps: test, training, replay."""
    import torch

    learner = make(model, device, films, batch_examples=size, replay_examples=size // 2)
    examples, taken = slates(films, 20 if TINY else 200, model.max_len), []
    for _ in range(0 if TINY else 200 * model.max_len // (SLATE + 1) // size):  # histories grow to their full length
        learner.index.take_in([next(examples) for _ in range(size)])
    began = time.monotonic()
    while len(taken) < (2 if TINY else 5) or time.monotonic() - began < seconds:
        batch = [next(examples) for _ in range(size)]
        start = time.perf_counter()
        learner.step(batch)
        taken.append(time.perf_counter() - start)
    step_s = statistics.median(taken[1:])
    tokens = sum(len(example.keys) for example in batch)
    gib = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    return {"step_ms": 1000 * step_s, "examples_s": size / step_s, "tokens_s": tokens / step_s, "gib": gib}


def learner_rows(rows: Rows) -> None:
    """Measure, and print a line for each row."""
    device, films = ("cpu", 100) if TINY else ("cuda", 20_000)
    variants = [{"attention": "silu"}, {"attention": "silu_seen"}, {"attention": "softmax"}, {"bias": "functional"}]
    for variant in variants[:1] if TINY else variants:
        title = f"agree, {', '.join(variant.values())}"
        row = rows.row(title, partial(agree_row, device, min(films, 2000), variant), limit_s=150)
        if "error" not in row:
            print(f"{title}: off by {row['off']:.1e}; repeated and resumed with the same bits", flush=True)
    print("\nwhole steps of the learner: test, training, replay; 8 shown and 1 clicked an example")
    line("", "step ms", "examples/s", "tokens/s", "peak GiB")
    shapes = [("defaults", ModelSettings(), 8), ("defaults", ModelSettings(), 64), ("retrieval size", PAPER, 64)]
    for name, model, size in [("tiny", SMALL, 2)] if TINY else shapes:
        for where in (device,) if TINY or size > 8 else (device, "cpu"):
            title = f"{name}, {size} examples, {where}"
            row = rows.row(title, partial(rate_row, where, model, size, films, 0.0 if TINY else 8.0))
            if "error" not in row:
                line(title, row["step_ms"], row["examples_s"], row["tokens_s"], row["gib"])
