"""The figures of a run, drawn from its files alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuronlens.evaluation.statistics import mean_interval
from neuronlens.records import FloatArray, ResultTable
from neuronlens.report.tables import COLLATERAL
from neuronlens.results import RunFolder

NEURON_COLOUR = "#d55e00"  # Okabe and Ito's palette, told apart by colour-blind readers
RANGE_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#332288", "#cc79a7", "#999999")
SHOWN_CONCEPTS = 6


def draw(folder: RunFolder, table: ResultTable, *, level: float, seed: int) -> list[Path]:
    """Draw every figure of a run and return their paths.

    Args:
        level: of the intervals over concepts.
    """
    drawn = []
    for name, figure in (
        ("tradeoff", tradeoff(table.rows, level=level, seed=seed)),
        ("neurons", neurons(folder)),
    ):
        path = folder.figures / f"{name}.png"
        figure.savefig(path, dpi=150)
        drawn.append(path)
    return drawn


def tradeoff(rows: pd.DataFrame, *, level: float, seed: int) -> Figure:
    """Return erasure against collateral: a curve per method, a column per (layer, edit), a row per collateral measure.

    Points are means over concepts, bars their bootstrap intervals over concepts; a curve grows with the dose, which is
    the number of neurons edited or, where that is fixed, the strength.
    """
    edited = rows[(rows["edit"] != "none") & rows["skipped"].isna()]
    panels = list(edited.groupby(["layer", "edit"], sort=True))
    columns = max(len(panels), 1)
    figure = Figure(figsize=(5.0 * columns, 7.2), layout="constrained")
    axes = figure.subplots(len(COLLATERAL), columns, squeeze=False, sharex="col", sharey="row")
    for measure, spoken, line in zip(COLLATERAL, COLLATERAL.values(), axes, strict=True):
        for axis, ((layer, edit), panel) in zip(line, panels, strict=False):
            _tradeoff_panel(axis, panel, measure, level, seed)
            if axis is axes[0][list(line).index(axis)]:
                axis.set_title(f"{edit.replace('_', ' ')}, layer {layer}")
        line[0].set_ylabel(f"complement {spoken} drop\n(cost to the others, lower is better)")
    for axis in axes[-1]:
        axis.set_xlabel("concept accuracy drop (erasure, further right is more)")
    if panels:
        axes[0][0].legend(loc="upper left", fontsize=8)
    return figure


def _tradeoff_panel(axis: Axes, panel: pd.DataFrame, measure: str, level: float, seed: int) -> None:
    colours = itertools.cycle(RANGE_COLOURS)
    for (gate, tau), method in panel.groupby(["gate", "tau"], dropna=False, sort=True):
        is_neuron = gate == "neuron"
        label = f"{gate} mask" + ("" if pd.isna(tau) else f", tau {tau:g}")
        points = [
            [
                mean_interval(point[name].to_numpy(), level=level, resamples=500, seed=seed)
                for name in ("concept_accuracy_drop", measure)
            ]
            for _, point in method.groupby(["strength", "n_neurons"], sort=True)
        ]
        mean, low, high = np.moveaxis(np.asarray(points), -1, 0)  # each [point, axis]
        axis.errorbar(
            mean[:, 0],
            mean[:, 1],
            xerr=[mean[:, 0] - low[:, 0], high[:, 0] - mean[:, 0]],
            yerr=[mean[:, 1] - low[:, 1], high[:, 1] - mean[:, 1]],
            label=label,
            color=NEURON_COLOUR if is_neuron else next(colours),
            marker="s" if is_neuron else "o",
            linestyle="--" if is_neuron else "-",
            markersize=4,
            linewidth=1.6,
            elinewidth=0.6,
        )
    axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axis.grid(alpha=0.25)


def neurons(folder: RunFolder) -> Figure:
    """Return, for some concepts' most salient neuron at the last layer run, what it says for whom.

    Each panel shows the neuron's values for the concept and for the rest, the fitted Gaussian, and the range shaded.
    """
    ranking, ranges, shown, described = folder.read_fitted()
    site = list(ranking)[-1]
    concepts = described["concepts"]
    entry = [item for item in described["ranges"] if item["name"].startswith(f"{site}/")][-1]
    order = np.argsort(-ranking[site], axis=1, kind="stable")
    picked = _spread(len(concepts), SHOWN_CONCEPTS)
    figure = Figure(figsize=(11, 3.1 * -(-len(picked) // 3)), layout="constrained")
    axes = figure.subplots(-(-len(picked) // 3), min(3, len(picked)), squeeze=False).ravel()
    values, kept, labels = shown[f"{site}/values"], shown[f"{site}/neurons"], shown[f"{site}/labels"]
    for axis, concept in zip(axes, picked, strict=False):
        neuron = int(order[concept, 0])
        column = values[:, np.flatnonzero(kept == neuron)[0]]
        bounds = [(ranges[f"{entry['name']}/{end}"][concept, :, neuron]) for end in ("lower", "upper")]
        law = (ranges[f"{site}/mean"][concept, neuron], np.sqrt(ranges[f"{site}/variance"][concept, neuron]))
        _neuron_panel(axis, column, labels == concept, bounds, law)
        axis.set_title(f"{concepts[concept]}: neuron {neuron}", fontsize=9)
    for axis in axes[len(picked) :]:
        axis.set_visible(False)
    axes[0].legend(fontsize=7, frameon=True)
    width = "" if entry["tau"] is None else f", range at tau {entry['tau']:g}"
    figure.suptitle(
        f"Most salient neuron of {len(picked)} concepts at {site}: values on the fit split{width}", fontsize=10
    )
    return figure


def _spread(count: int, wanted: int) -> Sequence[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, wanted)).round())]


def _neuron_panel(
    axis: Axes, column: FloatArray, member: Any, bounds: list[FloatArray], law: tuple[float, float]
) -> None:
    edges = np.linspace(column.min(), column.max() + 1e-9, 41).tolist()
    for chosen, colour, alpha, label in (
        (~member, "0.7", 1.0, "other concepts"),
        (member, "#0072b2", 0.6, "the concept"),
    ):
        if chosen.any():
            axis.hist(column[chosen], edges, density=True, color=colour, alpha=alpha, label=label)
    mean, std = law
    if std > 0:
        grid = np.linspace(edges[0], edges[-1], 300)
        density = np.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
        axis.plot(grid, density, color="black", linewidth=1.2, label="fitted Gaussian")
    for number, (low, high) in enumerate(zip(*bounds, strict=True)):
        if low <= high:
            span = "the concept's range" if number == 0 else None
            axis.axvspan(max(low, edges[0]), min(high, edges[-1]), color="#009e73", alpha=0.15, label=span, linewidth=0)
    axis.set_xlabel("activation", fontsize=8)
    axis.set_ylabel("density", fontsize=8)
    axis.tick_params(labelsize=7)
