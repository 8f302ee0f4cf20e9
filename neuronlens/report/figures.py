"""The figures of a run, drawn from its files alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from neuronlens.measures.intervals import mean_interval
from neuronlens.measures.matched import curves, method_name
from neuronlens.records import BoolArray, FloatArray, ResultTable
from neuronlens.report.tables import COLLATERAL
from neuronlens.results.folder import RunFolder

NEURON_COLOUR = "#d55e00"  # Okabe and Ito's palette, told apart by colour-blind readers
RANGE_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#332288", "#cc79a7", "#999999")
SHOWN_CONCEPTS = 6
SHOWN_PANELS = 4
WIDEST = 4


@dataclass(frozen=True)
class Salient:
    """One concept's most salient neuron: its values on the fit split, its intervals and its Gaussian (mean, deviation)."""

    title: str
    name: str
    column: FloatArray
    member: BoolArray
    bounds: list[FloatArray]
    law: tuple[float, float]


def draw(folder: RunFolder, table: ResultTable, *, level: float, seed: int) -> list[Path]:
    """Draw every figure of a run as PNG and SVG, and return the paths of the PNGs.

    Args:
        level: of the intervals over concepts.
    """
    figures = {
        "tradeoff": tradeoff(table.rows, level=level, seed=seed),
        "neurons": neurons(folder),
        "qq": quantiles(folder),
    }
    diagnostics, overlap = folder.read_diagnostics()
    if len(diagnostics):
        figures["firing"] = firing_rates(diagnostics)
    if len(overlap):
        figures["overlap"] = overlaps(overlap)
    if len(table.methods) > 4:
        figures["methods"] = methods(table.methods)
    drawn = []
    # The same run draws the same bytes: no date, ids within the file from a salt of ours. Text stays text, to be edited.
    with rc_context({"svg.hashsalt": "neuronlens", "svg.fonttype": "none"}):
        for name, figure in figures.items():
            path = folder.figures / f"{name}.png"
            figure.savefig(path, dpi=150)
            figure.set_layout_engine("none")  # laid out once; the second file takes the same places
            figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
            drawn.append(path)
    return drawn


