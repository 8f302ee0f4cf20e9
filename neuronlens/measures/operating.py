"""Operating points: for each method the cell that is chosen on the select split, with its figures on test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from neuronlens.measures.budget import Budgets, at_budget
from neuronlens.measures.columns import COST, ERASED, FAMILY, RESULTS
from neuronlens.sweep.doses import TOLERANCE


def operating_points(
    select: pd.DataFrame, test: pd.DataFrame, levels: Sequence[float], budgets: Budgets | None = None
) -> pd.DataFrame:
    """Return, per method, concept and aim, the cell chosen on select and its figures on test (TRAPS 26).

    A method here is what tau, the number of neurons and the strength leave open. For an erasure level the cell with the
    lowest complement confidence drop on select is chosen among those that erase the level there; for a damage budget the
    one that erases most there among those within it. The first of equals counts.

    Args:
        select, test: results rows of the same cells on either split.
        levels: concept drop as shares of the concept's base accuracy, in (0, 1].
        budgets: most damage, by the measure that is limited.

    Returns:
        The chosen cells' test rows with `level`, or `damage` and `budget`, and their erasure and cost on select
        (`select_<measure>`); a method that never gets there on select has one row with null measures.
    """
    left = [*FAMILY, "concept"]
    candidates = RESULTS.completed(select[(select["edit"] != "none") & select["skipped"].isna()])
    by_cell = test.set_index("cell_id")
    found = []
    for key, group in candidates.groupby(left, dropna=False, sort=False):
        for aim, chosen in _chosen(group, levels, budgets or {}):
            row: dict[str, Any] = dict(zip(left, key, strict=True)) | aim
            if chosen is not None:
                row |= by_cell.loc[chosen["cell_id"]].to_dict() | {"cell_id": chosen["cell_id"]}
                for name in dict.fromkeys((ERASED, COST, aim.get("damage", COST))):
                    row[f"select_{name}"] = chosen[name]
            found.append(row)
    return pd.DataFrame(found)


def _chosen(
    group: pd.DataFrame, levels: Sequence[float], budgets: Budgets
) -> Iterator[tuple[dict[str, Any], pd.Series[Any] | None]]:
    """Give each aim with the row that is chosen for it on select, or None."""
    known = group[group["base_concept_accuracy"] > 0]
    for level in levels:
        enough = known[known[ERASED] >= level * known["base_concept_accuracy"] - TOLERANCE]
        yield {"level": level}, enough.loc[enough[COST].idxmin()] if len(enough) else None
    for damage, amounts in budgets.items():
        drops, spent = (known[name].to_numpy(dtype=float) for name in (ERASED, damage))
        for budget in amounts:
            place = at_budget(drops, spent, budget)
            yield {"damage": damage, "budget": budget}, None if place is None else known.iloc[place]
