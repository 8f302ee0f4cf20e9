"""The numbers of a run under names that never change: flat, for sorting and optimising, and along the dose, for charts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.schema import Config
from neuronlens.measures import naming
from neuronlens.measures.columns import COLLATERAL, COST, DROPS, ERASURE, METHOD, TRADEOFF, WHERE
from neuronlens.measures.headline import headline_row
from neuronlens.measures.matched import curves, share_erased
from neuronlens.records import ResultTable
from neuronlens.sweep.doses import TOLERANCE


def flat(table: ResultTable, config: Config) -> dict[str, float]:
    """Return the run's numbers by name, finite ones alone.

    `base/...`: the unedited model. `headline/...`: `headline_row`, for W&B sweeps to optimise. `matched/<place>/<method>/
    <level>/<measure>_difference`: every range method minus the neuron mask of the same edit (comparison.parquet).
    `methods/<place>/<method>/<level>/<measure>`: every method's own collateral there (methods.parquet). `budget/<place>/
    <method>/<budget>/<measure>_difference`: how much more it erases than the mask within a damage budget.
    """
    found: dict[str, Any] = {f"base/{name}": value for name, value in table.base.items()}
    found["cells/skipped"] = int(table.rows["skipped"].notna().sum())
    found |= _headline(headline_row(table.comparison, config))
    for compared in table.comparison.to_dict("records"):
        key = f"matched/{_key(compared)}"
        for end in ("difference", "all_difference"):
            found |= {f"{key}/{measure}_{end}": compared.get(f"{measure}_{end}") for measure in COLLATERAL}
    for method in table.methods.to_dict("records"):
        key = f"methods/{_key(method)}"
        found |= {f"{key}/{measure}": method[measure] for measure in COLLATERAL}
    if table.budget_comparison is not None:
        for compared in table.budget_comparison.to_dict("records"):
            place, method_name = naming.place_key(compared), naming.method_key(compared)
            key = f"budget/{place}/{method_name}/{naming.budget_key(compared)}"
            found |= {f"{key}/{measure}_difference": compared[f"{measure}_difference"] for measure in ERASURE}
    return _finite(found)


def chosen(table: ResultTable, config: Config) -> dict[str, float]:
    """Return the few numbers that runs are sorted and compared by, about thirty, under names that never change.

    `base/...`, `headline/...` with its interval and number of concepts, and `levels/<level>/...`: the same comparison at every
    level of erasure. Nothing is in it that rests on one concept.
    """
    found: dict[str, Any] = {f"base/{name}": value for name, value in table.base.items()}
    found["cells/skipped"] = int(table.rows["skipped"].notna().sum())
    row = headline_row(table.comparison, config)
    found |= _headline(row)
    if row is not None:
        same = table.comparison
        for knob in METHOD:
            same = same[same[knob].isna() if pd.isna(row[knob]) else same[knob] == row[knob]]
        for level in same[same["n_concepts"] >= FEWEST].to_dict("records")[:MOST_LEVELS]:
            key = f"levels/{naming.level_key(level['level'])}"
            found |= {f"{key}/confidence_{end}": level[f"{COST}_{end}"] for end in ("difference", "low", "high")}
    return _finite(found)


def _headline(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the headline's numbers; how many concepts it rests on alone where these are too few to have an interval."""
    if row is None:
        return {}
    found: dict[str, Any] = {"headline/erased": row["level"], "headline/concepts": row["n_concepts"]}
    if row["n_concepts"] < FEWEST:
        return found
    for measure in COLLATERAL:
        word = naming.measure(measure, short=True).lower()
        found[f"headline/{word}_difference"] = row[f"{measure}_difference"]
    for measure in DROPS:
        word = naming.measure(measure, short=True).lower()
        found |= {f"headline/{word}_{end}": row[f"{measure}_{end}"] for end in ("low", "high")}
    found["headline/range_collateral"] = row[f"{COST}_range"]
    found["headline/neuron_collateral"] = row[f"{COST}_neuron"]
    found["headline/wins"] = row[f"{COST}_wins"] / row["n_concepts"]
    return found


def _finite(found: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items() if pd.notna(value) and math.isfinite(value)}


def _key(row: Mapping[str, Any]) -> str:
    return f"{naming.place_key(row)}/{naming.method_key(row)}/{naming.level_key(row['level'])}"


def tradeoff(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the trade-off: every method's means over the concepts at each dose, and which of them no other beats.

    Args:
        rows: the results table.

    Returns:
        One row per (method x dose) with `place`, `method` (as a word), `name` (as everywhere), `share_erased`, `axis`
        (`neurons` or `strength`), `dose`, the means of `TRADEOFF` and `frontier`: among the methods of a place, controls left
        out, none erases as large a share at a lower cost.
    """
    edited = curves(rows)
    apart = [knob for knob in naming.setting_apart(edited) if knob not in WHERE]
    found = []
    for key, group in edited.groupby([*METHOD, "dose"], dropna=False, sort=False):
        knobs = dict(zip([*METHOD, "dose"], key, strict=True))
        row = {"place": naming.place_key(knobs), "method": naming.method_key(knobs), "control": knobs["control"]}
        row["axis"] = "neurons" if pd.isna(knobs["n_neurons"]) else "strength"
        row |= {"dose": float(knobs["dose"]), "concepts": len(group)}
        row |= {"name": naming.method(knobs, apart), "share_erased": float(share_erased(group).mean())}
        found.append(row | {measure: float(group[measure].mean()) for measure in TRADEOFF})
    columns = ["place", "method", "name", "control", "axis", "dose", "concepts", "share_erased", *TRADEOFF]
    means = pd.DataFrame(found, columns=columns).sort_values(["place", "method", "dose"], ignore_index=True)
    means["frontier"] = False
    for _, group in means[means["control"].isna()].groupby("place"):
        means.loc[group.index, "frontier"] = undominated(group["share_erased"].to_numpy(), group[COST].to_numpy())
    return means


def undominated(wanted: np.ndarray[Any, Any], cost: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return which points no other point beats: none has as much of what is wanted at less cost, or more at as much.

    >>> undominated(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.2, 0.1, 0.3, 0.4])).tolist()
    [False, True, False, True]
    """
    more, less = wanted[None] - wanted[:, None], cost[:, None] - cost[None]
    better = (more >= -TOLERANCE) & (less >= -TOLERANCE) & ((more > TOLERANCE) | (less > TOLERANCE))
    return ~better.any(axis=1) & np.isfinite(wanted) & np.isfinite(cost)


FEWEST = 2
"""Concepts that a number to sort runs by rests on at least."""
MOST_LEVELS = 5


@dataclass(frozen=True)
class Step:
    """Numbers at one point of an axis: `stage` (its number), `neurons` (edited) or `strength`."""

    axis: str
    at: float
    values: Mapping[str, float]


def steps_along_the_dose(means: pd.DataFrame) -> Iterator[Step]:
    """Give one step per dose, all methods together: `by_<axis>/<place>/<method>/<measure>`.

    Args:
        means: as `tradeoff` gives it.
    """
    for (axis, dose), group in means.groupby(["axis", "dose"], sort=True):
        values = {
            f"by_{axis}/{row['place']}/{row['method']}/{measure}": float(row[measure])
            for row in group.to_dict("records")
            for measure in TRADEOFF
            if math.isfinite(row[measure])
        }
        yield Step(str(axis), float(dose), values)
