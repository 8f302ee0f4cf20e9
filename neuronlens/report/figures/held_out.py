"""Ranges and salient sets on samples that nothing was fitted on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neuronlens.measures import naming
from neuronlens.measures.heldout import FITTED_BY, purity_by_chance
from neuronlens.report.figures.grid import grid, titled
from neuronlens.report.palette import INTERVAL_COLOUR, RANGE_COLOUR, all_shortened

SHOWN_PANELS = 4


def firing_rates(diagnostics: pd.DataFrame) -> Figure:
    """Return, per concept, how often its ranges fire on held-out samples of it and of the rest, over its salient neurons.

    One panel per (site, ranking, range, tau); boxes span the quartiles over neurons, purity is the share of what fires
    that is the concept's, and the dash across it what it would be by chance: the concept's share of those samples.
    """
    panels = list(diagnostics.groupby(FITTED_BY, dropna=False, sort=False))[-SHOWN_PANELS:]
    figure = Figure(figsize=(11, 3.4 * len(panels)), layout="constrained")
    shown = (
        ("firing_concept", "on the concept", RANGE_COLOUR),
        ("firing_rest", "on the rest", "0.6"),
        ("purity", "purity", INTERVAL_COLOUR),
    )
    for axis, (key, panel) in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        concepts = list(dict.fromkeys(panel["concept"]))
        for place, (measure, label, colour) in enumerate(shown):
            values = [panel.loc[panel["concept"] == name, measure].dropna().to_numpy() for name in concepts]
            at = np.arange(len(concepts)) + 0.26 * (place - 1)
            boxes = axis.boxplot(
                values, positions=at, widths=0.22, patch_artist=True, showfliers=False, manage_ticks=False
            )
            for box in boxes["boxes"]:
                box.set(facecolor=colour, linewidth=0.5)
            axis.plot([], [], color=colour, linewidth=6, label=label)
        chance = [purity_by_chance(panel)[name] for name in concepts]
        right = np.arange(len(concepts)) + 0.26
        axis.hlines(chance, right - 0.13, right + 0.13, color="black", linewidth=1.6, label="purity by chance")
        axis.set_xticks(range(len(concepts)), all_shortened(concepts), rotation=30, ha="right", fontsize=7)
        axis.set(ylim=(-0.02, 1.02), ylabel="share of held-out samples inside")
        row = dict(zip(FITTED_BY, key, strict=True))
        axis.set_title(", ".join(naming.words(row, FITTED_BY)), fontsize=9, loc="left")
        axis.legend(fontsize=7, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def overlaps(overlap: pd.DataFrame) -> Figure:
    """Return heat maps of the Jaccard overlap of concepts' salient sets, one per (site, ranking)."""
    panels = list(overlap.groupby(["site", "saliency"], sort=False))
    places = grid(len(panels), 6.4, 5.6)
    figure = Figure(figsize=places.size, layout="constrained")
    axes = figure.subplots(places.rows, places.columns, squeeze=False).ravel()
    for axis in axes[len(places.kept) :]:
        axis.set_visible(False)
    for axis, number in zip(axes, places.kept, strict=False):
        (site, saliency), panel = panels[number]
        square = panel.pivot(index="concept", columns="other", values="jaccard")
        names = all_shortened(list(square.index))
        size = min(7.0, 260 / max(len(names), 1))
        image = axis.imshow(square.to_numpy(), vmin=0, vmax=1, cmap="viridis")
        axis.set_xticks(range(len(square)), names, rotation=90, fontsize=size)
        axis.set_yticks(range(len(square)), names, fontsize=size)
        apart = square.to_numpy()[~np.eye(len(square), dtype=bool)]
        mean = f"{np.nanmean(apart):.2f}" if np.isfinite(apart).any() else "-"
        axis.set_title(f"{site}, {saliency}: shared salient neurons (mean {mean})", fontsize=9)
        figure.colorbar(image, ax=axis, label="Jaccard overlap", shrink=0.8)
    titled(figure, places.note("panels", "overlap.parquet"))
    return figure