def tradeoff(rows: pd.DataFrame, *, level: float, seed: int) -> Figure:
    """Return erasure against collateral: a curve per method, a column per (layers, edit), a row per collateral measure.

    Points are means over concepts, bars their bootstrap intervals over concepts; a curve grows with the dose, which is
    the number of neurons edited or, where that is fixed, the strength.
    """
    panels = list(curves(rows).groupby(["layers", "edit"], sort=True))
    columns = max(min(len(panels), WIDEST), 1)
    blocks = max(-(-len(panels) // columns), 1)
    figure = Figure(figsize=(max(5.0 * columns, 6), 7.2 * blocks), layout="constrained")
    axes = figure.subplots(len(COLLATERAL) * blocks, columns, squeeze=False)
    for axis in axes.ravel():
        axis.set_visible(False)
    for place, ((layers, edit), panel) in enumerate(panels):
        block, column = divmod(place, columns)
        for line, (measure, spoken) in enumerate(COLLATERAL.items()):
            axis = axes[len(COLLATERAL) * block + line, column]
            axis.set_visible(True)
            _tradeoff_panel(axis, panel, measure, level, seed)
            if column == 0:
                axis.set_ylabel(f"complement {spoken} drop\n(cost to the others, lower is better)")
            if line == 0:
                axis.set_title(f"{edit.replace('_', ' ')}, layer {layers}")
                axis.legend(loc="upper left", fontsize=7)
            else:
                axis.set_xlabel("concept accuracy drop (erasure, further right is more)")
    return figure


def _tradeoff_panel(axis: Axes, panel: pd.DataFrame, measure: str, level: float, seed: int) -> None:
    colours = itertools.cycle(RANGE_COLOURS)
    apart = ["gate", "range", "tau", "control", "saliency", "strength", "n_neurons"]
    several = panel["saliency"].nunique() > 1
    for key, method in panel.groupby(apart, dropna=False, sort=True):
        gate, range_name, tau, control, saliency, strength, _ = key
        is_neuron = gate == "neuron" and pd.isna(control)
        named = pd.notna(range_name) and panel["range"].nunique() > 1
        label = f"{gate} mask" + f", {range_name}" * named + ("" if pd.isna(tau) else f", tau {tau:g}")
        label += ("" if pd.isna(control) else f" ({control})") + f", {saliency}" * (several and pd.notna(saliency))
        label += f", x {strength:g}" if pd.notna(strength) and strength != 1 else ""
        points = [
            [
                mean_interval(point[name].to_numpy(), level=level, resamples=500, seed=seed)
                for name in ("concept_accuracy_drop", measure)
            ]
            for _, point in method.groupby("dose", sort=True)
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


def _salient(folder: RunFolder) -> list[Salient]:
    """Return some concepts' most salient neuron at the last site run, with all that its panels show."""
    ranking, ranges, shown, described = folder.read_fitted()
    name = list(ranking)[-1] if ranking else ""
    site, entries = name.rpartition("/")[0], described["ranges"]
    own = [item for item in entries if item["site"] == site]
    if not name or not own:
        return []
    order = np.argsort(-ranking[name], axis=1, kind="stable")
    values, kept, labels = (shown[f"{site}/{part}"] for part in ("values", "neurons", "labels"))
    found = []
    for concept in _spread(len(described["concepts"]), SHOWN_CONCEPTS):
        neuron = int(order[concept, 0])
        column = values[:, np.flatnonzero(kept == neuron)[0]]
        bounds = [ranges[f"{own[-1]['name']}/{end}"][concept, :, neuron] for end in ("lower", "upper")]
        law = ranges[f"{site}/mean"][concept, neuron], float(np.sqrt(ranges[f"{site}/variance"][concept, neuron]))
        title = f"{described['concepts'][concept]}: neuron {neuron}"
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
    """Return, for some concepts' most salient neuron at the last site run, what it says for whom.

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
        salient, "Q-Q: a concept's values against its fitted Gaussian; on the line where the law holds"
    )
    for axis, entry in zip(axes, salient, strict=False):
        values = np.sort(entry.column[entry.member])
        if len(values):
            expected = entry.law[0] + entry.law[1] * norm.ppf((np.arange(len(values)) + 0.5) / len(values))
            axis.plot(expected, values, "o", markersize=2.5, color=RANGE_COLOURS[1])
            ends = [float(min(expected[0], values[0])), float(max(expected[-1], values[-1]))]
            axis.plot(ends, ends, color="0.5", linewidth=0.8)
        axis.set_xlabel("Gaussian quantile", fontsize=8)
        axis.set_ylabel("activation", fontsize=8)
    return figure


def firing_rates(diagnostics: pd.DataFrame) -> Figure:
    """Return, per concept, how often its ranges fire on held-out samples of it and of the rest, over its salient neurons.

    One panel per (site, ranking, range, tau); boxes span the quartiles over neurons, purity is the share of what fires
    that is the concept's.
    """
    knobs = ["site", "saliency", "range", "tau"]
    panels = list(diagnostics.groupby(knobs, dropna=False, sort=False))[-SHOWN_PANELS:]
    figure = Figure(figsize=(11, 3.4 * len(panels)), layout="constrained")
    shown = (
        ("firing_concept", "on the concept", RANGE_COLOURS[1]),
        ("firing_rest", "on the rest", "0.6"),
        ("purity", "purity", "#009e73"),
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
        axis.set_xticks(range(len(concepts)), concepts, rotation=30, ha="right", fontsize=7)
        axis.set(ylim=(-0.02, 1.02), ylabel="share of held-out samples inside")
        named = [f"tau {value:g}" if isinstance(value, float) else str(value) for value in key if pd.notna(value)]
        axis.set_title(", ".join(named), fontsize=9, loc="left")
        axis.legend(fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def overlaps(overlap: pd.DataFrame) -> Figure:
    """Return heat maps of the Jaccard overlap of concepts' salient sets, one per (site, ranking)."""
    panels = list(overlap.groupby(["site", "saliency"], sort=False))
    figure = Figure(figsize=(6.4 * len(panels), 5.6), layout="constrained")
    for axis, ((site, saliency), panel) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        square = panel.pivot(index="concept", columns="other", values="jaccard")
        image = axis.imshow(square.to_numpy(), vmin=0, vmax=1, cmap="viridis")
        axis.set_xticks(range(len(square)), square.columns, rotation=90, fontsize=7)
        axis.set_yticks(range(len(square)), square.index, fontsize=7)
        apart = square.to_numpy()[~np.eye(len(square), dtype=bool)]
        mean = f"{np.nanmean(apart):.2f}" if np.isfinite(apart).any() else "-"
        axis.set_title(f"{site}, {saliency}: shared salient neurons (mean {mean})", fontsize=9)
        figure.colorbar(image, ax=axis, label="Jaccard overlap", shrink=0.8)
    return figure


def methods(table: pd.DataFrame) -> Figure:
    """Return every method's confidence cost at matched erasure with its interval, best first, a panel per (place, level)."""
    panels = list(table.groupby(["layers", "site", "level"], sort=False))
    tallest = max(len(panel) for _, panel in panels)
    figure = Figure(figsize=(5.6 * len(panels), 1.4 + 0.22 * tallest), layout="constrained")
    for axis, ((layers, site, level), panel) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        shown = panel[panel["reached_range"] > 0].iloc[::-1]
        measure, places = "complement_confidence_drop", np.arange(len(shown))
        mean = shown[measure].to_numpy(dtype=float)
        ends = [
            mean - shown[f"{measure}_own_low"].to_numpy(dtype=float),
            shown[f"{measure}_own_high"].to_numpy(dtype=float) - mean,
        ]
        colours = [NEURON_COLOUR if gate == "neuron" else RANGE_COLOURS[1] for gate in shown["gate"]]
        axis.barh(places, mean, xerr=np.maximum(ends, 0), color=colours, error_kw={"elinewidth": 0.7})
        labels = [f"{method_name(row)} ({row['reached_range']}/{row['concepts']})" for row in shown.to_dict("records")]
        axis.set_yticks(places, labels, fontsize=6)
        axis.set_title(f"{site}.{layers}, {level:.0%} erased", fontsize=9)
        axis.set_xlabel("complement confidence drop (lower is better)", fontsize=8)
    return figure


def _spread(count: int, wanted: int) -> Sequence[int]:
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, wanted)).round())]


def _neuron_panel(axis: Axes, entry: Salient) -> None:
    edges = np.linspace(entry.column.min(), entry.column.max() + 1e-9, 41).tolist()
    for chosen, colour, alpha, label in (
        (~entry.member, "0.7", 1.0, "other concepts"),
        (entry.member, "#0072b2", 0.6, "the concept"),
    ):
        if chosen.any():
            axis.hist(entry.column[chosen], edges, density=True, color=colour, alpha=alpha, label=label)
    mean, std = entry.law
    if std > 0:
        grid = np.linspace(edges[0], edges[-1], 300)
        axis.plot(grid, norm.pdf(grid, mean, std), color="black", linewidth=1.2, label="fitted Gaussian")
    for number, (low, high) in enumerate(zip(*entry.bounds, strict=True)):
        if low <= high:
            span = "the concept's range" if number == 0 else None
            axis.axvspan(max(low, edges[0]), min(high, edges[-1]), color="#009e73", alpha=0.15, label=span, linewidth=0)
    axis.set_xlabel("activation", fontsize=8)
    axis.set_ylabel("density", fontsize=8)
