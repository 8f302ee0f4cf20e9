"""Operating points: for each method the cell that is chosen on the select split, with its figures on test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from neuronlens.measures.columns import COST, ERASED, FAMILY, RESULTS


def operating_points(select: pd.DataFrame, test: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """Return, per method, concept and erasure level, the cell chosen on select and its figures on test (TRAPS 26).

    A method here is what tau, the number of neurons and the strength leave open. Of its cells that erase the level on
    select, the one with the lowest complement confidence drop there is chosen, the first of equals.

    Args:
        select, test: results rows of the same cells on either split.
        levels: concept drop as shares of the concept's base accuracy, in (0, 1].

    Returns:
        The chosen cells' test rows with `level`, `select_concept_accuracy_drop` and `select_complement_confidence_drop`;
        a method that never erases the level on select has one row with null measures.
    """
    left = [*FAMILY, "concept"]
    candidates = RESULTS.completed(select[(select["edit"] != "none") & select["skipped"].isna()])
    by_cell = test.set_index("cell_id")
    found = []
    for key, group in candidates.groupby(left, dropna=False, sort=False):
        for level in levels:
            needed = level * group["base_concept_accuracy"]
            enough = group[(group[ERASED] >= needed - 1e-12) & (group["base_concept_accuracy"] > 0)]
            row: dict[str, Any] = dict(zip(left, key, strict=True)) | {"level": level}
            if len(enough):
                chosen = enough.loc[enough[COST].idxmin()]
                row |= by_cell.loc[chosen["cell_id"]].to_dict() | {"cell_id": chosen["cell_id"]}
                for name in (ERASED, COST):
                    row[f"select_{name}"] = chosen[name]
            found.append(row)
    return pd.DataFrame(found)
