"""The dual of matched erasure: how much of a concept each method erases while the others lose no more than a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from neuronlens.config.schema_evaluation import EvaluationConfig
from neuronlens.measures.columns import ERASED, ERASURE, METHOD
from neuronlens.measures.matched import concept_curves
from neuronlens.records import FloatArray
from neuronlens.sweep.doses import TOLERANCE

Budgets = Mapping[str, Sequence[float]]
"""Most damage that is allowed, several amounts of each measure of collateral."""


def budgets_of(config: EvaluationConfig) -> Budgets:
    """Return a config's damage budgets by the measure that they limit."""
    return {"complement_accuracy_drop": config.accuracy_budgets, "kl": config.kl_budgets}


def at_budget(drops: FloatArray, damage: FloatArray, budget: float) -> int | None:
    """Return the place of the point that erases most within a damage budget; None: no point erases anything within it.

    Damage is within the budget where it equals it within rounding. Of points that erase as much, the first one counts.

    Args:
        drops, damage: concept drop and collateral along the curve `[point]`, weakest edit first.

    >>> at_budget(np.array([0.1, 0.4, 0.6]), np.array([0.0, 0.9 - 0.88, 0.03]), 0.02)
    1
    """
    within = np.where(damage <= budget + TOLERANCE, drops, -np.inf)
    if not len(within) or within.max() <= TOLERANCE:
        return None
    return int(np.flatnonzero(within >= within.max() - TOLERANCE)[0])


def erasure_at_budget(rows: pd.DataFrame, budgets: Budgets) -> pd.DataFrame:
    """Return how much each method erases of each concept within given damage budgets.

    It is the largest concept accuracy drop among the curve's doses whose damage is within the budget, and 0, the unedited
    model's, where none erases anything. Nothing is interpolated: every figure is that of a cell.

    Args:
        rows: the results table, with the finer doses where there are any.

    Returns:
        One row per (method x budget x concept): `damage`, the measure that is limited, `budget`, the erasure there and
        `dose`, 0 for the unedited model.
    """
    found = []
    for key, curve in concept_curves(rows):
        drops, erasure = curve[ERASED].to_numpy(dtype=float), curve[ERASURE].to_numpy(dtype=float)
        for damage, amounts in budgets.items():
            for budget in amounts:
                point = at_budget(drops, curve[damage].to_numpy(dtype=float), budget)
                there = np.zeros(len(ERASURE)) if point is None else erasure[point]
                dose = 0.0 if point is None else float(curve["dose"].iloc[point])
                found.append((*key, damage, budget, *there, dose))
    return pd.DataFrame(found, columns=[*METHOD, "concept", "damage", "budget", *ERASURE, "dose"])
