"""Questions with and without a kept state of the user: what a thread of the server does, from tokens to JSON.

    one pass   history and candidates in one sequence, as encoders other than HSTU are asked
    cold       step by step, nothing kept: the user's first question, or `serve.user_state_mib = 0`
    again      the same user again, with nothing new
    +1 … +10   after so many new tokens

python bench/user_state.py. `topk` of 10, `rank` of 10 and 500 candidates, and `explain` of 10 items by the newest 50
events, at histories of some lengths. The ways take turns. Their answers are compared: those of cold, again and +n are
equal float by float, one pass differs by rounding.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from report import clock_s, machine, save, table
from served import NOW_MS, make_snapshot

from model.config import ModelSettings
from model.serving.answerer import Answerer
from model.user_states.cache import UserStates
from stream.example import TOKEN_DTYPE, Kind, id_key

ITEMS, NEW = 20_000, 10
USER = "ada"
Answer = dict[str, Any]
Ask = Callable[[Answerer], Any]


class OneUser:
    """A user's tokens, of which the last ones may not have come yet."""

    def __init__(self, most: int) -> None:
        rng = np.random.default_rng(0)
        self.all = np.zeros(most, TOKEN_DTYPE)
        self.all["key"] = [id_key(f"i{item}") for item in rng.integers(ITEMS, size=most)]
        self.all["action"] = id_key("click")
        self.all["ts_ms"] = NOW_MS - 60_000 * np.arange(most, 0, -1)
        self.all["kind"] = Kind.ACTION
        self.now = most

    def tokens(self, user: str, last: int) -> NDArray[Any] | None:
        """Return the tokens that have come."""
        return self.all[: self.now][-last:]


def questions(length: int) -> dict[str, Ask]:
    """Return what is asked of a history; no explanations of long ones, which take seconds in one sequence."""
    candidates = [f"i{item}" for item in np.random.default_rng(1).choice(ITEMS, 500, replace=False)]
    short: dict[str, Ask] = {"explain 10": lambda answerer: answerer.explain(USER, candidates[:10], NOW_MS)}
    return {
        "topk": lambda answerer: answerer.topk(USER, 10, NOW_MS),
        "rank of 10": lambda answerer: answerer.rank(USER, candidates[:10], NOW_MS),
        "rank of 500": lambda answerer: answerer.rank(USER, candidates, NOW_MS),
        **(short if length <= 1000 else {}),
    }


def without_steps(answerer: Answerer) -> Answerer:
    answerer._scorer._encoder._steps = None
    return answerer


class Ways:
    """The ways to ask of one history; each is prepared, then timed."""

    def __init__(self, length: int) -> None:
        snapshot = make_snapshot(ModelSettings(max_len=length + NEW + 1), ITEMS)
        self.user = OneUser(length + NEW)
        self._whole = without_steps(Answerer(snapshot, self.user, wall=lambda: NOW_MS / 1000))
        self._cold = Answerer(snapshot, self.user, wall=lambda: NOW_MS / 1000)
        self._kept = Answerer(snapshot, self.user, wall=lambda: NOW_MS / 1000, states=UserStates(2**30))
        self._length = length

    def prepared(self, ask: Ask) -> Iterator[tuple[str, Answerer]]:
        """Yield each way's name and answerer, ready for the question."""
        self.user.now = self._length + NEW
        yield "one pass", self._whole
        yield "cold", self._cold
        for new in (0, 1, NEW):
            self.user.now = self._length + NEW - new
            self._kept._scorer._encoder.forget(USER)
            ask(self._kept)
            self.user.now = self._length + NEW
            yield f"+{new}" if new else "again", self._kept


def measure(length: int, what: str, ask: Ask, repeats: int) -> dict[str, Any]:
    """Return each way's p50 in ms for one question, and how the answers differ."""
    ways, took, answers = Ways(length), dict[str, list[float]](), dict[str, list[float]]()
    for turn in range(repeats + 2):
        for name, answerer in ways.prepared(ask):
            start_s = clock_s()
            answer = ask(answerer)
            answer.model_dump_json()
            if turn > 1:
                took.setdefault(name, []).append(1000 * (clock_s() - start_s))
            answers[name] = [item.score for item in answer.items]
    if any(answers[name] != answers["cold"] for name in answers if name != "one pass"):
        raise SystemExit(f"{what} after {length} tokens: a kept state has changed the answer")
    return {
        "history": length,
        "question": what,
        "p50_ms": {name: statistics.median(ms) for name, ms in took.items()},
        "difference": max(abs(a - b) for a, b in zip(answers["one pass"], answers["cold"], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        measure(length, what, ask, given.repeats) for length in given.lengths for what, ask in questions(length).items()
    ]
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; default model; p50 of {given.repeats}, ms of CPU time")
    names = list(rows[0]["p50_ms"])
    table(
        ("history", "question", *names, "cold / again", "difference"),
        [
            (
                str(row["history"]),
                row["question"],
                *row["p50_ms"].values(),
                row["p50_ms"]["cold"] / row["p50_ms"]["again"],
                row["difference"],
            )
            for row in rows
        ],
    )
    save("user_state", {"rows": rows, "repeats": given.repeats}, given.save)


if __name__ == "__main__":
    main()
