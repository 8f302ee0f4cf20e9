"""Ablations: the width tau, the fraction of neurons, the replacement and the layer, one knob at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

import neuronlens as nl
from experiments.means import IDENTITY, compared, masks, mean_columns, means_caption, per_layer
from experiments.runner import Experiment, Runs, main

MEASURES = ("concept_accuracy_drop", "complement_accuracy_drop", "complement_confidence_drop")
HEADINGS = tuple(nl.RESULTS[name].published for name in MEASURES)
TOP_FRACTION, TAU = 0.3, 2.5
COLOURS = {"neuron": "#d55e00", "range": "#0072b2"}


def tables(runs: Runs) -> list[nl.Table]:
    """Return a table per knob."""
    tau, fraction, replacement = (frame(runs) for frame in (_taus, _fractions, _replacements))
    knob = {"tau": "g", "top_fraction": ".0%", "edit": ""}
    heading = {"top_fraction": "top"}
    means = means_caption(runs.bootstrap("ablations"))

    def table(name: str, frame: pd.DataFrame, title: str, fixed: str, first: tuple[str, ...]) -> nl.Table:
        shown = [nl.Column(one, heading.get(one, one), "", knob.get(one, "")) for one in first]
        shown += [
            nl.Column(one, short, "", "+.3f", interval=True) for one, short in zip(MEASURES, HEADINGS, strict=True)
        ]
        return nl.Table(name, title, f"{means} {fixed}.", frame, (*IDENTITY, *shown), ("model", "dataset", "layer"))

    return [
        table("ablation_tau", tau, "Width of the range", "Top 30 % of the neurons, range mask", ("edit", "tau")),
        table("ablation_fraction", fraction, "Fraction of the neurons", "Tau 2.5", ("edit", "mask", "top_fraction")),
        table("ablation_replacement", replacement, "Replacement", "Top 30 % of the neurons, tau 2.5", ("edit", "mask")),
        _layers(runs),
    ]


def _means(cells: pd.DataFrame, bootstrap: nl.Bootstrap) -> dict[str, float]:
    row: dict[str, float] = {"concepts": len(cells)}
    for name in MEASURES:
        row |= mean_columns(name, cells[name].to_numpy(), bootstrap)
    return row


def _swept(runs: Runs, knobs: list[str], chosen: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """Return a row per value of the knobs among the chosen cells."""
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("ablations")
    for identity, cells, _ in per_layer(runs, "ablations"):
        own = chosen(cells.assign(mask=cells["gate"]))
        for key, group in own.groupby(knobs, sort=True):
            if not group["concept"].is_unique:
                raise ValueError(f"{key} names several cells of a concept.")
            rows.append(identity | dict(zip(knobs, key, strict=True)) | _means(group, bootstrap))
    return pd.DataFrame(rows)


def _taus(runs: Runs) -> pd.DataFrame:
    return _swept(
        runs,
        ["edit", "tau"],
        lambda cells: cells[
            (cells["gate"] == "range")
            & (cells["top_fraction"] == TOP_FRACTION)
            & cells["edit"].isin(["zero", "complement_mean"])
        ].drop_duplicates(["edit", "tau", "concept"]),
    )


def _fractions(runs: Runs) -> pd.DataFrame:
    return _swept(
        runs,
        ["edit", "mask", "top_fraction"],
        lambda cells: cells[
            (cells["tau"].isna() | (cells["tau"] == TAU)) & cells["edit"].isin(["zero", "complement_mean"])
        ].drop_duplicates(["edit", "mask", "top_fraction", "concept"]),
    )


def _replacements(runs: Runs) -> pd.DataFrame:
    return _swept(
        runs,
        ["edit", "mask"],
        lambda cells: cells[
            (cells["tau"].isna() | (cells["tau"] == TAU)) & (cells["top_fraction"] == TOP_FRACTION)
        ].drop_duplicates(["edit", "mask", "concept"]),
    )


def _layers(runs: Runs) -> nl.Table:
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("ablation_layers")
    for identity, cells, _ in per_layer(runs, "ablation_layers"):
        for edit in ("zero", "complement_mean"):
            found = masks(cells, edit=edit, top_fraction=TOP_FRACTION, tau=TAU)
            sizes = {"samples": int(cells[["n_concept", "n_complement"]].iloc[0].sum())}
            rows.append(
                identity | {"edit": edit} | sizes | compared(found["neuron"], found["range"], MEASURES, bootstrap)
            )
    shown = []
    for name, short in zip(MEASURES, HEADINGS, strict=True):
        shown += [nl.Column(f"{gate}_{name}", gate, short, "+.3f") for gate in ("neuron", "range")]
        shown.append(nl.Column(f"difference_{name}", "range - neuron", short, "+.3f", interval=True))
    columns = (*IDENTITY, nl.Column("edit", "edit"), nl.Column("samples", "samples", "", "d"), *shown)
    caption = (
        f"{means_caption(bootstrap)} Top 30 % of the neurons, tau 2.5. Ranges are fitted on the mean over the tokens read "
        "above a layer and every such token is edited; below the last layer fewer texts are swept."
    )
    frame = pd.DataFrame(rows)
    return nl.Table("ablation_layer", "Layer", caption, frame, columns, ("model", "dataset", "layer"))


def figures(runs: Runs) -> dict[str, Figure]:
    """Return the drops over tau, over the fraction and over the layer, a row per model and dataset."""
    return {
        "ablation_tau": _curves(_taus(runs).assign(mask="range"), "tau", "tau (width of the range, deviations)"),
        "ablation_fraction": _curves(_fractions(runs), "top_fraction", "share of the neurons edited"),
        "ablation_layer": _curves(_long(_layers(runs).frame), "layer", "layer"),
    }


def _long(layers: pd.DataFrame) -> pd.DataFrame:
    """Return the layer table with a row per mask, under the names that curves are drawn by."""
    parts = []
    for gate in COLOURS:
        names = {f"{gate}_{name}{end}": f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")}
        parts.append(layers[["model", "dataset", "layer", "edit", *names]].rename(columns=names).assign(mask=gate))
    return pd.concat(parts).assign(layer=lambda table: table["layer"].astype(int)).sort_values("layer")


def _curves(frame: pd.DataFrame, knob: str, label: str) -> Figure:
    """Return the drops over a knob; an infinite value stands at the right end, marked as such."""
    widest = frame.loc[frame[knob] != float("inf"), knob].max()
    frame = frame.assign(place=frame[knob].replace(float("inf"), 1.5 * widest))
    settings = list(frame.groupby(["model", "dataset"], sort=False))
    figure = Figure(figsize=(11, 3.1 * len(settings)), layout="constrained")
    axes = figure.subplots(len(settings), len(MEASURES), squeeze=False)
    for line, ((model, dataset), own) in enumerate(settings):
        for axis, name, heading in zip(axes[line], MEASURES, HEADINGS, strict=True):
            for (mask, edit), curve in own.groupby(["mask", "edit"], sort=False):
                curve = curve.sort_values("place")
                colour, legend = COLOURS[mask], f"{mask}, {edit.replace('_', ' ')}"
                style = "-" if edit == "zero" else "--"
                at, low, high = curve["place"], curve[f"{name}_low"], curve[f"{name}_high"]
                axis.plot(
                    at,
                    curve[name],
                    marker="o",
                    markersize=3,
                    linewidth=1.4,
                    label=legend,
                    color=colour,
                    linestyle=style,
                )
                axis.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
            axis.axhline(0, color="0.8", linewidth=0.8, zorder=0)
            axis.set_title(f"{model}, {dataset}: {heading}", fontsize=9)
            axis.set_xlabel(label, fontsize=8)
            axis.tick_params(labelsize=7)
            if (frame[knob] == float("inf")).any():
                ticks = sorted(frame["place"].unique())
                axis.set_xticks(ticks, ["inf" if tick == ticks[-1] else f"{tick:g}" for tick in ticks])
    axes[0, 0].legend(fontsize=7)
    return figure


EXPERIMENT = Experiment("ablations", ("ablations", "ablation_layers"), tables, figures)

if __name__ == "__main__":
    main(EXPERIMENT)
