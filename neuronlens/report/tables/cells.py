"""A run's cells as tables: means over concepts, what was chosen on select, and what was skipped."""

from __future__ import annotations

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import COLLATERAL, ERASED, FAMILY, RESULTS, SETTINGS, TRADEOFF
from neuronlens.measures.declaration import leading
from neuronlens.report.table import Column, Table, frame_of

SHOWN = [key for key in SETTINGS if key not in ("site", "edit_positions")]
"""Knobs that a run's cells are listed by; the others are the same for all of them."""


def means_table(rows: pd.DataFrame) -> Table:
    """Return every cell's means over concepts, sorted by its knobs."""
    knobs = leading(SHOWN, "layers", "saliency", "edit", "gate")
    accuracy_first = list(dict.fromkeys(RESULTS[key].short for key in TRADEOFF))
    measures = sorted(TRADEOFF, key=lambda key: accuracy_first.index(RESULTS[key].short))
    edited = rows[rows["edit"] != "none"]
    means = edited.groupby(knobs, dropna=False, sort=True)[measures].mean().reset_index()
    columns = (*map(_knob, knobs), *(Column(key, naming.measure(key), format=".3f") for key in measures))
    return Table("cells", "Every cell, mean over concepts", "", means, columns)


def _knob(key: str) -> Column:
    return Column(key, RESULTS[key].heading if key in SETTINGS else key)


def skipped_table(rows: pd.DataFrame) -> Table:
    """Return why cells were skipped, the first reason of each concept."""
    skipped = rows[rows["skipped"].notna()].drop_duplicates("concept")
    columns = (Column("concept", "concept"), Column("skipped", "reason"))
    return Table("skipped", "Skipped", "", skipped[["concept", "skipped"]], columns)


def operating_table(points: pd.DataFrame) -> Table:
    """Return, per method and level, in how many concepts a cell was chosen on select, and the chosen cells' means."""
    knobs = [*(key for key in SHOWN if key in FAMILY), *(key for key in ("level", "damage", "budget") if key in points)]
    tuned = [key for key in leading(SHOWN, "tau", "top_fraction") if RESULTS[key].tuned]
    figures = [ERASED, *COLLATERAL]
    columns = (
        *map(_knob, knobs),
        Column("chosen", "chosen in", align="right"),
        *(Column(key, RESULTS[key].heading, format=".3f") for key in tuned),
        Column(f"select_{ERASED}", "erased on select", format=".3f"),
        *(Column(key, naming.measure(key), format=".3f") for key in figures),
    )
    found = points["cell_id"].notna() if "cell_id" in points else pd.Series(False, index=points.index)
    lines = []
    for key, group in points.groupby(knobs, dropna=False, sort=False):
        own = group[found[group.index]]
        line = dict(zip(knobs, key, strict=True)) | {"chosen": f"{len(own)} of {len(group)}"}
        lines.append(line | {name: own[name].mean() for name in (*tuned, f"select_{ERASED}", *figures) if len(own)})
    caption = (
        "For each concept the cell that erases the level on select at the lowest cost there, or that erases most there within "
        "the damage budget; means over concepts."
    )
    title = "Operating points chosen on select, figures on test"
    return Table("operating-points", title, caption, frame_of(lines, columns), columns)
