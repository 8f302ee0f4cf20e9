"""Share erased against collateral, a curve per method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS, METHOD, RESULTS, WHERE
from neuronlens.measures.declaration import leading
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import curves, share_erased
from neuronlens.report.figures.error_bars import error_bars
from neuronlens.report.figures.grid import grid, titled
from neuronlens.report.palette import NEURON_COLOUR, Key, Style, key_of, shortened, styles

APART = leading(
    [knob for knob in METHOD if knob not in (*WHERE, *RESULTS.keys("share"), "edit")],
    *("gate", "range", "tau", "control", "saliency"),
)
"""What sets the curves of one panel apart, in the order of the legend."""
MOST_IN_LEGEND = 12
AXIS = "share of the concept's accuracy erased"


def tradeoff(rows: pd.DataFrame, bootstrap: Bootstrap, tau: float | None = None) -> Figure:
    """Return the share erased against collateral: a curve per method, a panel per (layers, edit, collateral measure).

    Points are means over the concepts that the unedited model knows, bars their intervals over concepts; a curve grows
    with the dose, which is the number of neurons edited or, where that is fixed, the strength.

    Args:
        tau: the configured one, whose range mask has the range's own colour.
    """
    swept = curves(rows).assign(share=lambda found: share_erased(found)).dropna(subset="share")
    known = styles(swept, tau) if len(swept) else {}
    panels = list(swept.groupby(["layers", "edit"], sort=True))
    places = grid(len(panels), 5.0, 7.2)
    figure = Figure(figsize=places.size, layout="constrained")
    axes = figure.subplots(len(DROPS) * places.rows, places.columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_visible(False)
    for place, number in enumerate(places.kept if panels else ()):
        (layers, edit), panel = panels[number]
        block, column = divmod(place, places.columns)
        for line, measure in enumerate(DROPS):
            axis = axes[len(DROPS) * block + line, column]
            axis.set_visible(True)
            _panel(axis, panel, measure, bootstrap, known)
            if column == 0:
                axis.set_ylabel(f"{naming.measure(measure)}\n(cost to the others, lower is better)")
            if line == 0:
                axis.set_title(f"{edit.replace('_', ' ')}, layer {layers}")
                axis.legend(loc="upper left", fontsize=7)
            else:
                axis.set_xlabel(AXIS)
    titled(figure, places.note("panels", "results.parquet"))
    return figure


def _panel(axis: Axes, panel: pd.DataFrame, measure: str, bootstrap: Bootstrap, known: dict[Key, Style]) -> None:
    drawn = list(panel.groupby(APART, dropna=False, sort=True))
    for place, (_, method) in enumerate(drawn):
        style = known[key_of(method.iloc[0].to_dict())]
        is_neuron = style.colour == NEURON_COLOUR
        points = [
            [bootstrap.of_mean(point[name].to_numpy()) for name in ("share", measure)]
            for _, point in method.groupby("dose", sort=True)
        ]
        mean, low, high = np.moveaxis(np.asarray(points), -1, 0)  # each [point, axis]
        axis.errorbar(
            mean[:, 0],
            mean[:, 1],
            xerr=error_bars(mean[:, 0], low[:, 0], high[:, 0]),
            yerr=error_bars(mean[:, 1], low[:, 1], high[:, 1]),
            label=shortened(style.name, 48) if place < MOST_IN_LEGEND else None,
            color=style.colour,
            marker="s" if is_neuron else "o",
            linestyle="--" if is_neuron else "-",
            markersize=4,
            linewidth=1.6,
            elinewidth=0.6,
        )
    if len(drawn) > MOST_IN_LEGEND:
        axis.plot([], [], " ", label=f"and {len(drawn) - MOST_IN_LEGEND} more")
    axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axis.grid(alpha=0.25)
