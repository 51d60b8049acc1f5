"""The plots of a comparison: those of each scenario, and those over all scenarios."""

from pathlib import Path
from typing import Final

from sim.report.analysis.results import PROTOCOLS, Results
from sim.report.plots.forest import gap_forest, oracle_forest, variant_forest
from sim.report.plots.heatmap import gap_maps
from sim.report.plots.lines import ages_plot, regret_plot, stream_plot, variants_plot
from sim.report.plots.svg import Plot

FEW: Final = 8  # scenarios; with more, curves have 20 points instead of 50, so that the page stays small


def scenario_plots(results: Results, scenario: str) -> list[Plot]:
    """Return the plots of one scenario for which there is data."""
    points = 50 if len(results.scenarios) <= FEW else 20
    found = (
        stream_plot(results, scenario, points),
        regret_plot(results, scenario),
        ages_plot(results, scenario),
        variants_plot(results, scenario),
    )
    return [plot for plot in found if plot is not None]


def overall_plots(results: Results, against: str = "softmax") -> list[Plot]:
    """Return the forest plots over all scenarios for which there is data; maps come from `gap_maps`."""
    forests = [forest for protocol in PROTOCOLS for forest in gap_forest(results, protocol, against)]
    return [*forests, *variant_forest(results, against), *oracle_forest(results)]


def save(results: Results, target: Path, against: str = "softmax") -> list[Path]:
    """Write every plot as an .svg file of its own into `target`; return their paths."""
    target.mkdir(parents=True, exist_ok=True)
    found = [*gap_maps(results, against), *overall_plots(results, against)]
    for scenario in results.scenarios:
        found += scenario_plots(results, scenario)
    paths = []
    for plot in found:
        paths.append(target / f"{plot.name}.svg")
        paths[-1].write_text(plot.standalone, encoding="utf-8")
    return paths
