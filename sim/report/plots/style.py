"""Colour, marker and dash of each contestant, the same in every plot and table of one comparison.

Colours are CSS variables with a value for light and one for dark pages. Colour-blind readers can tell them apart: they
differ in lightness, and markers and dashes repeat the distinction. Neural contestants have full lines and filled
markers, baselines dashes and open markers, an upper bound dots. While matplotlib draws, each variable is a unique
colour (`ink`), which svg.py replaces by the variable.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

PALETTE: Final = {  # variable: light, dark
    "c0": ("#0062b0", "#58a6ff"),
    "c1": ("#c44e00", "#ff9a52"),
    "c2": ("#008573", "#3fd6bd"),
    "c3": ("#9c2f86", "#ee8fd6"),
    "c4": ("#8a6a00", "#e3bd3a"),
    "c5": ("#5c5c66", "#b4b4c0"),
    "c6": ("#7a3b2e", "#d79a88"),
    "c7": ("#3d4f9f", "#9fb0ff"),
    "c8": ("#4c7a1e", "#a4d56a"),
    "c9": ("#b0254f", "#ff8fa9"),
    "ink": ("#1b1e24", "#e8eaee"),
    "muted": ("#5a616e", "#a3abb8"),
    "rule": ("#d9dde3", "#363c46"),
    "paper": ("#ffffff", "#14171c"),
}
_OWN: Final = {
    "hstu": "c0",
    "silu": "c0",
    "softmax": "c1",
    "silu_seen": "c2",
    "transformer": "c3",
    "gru": "c8",
    "popularity": "c5",
    "last_items": "c6",
    "markov": "c4",
    "co_occurrence": "c7",
}
_SPARE = ("c9", "c7", "c8", "c6", "c2", "c3", "c4", "c5")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "<")
_DASHES = ((5, 2), (2, 1.5), (7, 2, 2, 2), (3, 3))


@dataclass(frozen=True)
class Look:
    """One contestant's colour variable, matplotlib marker, whether it is filled, and dash (None: a full line)."""

    colour: str
    marker: str
    filled: bool
    dash: tuple[float, ...] | None


def looks(runs: pl.DataFrame) -> dict[str, Look]:
    """Return every contestant's look; names without an own one get what is left, in the order of their names."""
    contestants = runs.select("contestant", "kind").unique("contestant").sort("contestant")
    spare = [colour for colour in _SPARE if colour not in {_OWN.get(name) for name in contestants["contestant"]}]
    found: dict[str, Look] = {}
    others = baselines = 0
    for place, (name, kind) in enumerate(contestants.iter_rows()):
        marker = _MARKERS[list(_OWN).index(name) if name in _OWN else (place + len(_OWN)) % len(_MARKERS)]
        if kind == "oracle":
            found[name] = Look("ink", "*", True, (1, 1.5))
            continue
        colour = _OWN.get(name) or (spare or _SPARE)[others % len(spare or _SPARE)]
        others += name not in _OWN
        dash = _DASHES[baselines % len(_DASHES)] if kind == "baseline" else None
        baselines += kind == "baseline"
        found[name] = Look(colour, marker, kind == "neural", dash)
    return found


def ink(variable: str) -> str:
    """Return the unique colour that stands for a variable while matplotlib draws."""
    return f"#fe{list(PALETTE).index(variable):02x}01"


def variables(scheme: int) -> str:
    """Return the CSS declarations of all variables: 0 for light, 1 for dark."""
    return "".join(f"--{name}:{colours[scheme]};" for name, colours in PALETTE.items())
