"""Late labels: to wait for the action window, or to learn at once and correct; click probabilities against freshness.

    python bench/delayed_labels.py --seeds 1 2 3 4 5 --save bench/results

Ways of learning: `wait` has one example with the final label at the end of the action window, as the joiner makes them;
`oracle` has it at once, which nobody can; `naive`, FNW, FNC, ES-DFM and `back` learn early and again when an action
comes later (delayed_losses.py); `shorter` waits for a shorter window and takes its label for the final one. All teach
the same logistic regression (delayed_learner.py) the same stream in one pass: each impression is asked at its time,
before anything of it is learnt, and judged by its final label. `counts` is the project's own regression over counts,
which no weight of an example reaches, so that it waits, or is told at once, or waits for a shorter window.

Worlds are scenarios with slates, whose action window is the joiner's 600 s, and shops (`shop-LIFE`) in which a click
takes two hours (median), the window is a day, and an item lives for so long on average. A seed is that of the world. On
seed 7, which is not reported, each way's rate of Adagrad and early window are chosen by NE, world by world.

NE is the log-loss over that of knowing the base rate. Calibration is the sum of predictions over the sum of labels. The
age is the time since the newest impression of which the learner had an example, when asked. The gap is NE less that of
waiting, seed by seed, with its 95 % interval by Student's t. Mean ± standard deviation over the seeds.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from delayed_counts import counted
from delayed_learner import EARLY, WAYS, ages_ms, answers, steps_of
from delayed_stream import NEVER, Floats, shown_in
from numpy.typing import NDArray
from recipe import cell
from report import machine, save, table
from scipy.special import stdtrit

from model.evaluation.metrics import RankingTally
from sim.scenarios.files import checked, find, read_settings
from sim.world.settings import WorldSettings
from sim.world.world import World
from stream.config import StreamSettings

SHOPS_D: Final = {"shop-8d": 8.0, "shop-12h": 0.5}  # how long an item lives
DAY_S: Final = 86_400.0
RATES: Final = (0.02, 0.05, 0.1, 0.2)
SHARES: Final = (0.25, 0.125, 0.5)  # w_e, of the action window
CHOSEN_ON: Final = 7  # seed
FIGURES: Final = ("ne", "late_ne", "log_loss", "auc", "calibration", "late_calibration", "age_s")


def world_of(name: str, seed: int, slates: int | None) -> tuple[World, float]:
    """Return a world and its action window in seconds."""
    if name in SHOPS_D:
        window_s = DAY_S
        tables: dict[str, Any] = {
            "base": {"events": 15_000, "days": 30, "items": 800},
            "turnover": {"lifetime_d": SHOPS_D[name]},
            "slates": {"size": 8, "explore": 0.2},
            "delay": {"law": "lognormal", "seconds": 7_200, "sigma": 1.0},
        }
        settings = checked(tables, name)
    else:
        settings = read_settings(find(name))
        window_s = StreamSettings().action_window_s
    assert isinstance(settings, WorldSettings)
    base = settings.base.model_copy(update={"seed": seed} | ({} if slates is None else {"events": slates}))
    return World(settings.model_copy(update={"base": base})), window_s


def figures(logit_T: Floats, age_ms_T: Floats, label_T: NDArray[np.bool_]) -> dict[str, float]:
    """Return the figures of one way."""
    found = {"age_s": float(np.nanmean(age_ms_T)) / 1000}
    for part, start in (("", 0), ("late_", len(label_T) // 2)):
        tally = RankingTally(["click"])
        tally.count(logit_T[start:, None], label_T[start:, None], np.zeros(len(label_T) - start, np.intp))
        log_loss, ne, calibration = tally.figures()[0, -1].tolist()
        found |= {f"{part}ne": ne, f"{part}log_loss": log_loss, f"{part}calibration": calibration}
        found[f"{part}auc"] = float(tally.auc()[0])
    return found


COUNTS: Final = {f"counts: {way}": way for way in ("wait", "oracle", "shorter")}


class Choice(NamedTuple):
    """Settings of a way."""

    rate: float
    share: float  # w_e, of the action window


class Bench:
    """One world, and what each way makes of it."""

    def __init__(self, name: str, seed: int, given: argparse.Namespace) -> None:
        world, window_s = world_of(name, seed, given.slates)
        self.shown, self._window_ms = shown_in(world), round(window_s * 1000)
        self.label_T = self.shown.acted_ms - self.shown.ts_ms < self._window_ms
        if given.at_once:
            self.shown = self.shown._replace(acted_ms=np.where(self.label_T, self.shown.ts_ms + 1, NEVER))

    def figures(self, way: str, choice: Choice) -> dict[str, float]:
        """Return the figures of a way."""
        elapsed_ms = round(choice.share * self._window_ms)
        steps = steps_of(COUNTS.get(way, way), self.shown, self._window_ms, elapsed_ms)
        if way not in COUNTS:
            return figures(*answers(way, self.shown, steps, choice.rate), self.label_T)
        wait_ms = {"counts: wait": self._window_ms, "counts: oracle": 0, "counts: shorter": elapsed_ms}[way]
        label_T = self.label_T if way != "counts: shorter" else self.shown.acted_ms - self.shown.ts_ms <= elapsed_ms
        logits_T, ts = counted(self.shown, self.shown.ts_ms + wait_ms, label_T), self.shown.ts_ms
        return figures(logits_T, ages_ms(steps, ts), self.label_T)

    def choice(self, way: str) -> Choice:
        """Return the settings with the least NE: first the rate, then w_e."""
        rates, shares = RATES if way in WAYS else (0.0,), SHARES if COUNTS.get(way, way) in EARLY else SHARES[:1]
        best = self._least(way, [Choice(rate, SHARES[0]) for rate in rates])
        return self._least(way, [best._replace(share=share) for share in shares])

    def _least(self, way: str, choices: list[Choice]) -> Choice:
        if len(choices) == 1:
            return choices[0]
        return min(choices, key=lambda choice: self.figures(way, choice)["ne"])


def runs_of(name: str, given: argparse.Namespace) -> tuple[dict[str, Choice], dict[str, list[dict[str, float]]]]:
    """Return the settings of all ways in one world, and their figures by seed."""
    bench = Bench(name, CHOSEN_ON, given)
    chosen = {way: bench.choice(way) for way in (*WAYS, *COUNTS)}
    print(f"{name}: {chosen}", flush=True)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in chosen}
    for seed in given.seeds:
        bench = Bench(name, seed, given)
        for way, choice in chosen.items():
            found[way].append(bench.figures(way, choice))
        print(f"{name}, seed {seed}: {len(bench.label_T):,} impressions, {bench.label_T.mean():.3f} clicked:", end="")
        print(*(f" {way} {runs[-1]['ne']:.4f}" for way, runs in found.items()), sep=",", flush=True)
    return chosen, found


def gap(ways: dict[str, list[dict[str, float]]], way: str, figure: str) -> str:
    """Return a figure less that of waiting, with its interval."""
    wait = "counts: wait" if way in COUNTS else "wait"
    gaps = [run[figure] - other[figure] for run, other in zip(ways[way], ways[wait], strict=True)]
    if way == wait or len(gaps) < 2:
        return ""
    half = float(stdtrit(len(gaps) - 1, 0.975)) * statistics.stdev(gaps) / len(gaps) ** 0.5
    return f"{statistics.mean(gaps):+.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", default=["delayed", "everything", *SHOPS_D], help="scenarios or shops")
    parser.add_argument("--slates", type=int, help="slates of each world; else as many as its scenario has")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--at-once", action="store_true", help="clicks come 1 ms after slates; the regression's features stay"
    )
    parser.add_argument("--save", type=Path, help="folder for the figures as JSON, e.g. bench/results")
    given = parser.parse_args()
    chosen, found = {}, {}
    for name in given.worlds:
        chosen[name], found[name] = runs_of(name, given)
    print(f"{machine()}; {time.strftime('%Y-%m-%d')}; seeds {given.seeds}, slates {given.slates or 'as the world'}")
    rows = [
        (name, way, *(cell(runs, figure) for figure in FIGURES), gap(ways, way, "ne"), gap(ways, way, "late_ne"))
        for name, ways in found.items()
        for way, runs in ways.items()
    ]
    heads = ("NE", "NE, 2nd half", "log-loss", "AUC", "calibration", "calibration, 2nd half", "age in s")
    table(("world", "learns by", *heads, "gap of NE", "gap, 2nd half"), rows)
    settings = {name: {way: choice._asdict() for way, choice in ways.items()} for name, ways in chosen.items()}
    saved = {"seeds": given.seeds, "slates": given.slates, "at_once": given.at_once, "chosen": settings, "runs": found}
    save("delayed-labels", saved, given.save)


if __name__ == "__main__":
    main()
