"""The most salient neurons of some concepts: their values, the Gaussian fitted to them, and the range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from neuronlens.records import BoolArray, FloatArray
from neuronlens.report.palette import CONCEPT_COLOUR, INTERVAL_COLOUR, RANGE_COLOUR, shortened
from neuronlens.results.fitted import rankings_of
from neuronlens.results.folder import RunFolder

SHOWN_CONCEPTS = 6
TAILS = 3.5
"""Standard deviations of a fitted Gaussian that are drawn on either side, so that its curve ends on the axis."""


@dataclass(frozen=True)
class Salient:
    """One concept's most salient neuron: its values on the fit split, its intervals and its Gaussian (mean, deviation)."""

    title: str
    name: str
    column: FloatArray
    member: BoolArray
    bounds: list[FloatArray]
    law: tuple[float, float]


def _salient(folder: RunFolder) -> list[Salient]:
    """Return some concepts' most salient neuron at the last site run, with all that its panels show."""
    files = folder.read_fitted()
    ranking, ranges, shown, described = files
    site, _, name = list(ranking)[-1].rpartition("/") if ranking else ("", "", "")
    own = [item for item in described["ranges"] if item["site"] == site]
    if not name or not own:
        return []
    order = rankings_of(files, site)[name].order
    values, kept, labels = (shown[f"{site}/{part}"] for part in ("values", "neurons", "labels"))
    found = []
    for concept in _spread(len(described["concepts"]), SHOWN_CONCEPTS):
        neuron = int(order[concept, 0])
        column = values[:, np.flatnonzero(kept == neuron)[0]]
        bounds = [ranges[f"{own[-1]['name']}/{end}"][concept, :, neuron] for end in ("lower", "upper")]
        law = ranges[f"{site}/mean"][concept, neuron], float(np.sqrt(ranges[f"{site}/variance"][concept, neuron]))
        title = f"{shortened(described['concepts'][concept])}: neuron {neuron}"
        found.append(Salient(title, own[-1]["name"], column, labels == concept, bounds, law))
    return found


def _panels(salient: list[Salient], title: str) -> tuple[Figure, list[Axes]]:
    lines = max(-(-len(salient) // 3), 1)
    figure = Figure(figsize=(11, 3.1 * lines), layout="constrained")
    axes = list(figure.subplots(lines, max(min(3, len(salient)), 1), squeeze=False).ravel())
    for axis, entry in zip(axes, salient, strict=False):
        axis.set_title(entry.title, fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(salient) :]:
        axis.set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure, axes


def neurons(folder: RunFolder) -> Figure:
    """Return, for some concepts' most salient neuron at the last site run, the values it takes for whom.

    Each panel shows the neuron's values for the concept and for the rest, the fitted Gaussian, and the range shaded.
    """
    salient = _salient(folder)
    name = salient[0].name if salient else "nothing fitted"
    figure, axes = _panels(salient, f"Most salient neuron of {len(salient)} concepts on the fit split; range {name}")
    for axis, entry in zip(axes, salient, strict=False):
        _neuron_panel(axis, entry)
    if salient:
        axes[0].legend(fontsize=7, frameon=True)
    return figure


def quantiles(folder: RunFolder) -> Figure:
    """Return Q-Q plots of the same neurons: the concept's sorted values against the fitted Gaussian's quantiles."""
    salient = _salient(folder)
    figure, axes = _panels(
        salient, "Q-Q: a concept's values against its fitted Gaussian; on the line where the Gaussian holds"
    )
    for axis, entry in zip(axes, salient, strict=False):
        values = np.sort(entry.column[entry.member])
        if len(values):
            expected = entry.law[0] + entry.law[1] * norm.ppf((np.arange(len(values)) + 0.5) / len(values))
            axis.plot(expected, values, "o", markersize=2.5, color=RANGE_COLOUR)
            ends = [float(min(expected[0], values[0])), float(max(expected[-1], values[-1]))]
            axis.plot(ends, ends, color="0.5", linewidth=0.8)
        axis.set_xlabel("Gaussian quantile", fontsize=8)
        axis.set_ylabel("activation", fontsize=8)
    return figure


def _spread(count: int, wanted: int) -> Sequence[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, wanted)).round())]


def _neuron_panel(axis: Axes, entry: Salient) -> None:
    edges = np.linspace(entry.column.min(), entry.column.max() + 1e-9, 41).tolist()
    for chosen, colour, alpha, label in (
        (~entry.member, "0.7", 1.0, "other concepts"),
        (entry.member, CONCEPT_COLOUR, 0.6, "the concept"),
    ):
        if chosen.any():
            axis.hist(entry.column[chosen], edges, density=True, color=colour, alpha=alpha, label=label)
    mean, std = entry.law
    if std > 0:
        grid = np.linspace(min(edges[0], mean - TAILS * std), max(edges[-1], mean + TAILS * std), 300)
        axis.plot(grid, norm.pdf(grid, mean, std), color="black", linewidth=1.2, label="fitted Gaussian")
    left, right = axis.get_xlim()
    for number, (low, high) in enumerate(zip(*entry.bounds, strict=True)):
        if low <= high:
            span = "the concept's range" if number == 0 else None
            axis.axvspan(max(low, left), min(high, right), color=INTERVAL_COLOUR, alpha=0.15, label=span, linewidth=0)
    axis.set_xlim(left, right)
    axis.set_xlabel("activation", fontsize=8)
    axis.set_ylabel("density", fontsize=8)
