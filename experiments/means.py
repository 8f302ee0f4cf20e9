"""Means over concepts with their paired bootstrap intervals, as every table of the paper shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from experiments.runner import Runs
from neuronlens.measures.intervals import mean_interval
from neuronlens.report.table import PaperColumn

IDENTITY = (PaperColumn("model", "model"), PaperColumn("dataset", "dataset"), PaperColumn("layer", "layer"))
SIDES = {"concept": "", "complement": "C"}
SPOKEN = {"accuracy": "Acc", "confidence": "Conf"}
MEASURES = {f"{side}_{what}": prefix + name for side, prefix in SIDES.items() for what, name in SPOKEN.items()}
"""Acc, Conf, CAcc and CConf by the columns they stand in."""
INTERVALS = "Means over concepts with 95 % bootstrap intervals over concepts, paired where two masks are compared."


def mean_columns(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return a mean and its 95 % interval as `name`, `name_low`, `name_high`; values that are not numbers are left out."""
    kept = np.asarray(values, dtype=float)
    mean, low, high = mean_interval(kept[np.isfinite(kept)], level=0.95, resamples=1000, seed=0)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def per_layer(runs: Runs, part: str) -> Iterator[tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]]:
    """Give, per run and layer, its identity, the evaluated cells and the unedited model's rows by concept."""
    for folder in runs.part(part).values():
        rows = folder.read_results().rows
        rows = rows[rows["skipped"].isna()]
        base = rows[rows["edit"] == "none"].set_index("concept")
        for layers, own in rows[rows["edit"] != "none"].groupby("layers", sort=False):
            first = own.iloc[0]
            yield {"model": first["model"], "dataset": first["dataset"], "layer": str(layers)}, own, base


def by_concept(cells: pd.DataFrame, **knobs: Any) -> pd.DataFrame:
    """Return the rows of the one cell with these knobs, by concept; None asks for a knob that plays no part.

    Raises:
        ValueError: the knobs leave several rows of a concept.
    """
    chosen = np.ones(len(cells), dtype=bool)
    for knob, value in knobs.items():
        chosen &= (cells[knob].isna() if value is None else cells[knob] == value).to_numpy()
    found = cells[chosen].set_index("concept")
    if found.index.has_duplicates:
        raise ValueError(f"{knobs} leaves several cells of a concept: {len(found)} rows.")
    return found


def masks(
    cells: pd.DataFrame, *, edit: str, top_fraction: float, tau: float = 2.5, **more: Any
) -> dict[str, pd.DataFrame]:
    """Return neuron and range mask of the same edit and neurons, by concept."""
    shared = {"edit": edit, "top_fraction": top_fraction, **more}
    return {
        "neuron": by_concept(cells, gate="neuron", **shared),
        "range": by_concept(cells, gate="range", tau=tau, **shared),
    }


def compared(neuron: pd.DataFrame, over: pd.DataFrame, measures: Sequence[str]) -> dict[str, float]:
    """Return each measure under both masks, and range minus neuron paired by concept, with intervals."""
    both = neuron.index.intersection(over.index)
    found: dict[str, float] = {"concepts": len(both)}
    for name in measures:
        one, other = neuron.loc[both, name].to_numpy(), over.loc[both, name].to_numpy()
        found |= mean_columns(f"neuron_{name}", one) | mean_columns(f"range_{name}", other)
        found |= mean_columns(f"difference_{name}", other - one)
    return found
