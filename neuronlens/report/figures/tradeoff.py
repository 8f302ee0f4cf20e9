"""Erasure against collateral, a curve per method."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS, ERASED, METHOD, RESULTS, WHERE
from neuronlens.measures.declaration import leading
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import curves
from neuronlens.report.figures.colours import NEURON_COLOUR, RANGE_COLOURS, error_bars

WIDEST = 4
APART = leading(
    [knob for knob in METHOD if knob not in (*WHERE, *RESULTS.keys("share"), "edit")],
    *("gate", "range", "tau", "control", "saliency"),
)
"""What sets the curves of one panel apart, in the order of the legend."""


def tradeoff(rows: pd.DataFrame, bootstrap: Bootstrap) -> Figure:
    """Return erasure against collateral: a curve per method, a column per (layers, edit), a row per collateral measure.

    Points are means over concepts, bars their intervals over concepts; a curve grows with the dose, which is
    the number of neurons edited or, where that is fixed, the strength.
    """
    panels = list(curves(rows).groupby(["layers", "edit"], sort=True))
    columns = max(min(len(panels), WIDEST), 1)
    blocks = max(-(-len(panels) // columns), 1)
    figure = Figure(figsize=(max(5.0 * columns, 6), 7.2 * blocks), layout="constrained")
    axes = figure.subplots(len(DROPS) * blocks, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_visible(False)
    for place, ((layers, edit), panel) in enumerate(panels):
        block, column = divmod(place, columns)
        for line, measure in enumerate(DROPS):
            axis = axes[len(DROPS) * block + line, column]
            axis.set_visible(True)
            _panel(axis, panel, measure, bootstrap)
            if column == 0:
                axis.set_ylabel(f"{naming.measure(measure)}\n(cost to the others, lower is better)")
            if line == 0:
                axis.set_title(f"{edit.replace('_', ' ')}, layer {layers}")
                axis.legend(loc="upper left", fontsize=7)
            else:
                axis.set_xlabel(f"{naming.measure(ERASED)} (erasure, further right is more)")
    return figure


def _panel(axis: Axes, panel: pd.DataFrame, measure: str, bootstrap: Bootstrap) -> None:
    colours = itertools.cycle(RANGE_COLOURS)
    named = naming.setting_apart(panel)
    for key, method in panel.groupby(APART, dropna=False, sort=True):
        row = dict(zip(APART, key, strict=True))
        is_neuron = row["gate"] == "neuron" and pd.isna(row["control"])
        points = [
            [bootstrap.of_mean(point[name].to_numpy()) for name in (ERASED, measure)]
            for _, point in method.groupby("dose", sort=True)
        ]
        mean, low, high = np.moveaxis(np.asarray(points), -1, 0)  # each [point, axis]
        axis.errorbar(
            mean[:, 0],
            mean[:, 1],
            xerr=error_bars(mean[:, 0], low[:, 0], high[:, 0]),
            yerr=error_bars(mean[:, 1], low[:, 1], high[:, 1]),
            label=naming.curve(row, named),
            color=NEURON_COLOUR if is_neuron else next(colours),
            marker="s" if is_neuron else "o",
            linestyle="--" if is_neuron else "-",
            markersize=4,
            linewidth=1.6,
            elinewidth=0.6,
        )
    axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axis.grid(alpha=0.25)
