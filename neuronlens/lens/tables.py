"""What was fitted, as tables: ranges, salient neurons, and how much concepts' salient sets have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from neuronlens.edits.build import EditBuilder
from neuronlens.errors import ConfigError
from neuronlens.lens.cells import CellKnobs, Cells
from neuronlens.records import Cell, FloatArray
from neuronlens.saliency.overlap import jaccard

COLUMNS = ("site", "layer", "neuron", "interval", "low", "high", "n", "mean", "std", "score", "place")


def ranges(cells: Cells, concept: str, knobs: CellKnobs) -> pd.DataFrame:
    """Return a row per site, neuron and interval of a concept's range, all neurons of the sites.

    Args:
        knobs: of the cell whose range and ranking are shown; the lens's own where none is given.

    Returns:
        Columns: `site`, `layer`, `neuron`; `interval`, its number; `low`, `high`, its bounds, both included; `n`, `mean`,
        `std` (ddof 0) of the concept's fit samples; `score` and `place` (0 is the most salient) in the ranking. A neuron
        whose range is empty has no row.

    Raises:
        ConfigError: an unknown concept or knob, or a cell without a range.
        ActivationError: no range could be fitted for this concept.
    """
    cell, builders = cells.builders(concept, with_range(cells, knobs))
    parts = [_of_site(cell, builder) for builder in builders.values()]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def neurons(cells: Cells, concept: str, top: int, knobs: CellKnobs) -> pd.DataFrame:
    """Return the rows of `ranges` of the `top` most salient neurons of each site, best first.

    Raises:
        ConfigError: `top` is no whole number above 0.
    """
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise ConfigError(f"top is {top!r}, expected a whole number above 0.")
    table = ranges(cells, concept, knobs)
    chosen = table[table["place"] < top]
    return chosen.sort_values(["site", "place", "interval"], kind="stable", ignore_index=True)


def overlap(cells: Cells, knobs: CellKnobs) -> pd.DataFrame:
    """Return the Jaccard overlap of every two concepts' salient sets, over the neurons of all sites as one.

    Returns:
        `[concept, concept]`, in [0, 1]; NaN where both sets are empty.
    """
    cell, builders = cells.builders(cells.concepts[0], knobs)
    selected = np.concatenate([builder.selected(cell[0]) for builder in builders.values()], axis=1)
    return pd.DataFrame(jaccard(selected), index=list(cells.concepts), columns=list(cells.concepts))


def with_range(cells: Cells, knobs: CellKnobs) -> CellKnobs:
    """Return the knobs of a cell whose gate reads a range, as `range` does, where no gate is asked for."""
    own: CellKnobs = {**knobs}
    if own.get("gate") is None:
        own["gate"] = "range"
        own["edit"] = own.get("edit") or "zero"
    return own


def bounds_of(cell: Cell, builder: EditBuilder) -> tuple[FloatArray, FloatArray]:
    """Return a cell's intervals at one site `[interval, neuron]` each.

    Raises:
        ConfigError: its gate reads no range.
        ActivationError: no range could be fitted for the concept.
    """
    knobs, concept = cell
    if knobs.range is None:
        raise ConfigError(f"Gate '{knobs.gate}' reads no range. Next: gate='range'.")
    builder.refuse_skipped(cell)
    found = builder.fits["none"].ranges[knobs.range, knobs.tau]
    return found.lower[concept], found.upper[concept]


def _of_site(cell: Cell, builder: EditBuilder) -> pd.DataFrame:
    knobs, concept = cell
    lower, upper = bounds_of(cell, builder)
    fitted = builder.fits["none"]
    ranking, moments = fitted.rankings[str(knobs.saliency)], fitted.activations.statistics
    place = np.argsort(ranking.order[concept])
    interval, neuron = np.nonzero(lower <= upper)
    order = np.lexsort((interval, neuron))
    interval, neuron = interval[order], neuron[order]
    site = fitted.activations.site
    columns: dict[str, Any] = {
        "site": str(site),
        "layer": site.layer,
        "neuron": neuron,
        "interval": interval,
        "low": lower[interval, neuron],
        "high": upper[interval, neuron],
        "n": moments.count[concept],
        "mean": moments.mean[concept, neuron],
        "std": moments.std[concept, neuron],
        "score": ranking.scores[concept, neuron],
        "place": place[neuron],
    }
    return pd.DataFrame(columns)
