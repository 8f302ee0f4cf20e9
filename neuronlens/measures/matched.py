"""Methods where they erase the same share of a concept: what each costs the other concepts there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neuronlens.measures.columns import COLLATERAL, CURVE, ERASED, METHOD, RESULTS
from neuronlens.records import FloatArray


def at_erasure(drops: FloatArray, collateral: FloatArray, wanted: float) -> FloatArray:
    """Return the collateral where a method's curve first reaches a concept drop, linear between its points.

    Args:
        drops: concept accuracy drop along the curve `[point]`, weakest edit first; the unedited model is put before it.
        collateral: `[point, measure]`.
        wanted: the drop asked for, > 0.

    Returns:
        `[measure]`; NaN where the curve never reaches it.

    >>> at_erasure(np.array([0.2, 0.6]), np.array([[0.0], [0.4]]), 0.4).round(6).tolist()
    [0.2]
    """
    drops = np.concatenate([[0.0], drops])
    collateral = np.concatenate([np.zeros((1, collateral.shape[1])), collateral])
    reached = np.flatnonzero(drops >= wanted)
    if not len(reached):
        return np.full(collateral.shape[1], np.nan)
    after = reached[0]
    share = (wanted - drops[after - 1]) / (drops[after] - drops[after - 1])
    return collateral[after - 1] + share * (collateral[after] - collateral[after - 1])


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the edited, evaluated rows with their `dose` and, in the dose's own columns, null: methods are then equal.

    The dose is the number of neurons where a method was swept over it, and strength is then part of the method; else it is
    the strength. An edit that mixes neurons touches all of them, so it always has strength for its dose.
    """
    edited = RESULTS.completed(rows[(rows["edit"] != "none") & rows["skipped"].isna()]).copy()
    edited["dose"] = np.nan
    parts = []
    for _, group in edited.groupby(CURVE, dropna=False, sort=False):
        by_neurons = group["n_neurons"].nunique() > 1
        dose = "n_neurons" if by_neurons else "strength"
        group = group.assign(dose=group[dose].astype(float))
        group[dose] = pd.NA if dose == "n_neurons" else np.nan
        if by_neurons:
            group[RESULTS.keys("share")] = np.nan
        parts.append(group)
    return pd.concat(parts) if parts else edited


def matched_erasure(rows: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """Return each method's collateral at given shares of the base accuracy erased, per concept.

    A fixed-strength comparison is unfair: the same strength erases different amounts (SPEC section 5).

    Args:
        rows: the results table.
        levels: concept drop as shares of the concept's base accuracy, in (0, 1].

    Returns:
        One row per (method x level x concept), collateral NaN where the method never erases as much.
    """
    found = []
    for key, curve in curves(rows).groupby([*METHOD, "concept"], dropna=False, sort=False):
        curve = curve.sort_values("dose")
        base = float(curve["base_concept_accuracy"].iloc[0])
        if not base > 0:
            continue
        drops, collateral = curve[ERASED].to_numpy(), curve[COLLATERAL].to_numpy()
        found += [(*key, level, *at_erasure(drops, collateral, level * base)) for level in levels]
    return pd.DataFrame(found, columns=[*METHOD, "concept", "level", *COLLATERAL])
