"""The numbers of a run under names that never change: flat, for sorting and optimising, and along the dose, for charts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.config.nodes import option_of
from neuronlens.config.schema import Config
from neuronlens.measures.matched import COLLATERAL, METHOD, curves
from neuronlens.records import ResultTable

MEASURES = (
    *("concept_accuracy_drop", "concept_confidence_drop", "complement_accuracy_drop", "complement_confidence_drop"),
    *("selectivity", "kl"),
)
ERASED, COST = "concept_accuracy_drop", "complement_confidence_drop"
"""The axes of the trade-off: what is wanted, and what it costs the other concepts."""
HEADLINE_LEVEL = 0.5
"""Share of a concept erased at which headlines are told: the swept level nearest to it, the higher of two."""
SPOKEN = {"complement_accuracy_drop": "accuracy", "complement_confidence_drop": "confidence", "kl": "kl"}


def word(text: str) -> str:
    """Return text as one word of a metric's name: letters, digits and underscores, the only ones that W&B sorts by.

    >>> word("resid_post.5"), word("tau2.5"), word("x-1"), word("tau inf")
    ('resid_post_5', 'tau2_5', 'xminus1', 'tau_inf')
    """
    return re.sub(r"[^0-9A-Za-z]+", "_", text.replace("-", "minus")).strip("_")


def place_of(row: Mapping[str, Any]) -> str:
    """Return where an edit is made: `resid_post_5`."""
    return word(f"{row['site']}.{row['layers']}")


def method_of(row: Mapping[str, Any]) -> str:
    """Return a method's name: every knob that is its own, in a fixed order.

    >>> knobs = {"gate": "range", "edit": "zero", "range": "gaussian", "tau": 2.5, "saliency": "max", "strength": 1.0}
    >>> method_of(knobs | {"control": None, "top_fraction": None, "n_neurons": None})
    'range_zero_gaussian_tau2_5_max'
    """
    parts = [row["gate"], row["edit"]]
    if pd.notna(row["range"]):
        parts.append(row["range"])
    if pd.notna(row["tau"]):
        parts.append(f"tau{row['tau']:g}")
    if pd.notna(row["saliency"]):
        parts.append(row["saliency"])
    if pd.notna(row["strength"]) and row["strength"] != 1:
        parts.append(f"x{row['strength']:g}")
    if pd.notna(row["top_fraction"]):
        parts.append(f"top{row['top_fraction']:g}")
    elif pd.notna(row["n_neurons"]) and pd.notna(row["saliency"]):
        parts.append(f"{row['n_neurons']:g}neurons")
    if pd.notna(row["control"]):
        parts.append(row["control"])
    return word("_".join(map(str, parts)))


def level_of(row: Mapping[str, Any]) -> str:
    """Return an erasure level: `erased_60` where 60 % of a concept's base accuracy is gone."""
    return word(f"erased_{100 * row['level']:g}")


def headline_row(comparison: pd.DataFrame, config: Config) -> dict[str, Any] | None:
    """Return the one comparison of range with neuron mask that stands for the run, chosen before its results are known.

    It has the configured range, tau, saliency, edit and strength where these were swept and else the first that were, no
    control, the deepest place and the level nearest to `HEADLINE_LEVEL`. None where nothing was compared.
    """
    if comparison.empty:
        return None
    rows = comparison[comparison["control"].isna()]
    if rows.empty:
        return None
    wanted: dict[str, Any] = {"range": option_of(config, "range"), "tau": config.headline_tau}
    wanted |= {"saliency": option_of(config, "saliency"), "edit": config.intervention.edit}
    wanted["strength"] = config.intervention.strength
    for knob, value in wanted.items():
        kept, told = rows[rows[knob] == value], rows[knob].dropna()
        if kept.empty and len(told):
            kept = rows[rows[knob] == told.iloc[0]]
        rows = kept if len(kept) else rows  # nobody has the knob
    rows = rows[rows["layers"] == rows["layers"].iloc[-1]]
    distance = (rows["level"] - HEADLINE_LEVEL).abs().round(9)
    nearest = rows[distance == distance.min()]
    return {str(name): value for name, value in nearest.loc[nearest["level"].idxmax()].items()}


