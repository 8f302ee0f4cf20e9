"""Means over concepts with their paired intervals, as every table of the paper shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

import neuronlens as nl
from experiments.runner import Runs

IDENTITY = (nl.Column("model", "model"), nl.Column("dataset", "dataset"), nl.Column("layer", "layer"))
MEASURES = {key: nl.RESULTS[key].published for key in nl.RESULTS.keys("level")}
"""Acc, Conf, CAcc and CConf by the columns they stand in."""


def with_level(bootstrap: nl.Bootstrap, sentence: str) -> str:
    """Return a caption's sentence with the level in the place of `{}` and a space before it; nothing without intervals."""
    return " " + sentence.format(bootstrap.percent) if bootstrap.resamples else ""


def means_caption(bootstrap: nl.Bootstrap) -> str:
    """Return the sentence of a caption on means and their intervals."""
    intervals = with_level(bootstrap, "with {} intervals over concepts, paired where two masks are compared")
    return f"Means over concepts{intervals}."


def mean_columns(name: str, values: Sequence[float], bootstrap: nl.Bootstrap) -> dict[str, float]:
    """Return a mean and its interval as `name`, `name_low`, `name_high`; values that are not numbers are left out."""
    kept = np.asarray(values, dtype=float)
    return bootstrap.of_mean(kept[np.isfinite(kept)]).columns(name)


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


def compared(
    neuron: pd.DataFrame, over: pd.DataFrame, measures: Sequence[str], bootstrap: nl.Bootstrap
) -> dict[str, float]:
    """Return each measure under both masks, and range minus neuron paired by concept, with intervals."""
    both = neuron.index.intersection(over.index)
    found: dict[str, float] = {"concepts": len(both)}
    for name in measures:
        one, other = neuron.loc[both, name].to_numpy(), over.loc[both, name].to_numpy()
        found |= mean_columns(f"neuron_{name}", one, bootstrap) | mean_columns(f"range_{name}", other, bootstrap)
        found |= mean_columns(f"difference_{name}", other - one, bootstrap)
    return found
