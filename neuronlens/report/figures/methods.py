"""Every method's cost at matched erasure, and the range masks' over layers and tau."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neuronlens.measures import naming
from neuronlens.measures.columns import COST
from neuronlens.measures.comparison import plain_mask
from neuronlens.report.figures.error_bars import error_bars
from neuronlens.report.figures.grid import grid, titled
from neuronlens.report.palette import key_of, shortened, styles
from neuronlens.report.tables.methods import AT

MOST_BARS = 24
"""Methods of one panel: the best, and the plain neuron mask."""


def methods(table: pd.DataFrame, tau: float | None = None) -> Figure:
    """Return every method's confidence cost at matched erasure with its interval, best first, a panel per (place, level).

    A panel without a method that gets there is left out; methods that never do are named under their panel.

    Args:
        tau: the configured one, whose range mask has the range's own colour.
    """
    known = styles(table, tau)
    best = (table.groupby(AT, sort=False).cumcount() < MOST_BARS) | plain_mask(table)
    panels = [(key, panel) for key, panel in table[best].groupby(AT, sort=False) if panel["reached_range"].any()]
    tallest = max((int((panel["reached_range"] > 0).sum()) for _, panel in panels), default=1)
    places = grid(len(panels), 5.6, 1.6 + 0.22 * tallest)
    figure = Figure(figsize=places.size, layout="constrained")
    axes = figure.subplots(places.rows, places.columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_visible(False)
    for axis, number in zip(axes, places.kept if panels else (), strict=False):
        (layers, site, level), panel = panels[number]
        axis.set_visible(True)
        shown = panel[panel["reached_range"] > 0].iloc[::-1]
        lines = np.arange(len(shown))
        ends = (COST, f"{COST}_own_low", f"{COST}_own_high")
        mean, low, high = (shown[name].to_numpy(dtype=float) for name in ends)
        named = [known[key_of(row)] for row in shown.to_dict("records")]
        axis.barh(
            lines,
            mean,
            xerr=error_bars(mean, low, high),
            color=[style.colour for style in named],
            error_kw={"elinewidth": 0.7},
        )
        counts = shown[["reached_range", "concepts"]].itertuples(index=False, name=None)
        labels = [f"{shortened(s.name, 44)} ({own}/{of})" for s, (own, of) in zip(named, counts, strict=True)]
        axis.set_yticks(lines, labels, fontsize=6)
        axis.set_title(f"{naming.place({'site': site, 'layers': layers})}, {naming.erased(level)}", fontsize=9)
        never = len(panel) - len(shown)
        more = (
            f"\n{never} method{'s' if never > 1 else ''} never erase{'' if never > 1 else 's'} as much" if never else ""
        )
        axis.set_xlabel(f"{naming.measure(COST)} (lower is better){more}", fontsize=8)
    titled(figure, places.note("panels", "methods.parquet"))
    return figure


def layers_by_tau(table: pd.DataFrame) -> Figure | None:
    """Return heat maps of what range masks cost over layers and tau, a panel per level; None below two of either.

    Shown are the usual edit, ranking and range (zero, max, gaussian), or the first by the alphabet; a square is empty where no
    concept is erased as much.
    """
    ranged = table[(table["gate"] == "range") & table["control"].isna()]
    for knob, usual in (
        ("edit", "zero"),
        ("saliency", "max"),
        ("range", "gaussian"),
        ("strength", 1.0),
        ("site", None),
    ):
        swept = sorted(
            ranged[knob].dropna().unique()
        )  # methods come best first: the choice does not rest on their order
        if swept:
            ranged = ranged[ranged[knob] == (usual if usual in swept else swept[0])]
    if ranged["layers"].nunique() < 2 or ranged["tau"].nunique() < 2:
        return None
    order = sorted(ranged["layers"].unique(), key=lambda name: (len(name), name))
    panels = [
        (level, panel.pivot_table(index="tau", columns="layers", values=COST, dropna=False).reindex(columns=order))
        for level, panel in ranged.groupby("level")
        if panel["reached_range"].any()
    ]
    places = grid(len(panels), max(4.5, 1.5 + 0.34 * len(order)), 1.8 + 0.34 * ranged["tau"].nunique())
    figure = Figure(figsize=places.size, layout="constrained")
    axes = figure.subplots(places.rows, places.columns, squeeze=False).ravel()
    for axis in axes[len(places.kept) :]:
        axis.set_visible(False)
    for axis, number in zip(axes, places.kept if panels else (), strict=False):
        level, square = panels[number]
        image = axis.imshow(square.to_numpy(dtype=float), cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(order)), order, fontsize=7)
        axis.set_yticks(range(len(square)), [f"tau {naming.value(tau)}" for tau in square.index], fontsize=7)
        axis.set(xlabel="layer", title=naming.erased(level))
        figure.colorbar(image, ax=axis, label=naming.measure(COST))
    first = ranged.iloc[0]
    titled(figure, f"What range masks cost the others: {naming.edit(first.to_dict(), ['range', 'saliency'])}")
    return figure