def flat(table: ResultTable, config: Config) -> dict[str, float]:
    """Return the run's numbers by name, finite ones alone.

    `base/...`: the unedited model. `headline/...`: `headline_row`, for W&B sweeps to optimise. `matched/<place>/<method>/
    <level>/<measure>_difference`: every range method minus the neuron mask of the same edit (comparison.parquet).
    `methods/<place>/<method>/<level>/<measure>`: every method's own collateral there (methods.parquet).
    """
    found: dict[str, Any] = {f"base/{name}": value for name, value in table.base.items()}
    found["cells/skipped"] = int(table.rows["skipped"].notna().sum())
    row = headline_row(table.comparison, config)
    if row is not None:
        found["headline/erased"] = row["level"]
        for measure, spoken in SPOKEN.items():
            found[f"headline/{spoken}_difference"] = row[f"{measure}_difference"]
        found["headline/range_collateral"] = row[f"{COST}_range"]
        found["headline/neuron_collateral"] = row[f"{COST}_neuron"]
        found["headline/wins"] = row[f"{COST}_wins"] / row["n_concepts"] if row["n_concepts"] else math.nan
        found["headline/reached"] = row["n_concepts"]
    for compared in table.comparison.to_dict("records"):
        key = f"matched/{place_of(compared)}/{method_of(compared)}/{level_of(compared)}"
        found |= {f"{key}/{measure}_difference": compared[f"{measure}_difference"] for measure in COLLATERAL}
    for method in table.methods.to_dict("records"):
        key = f"methods/{place_of(method)}/{method_of(method)}/{level_of(method)}"
        found |= {f"{key}/{measure}": method[measure] for measure in COLLATERAL}
    return {name: float(value) for name, value in found.items() if pd.notna(value) and math.isfinite(value)}


def tradeoff(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the trade-off: every method's means over the concepts at each dose, and which of them no other beats.

    Args:
        rows: the results table.
    Returns:
        One row per (method x dose) with `place`, `method`, `axis` (`neurons` or `strength`), `dose`, the means of
        `MEASURES` and `frontier`: among the methods of a place, controls left out, none erases as much at a lower cost.
    """
    edited = curves(rows)
    found = []
    for key, group in edited.groupby([*METHOD, "dose"], dropna=False, sort=False):
        knobs = dict(zip([*METHOD, "dose"], key, strict=True))
        row = {"place": place_of(knobs), "method": method_of(knobs), "control": knobs["control"]}
        row["axis"] = "neurons" if pd.isna(knobs["n_neurons"]) else "strength"
        row |= {"dose": float(knobs["dose"]), "concepts": len(group)}
        found.append(row | {measure: float(group[measure].mean()) for measure in MEASURES})
    columns = ["place", "method", "control", "axis", "dose", "concepts", *MEASURES]
    means = pd.DataFrame(found, columns=columns).sort_values(["place", "method", "dose"], ignore_index=True)
    means["frontier"] = False
    for _, group in means[means["control"].isna()].groupby("place"):
        means.loc[group.index, "frontier"] = undominated(group[ERASED].to_numpy(), group[COST].to_numpy())
    return means


def undominated(wanted: np.ndarray[Any, Any], cost: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return which points no other point beats: none has as much of what is wanted at less cost, or more at as much.

    >>> undominated(np.array([0.1, 0.5, 0.5, 0.9]), np.array([0.2, 0.1, 0.3, 0.4])).tolist()
    [False, True, False, True]
    """
    as_good = (wanted[None] >= wanted[:, None]) & (cost[None] <= cost[:, None])
    better = as_good & ((wanted[None] > wanted[:, None]) | (cost[None] < cost[:, None]))
    return ~better.any(axis=1) & np.isfinite(wanted) & np.isfinite(cost)


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
            for measure in MEASURES
            if math.isfinite(row[measure])
        }
        yield Step(str(axis), float(dose), values)
