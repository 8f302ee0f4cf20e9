"""Every method's cost at matched erasure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neuronlens.measures import naming
from neuronlens.measures.columns import COST
from neuronlens.report.figures.colours import NEURON_COLOUR, RANGE_COLOURS, error_bars
from neuronlens.report.tables.methods import AT


def methods(table: pd.DataFrame) -> Figure:
    """Return every method's confidence cost at matched erasure with its interval, best first, a panel per (place, level)."""
    panels = list(table.groupby(AT, sort=False))
    tallest = max(len(panel) for _, panel in panels)
    figure = Figure(figsize=(5.6 * len(panels), 1.4 + 0.22 * tallest), layout="constrained")
    for axis, ((layers, site, level), panel) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        shown = panel[panel["reached_range"] > 0].iloc[::-1]
        places, ends = np.arange(len(shown)), (COST, f"{COST}_own_low", f"{COST}_own_high")
        mean, low, high = (shown[name].to_numpy(dtype=float) for name in ends)
        colours = [NEURON_COLOUR if gate == "neuron" else RANGE_COLOURS[1] for gate in shown["gate"]]
        axis.barh(places, mean, xerr=error_bars(mean, low, high), color=colours, error_kw={"elinewidth": 0.7})
        named = naming.setting_apart(shown)
        labels = [
            f"{naming.method(row, named)} ({row['reached_range']}/{row['concepts']})"
            for row in shown.to_dict("records")
        ]
        axis.set_yticks(places, labels, fontsize=6)
        axis.set_title(f"{naming.place({'site': site, 'layers': layers})}, {naming.erased(level)}", fontsize=9)
        axis.set_xlabel(f"{naming.measure(COST)} (lower is better)", fontsize=8)
    return figure
