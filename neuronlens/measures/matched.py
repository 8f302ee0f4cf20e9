"""Methods where they erase the same share of a concept: what each costs the other concepts there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from neuronlens.measures.columns import COLLATERAL, CURVE, ERASED, METHOD, RESULTS
from neuronlens.records import FloatArray
from neuronlens.sweep.doses import TOLERANCE, first_reached

WIDEST = 0.05
"""Share of the base accuracy: nothing is interpolated between doses whose erasure is further apart."""
BOUND = "_bound"
"""What the columns end in that hold a method's collateral where it is reached, and else the worst along its curve."""
Read = Literal["between doses", "first dose", "never"]


class AtErasure(NamedTuple):
    """What a curve costs where it first reaches a concept drop.

    Attributes:
        collateral: `[measure]`; NaN where it never does.
        point: the place of the first point that reaches it, from 0; None where none does.
        read: interpolated `between doses`, taken from the `first dose` that reaches it, or `never` reached.
    """

    collateral: FloatArray
    point: int | None
    read: Read


def at_erasure(drops: FloatArray, collateral: FloatArray, wanted: float, widest: float = np.inf) -> AtErasure:
    """Return the collateral where a method's curve first reaches a concept drop, linear between its points.

    Args:
        drops: concept accuracy drop along the curve `[point]`, weakest edit first; the unedited model is put before it.
        collateral: `[point, measure]`.
        wanted: the drop asked for, > 0; a drop that equals it within rounding reaches it.
        widest: where the drops on either side are further apart, the point that reaches it is taken as it is.

    >>> at_erasure(np.array([0.2, 0.6]), np.array([[0.0], [0.4]]), 0.4).collateral.round(6).tolist()
    [0.2]
    >>> at_erasure(np.array([0.2, 0.6]), np.array([[0.0], [0.4]]), 0.4, widest=0.05)
    AtErasure(collateral=array([0.4]), point=1, read='first dose')
    """
    point = first_reached(drops, wanted)
    if point is None:
        return AtErasure(np.full(collateral.shape[1], np.nan), None, "never")
    before, start = (drops[point - 1], collateral[point - 1]) if point else (0.0, np.zeros(collateral.shape[1]))
    gap = drops[point] - before
    if gap > widest + TOLERANCE:
        return AtErasure(collateral[point], point, "first dose")
    share = min((wanted - before) / gap, 1.0)
    return AtErasure(start + share * (collateral[point] - start), point, "between doses")


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


def share_erased(rows: pd.DataFrame) -> pd.Series[float]:
    """Return the share of a concept's base accuracy that each row erases; NaN where the unedited model knows nothing of it."""
    base = rows["base_concept_accuracy"].astype(float)
    return rows[ERASED].astype(float) / base.where(base > 0)


def concept_curves(rows: pd.DataFrame) -> Iterator[tuple[tuple[object, ...], pd.DataFrame]]:
    """Give each method's curve of each concept that the unedited model knows, by method and concept, weakest dose first."""
    for key, curve in curves(rows).groupby([*METHOD, "concept"], dropna=False, sort=False):
        if curve["base_concept_accuracy"].iloc[0] > 0:
            yield key, curve.sort_values("dose", kind="stable")


def matched_erasure(rows: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """Return each method's collateral at given shares of the base accuracy erased, per concept.

    A fixed-strength comparison is unfair: the same strength erases different amounts (SPEC section 5).

    Args:
        rows: the results table, with the finer doses where there are any.
        levels: concept drop as shares of the concept's base accuracy, in (0, 1].

    Returns:
        One row per (method x level x concept): collateral, NaN where the method never erases as much; `<measure>_bound`,
        which is then the worst along its curve; `dose`, the first that reaches the level; `read`, as `AtErasure` has it.
    """
    found = []
    for key, curve in concept_curves(rows):
        base = float(curve["base_concept_accuracy"].iloc[0])
        drops, collateral = curve[ERASED].to_numpy(dtype=float), curve[COLLATERAL].to_numpy(dtype=float)
        for level in levels:
            there = at_erasure(drops, collateral, level * base, WIDEST * base)
            bound = collateral.max(axis=0) if there.point is None else there.collateral
            dose = np.nan if there.point is None else float(curve["dose"].iloc[there.point])
            found.append((*key, level, *there.collateral, *bound, dose, there.read))
    bounds = [f"{name}{BOUND}" for name in COLLATERAL]
    return pd.DataFrame(found, columns=[*METHOD, "concept", "level", *COLLATERAL, *bounds, "dose", "read"])
