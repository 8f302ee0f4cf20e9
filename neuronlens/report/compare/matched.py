"""What the methods of two runs cost at matched erasure, run against run."""

from __future__ import annotations

import pandas as pd

from neuronlens.measures import naming
from neuronlens.measures.columns import DROPS
from neuronlens.measures.intervals import Bootstrap
from neuronlens.report.compare.unedited import about
from neuronlens.report.p_values import NOTE, p_columns, with_holm
from neuronlens.report.table import Column, Table, frame_of


def matched_table(found: pd.DataFrame, bootstrap: Bootstrap) -> Table:
    """Return every method's cost in each run beside that in the reference.

    Args:
        found: as `pairing.paired_methods` gives it, with the name of the `run`; empty where nothing was paired.
    """
    columns = [Column("run", "Run"), Column("method", "Method"), Column("level", "Erased", format=".0%")]
    columns.append(Column("n", "Concepts", format="d"))
    for name in DROPS:
        group = naming.measure(name, short=True).capitalize()
        columns += [
            Column(f"{name}_reference", "Ref.", group, ".3f"),
            Column(f"{name}_run", "Run", group, ".3f"),
            Column(name, "Difference", group, "+.3f", interval=True),
            *p_columns(f"{name}_p", group),
            Column(f"{name}_wins", "Wins", group, "d"),
        ]
    if len(found):
        apart = naming.setting_apart(found)
        named = [naming.method(row, apart) for row in found.to_dict("records")]
        found = found.assign(method=named).sort_values(["run", "level"], kind="stable", ignore_index=True)
        found = with_holm(found, "n", [f"{name}_p" for name in DROPS])
        front = ["run", "method"]
        found = found[[*front, *(name for name in found.columns if name not in front)]]
    else:
        found = frame_of([], columns)
    return Table(
        "compare-matched",
        "Each method's cost to the other concepts at matched erasure",
        "Complement accuracy and confidence drop where the method has erased this share of the concept's base accuracy, "
        "means over the concepts that reach it in both runs; a negative difference: the run costs the others less, which "
        "is a win.",
        found,
        tuple(columns),
        row_groups=("run",),
        notes=(*about(bootstrap), NOTE),
    )
