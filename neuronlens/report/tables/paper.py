"""The paper's main table of one run: the unedited model, the neuron mask and the range mask side by side, concept by concept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.nodes import option_of
from neuronlens.config.schema import Config
from neuronlens.measures import naming
from neuronlens.measures.columns import RESULTS
from neuronlens.records import ResultTable
from neuronlens.report.table import Column, Table

LEVELS = ("concept_accuracy", "concept_confidence", "complement_accuracy", "complement_confidence")
MEAN = "mean"
"""What stands in the place of a concept in the rows of means."""
MASKS = {"neuron": "Neuron mask", "range": "Range mask"}
ROW = ["layers", "edit"]


def paper_table(table: ResultTable, config: Config) -> Table:
    """Return accuracies and confidences under both masks at the configured share of the neurons, strength, ranking and tau.

    A row is a concept, or the mean over concepts that leads each layer and edit; `n` is how many samples of the concept
    they are over, and a base stands beside the figures that it is the base of. Where the configured value was not swept the
    nearest one stands for it.
    """
    chosen = _chosen(table.rows, config)
    groups = [(gate, heading) for gate, heading in MASKS.items() if (chosen["gate"] == gate).any()]
    rows: list[dict[str, Any]] = []
    for (layers, edit), own in chosen.groupby(ROW, sort=False):
        masked = {gate: own[own["gate"] == gate].drop_duplicates("concept").set_index("concept") for gate, _ in groups}
        concepts = [
            name for name in dict.fromkeys(own["concept"]) if any(name in found.index for found in masked.values())
        ]
        lines = [_line(name, masked) for name in concepts]
        if not lines:
            continue
        means = {
            key: float(np.mean([line[key] for line in lines if key in line]))
            for key in lines[0]
            if key not in ("concept", "n")
        }
        n = float(np.sum([line["n"] for line in lines]))
        rows += [
            {"layer": str(layers), "edit": str(edit)} | line for line in [{"concept": MEAN, "n": n, **means}, *lines]
        ]
    shown = [
        Column(f"{gate}_{name}", RESULTS[name].published, heading, ".3f")
        for gate, heading in (("base", "Base"), *groups)
        for name in LEVELS
    ]
    named = (Column("model", "Model"), Column("dataset", "Dataset"), Column("layer", "Layer"), Column("edit", "Edit"))
    columns = (*named, Column("concept", "Concept"), Column("n", "n", format=".0f"), *shown)
    frame = pd.DataFrame(rows).assign(model=config.model.name, dataset=config.dataset.name)
    frame = frame.reindex(columns=list(dict.fromkeys([*(column.name for column in columns), *frame.columns])))
    caption = (
        f"Acc and Conf are the concept's accuracy and gold confidence, CAcc and CConf the other concepts'. {_about(chosen)} "
        "n: test samples of the concept."
    )
    return Table("table", "Neuron mask against range mask", caption, frame, columns, tuple(c.name for c in named))


def _chosen(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Return the rows of the cells that stand for the run, those of both masks."""
    found = rows[(rows["edit"] != "none") & rows["skipped"].isna() & rows["control"].isna()]
    masked = found[found["gate"].isin(MASKS)]
    found = masked if len(masked) else found
    own: dict[str, Any] = {"saliency": option_of(config, "saliency"), "strength": config.intervention.strength}
    own |= {"range": option_of(config, "range"), "tau": config.headline_tau}
    own |= {"top_fraction": config.intervention.top_fraction}
    for knob, value in own.items():
        swept = found[knob].dropna().unique()
        if not len(swept):
            continue
        if isinstance(swept[0], str):
            nearest = value if value in swept else swept[0]
        else:
            nearest = min(sorted(map(float, swept)), key=lambda one: abs(one - value) if value is not None else one)
        found = found[(found[knob] == nearest) | found[knob].isna()]
    counts = found["n_neurons"].dropna().unique()
    return (
        found if found["top_fraction"].notna().any() or len(counts) < 2 else found[found["n_neurons"] == counts.min()]
    )


def _line(concept: str, masked: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return one concept's figures, the base from whichever mask was run on it."""
    line: dict[str, Any] = {"concept": concept}
    for gate, found in masked.items():
        if concept not in found.index:
            continue
        own = found.loc[concept]
        line["n"] = np.nan if pd.isna(own["n_concept"]) else float(own["n_concept"])
        for name in LEVELS:
            line[f"base_{name}"], line[f"{gate}_{name}"] = float(own[f"base_{name}"]), float(own[name])
    return line


def _about(chosen: pd.DataFrame) -> str:
    """Return what the masks have in common, in a sentence; nothing where nothing was run."""
    if chosen.empty:
        return "No cell was run."
    first = chosen[chosen["gate"] == "range"] if (chosen["gate"] == "range").any() else chosen
    row = first.iloc[0].to_dict()
    words = naming.words(row, ["top_fraction", "saliency", "range", "tau", "strength"])
    return f"Shown: {', '.join(words)}."
