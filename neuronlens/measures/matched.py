"""Methods compared where they erase the same share of a concept: what each costs the others there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.measures.intervals import mean_interval
from neuronlens.records import FloatArray

WHERE = ["layer", "layers", "site", "edit_positions"]
"""What is not a method's own: methods are compared with these equal."""
METHOD = [
    *WHERE,
    *("saliency", "range", "tau", "gate", "edit", "parameters", "control", "strength", "n_neurons", "top_fraction"),
]
"""Columns that tell methods apart; the dose along a method's curve is null among them."""
COLLATERAL = ["complement_accuracy_drop", "complement_confidence_drop", "kl"]


def method_name(row: dict[str, Any]) -> str:
    """Return a method as people say it: `range (mixture, tau 2.5) mask, complement_mean`."""
    parts = [str(row["gate"])]
    if pd.notna(row["range"]):
        parts.append(f"({row['range']}" + (f" {row['tau']:g})" if pd.notna(row["tau"]) else ")"))
    parts.append(str(row["edit"]))
    if pd.notna(row["strength"]) and row["strength"] != 1:
        parts.append(f"x {row['strength']:g}")
    if pd.notna(row["control"]):
        parts.append(f"({row['control']})")
    return " ".join(parts)


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


def with_method(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every column of `METHOD`: one that an older version did not write yet is null."""
    missing = [column for column in METHOD if column not in table]
    return table.assign(**dict.fromkeys(missing)) if missing and len(table) else table


def curves(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the edited, evaluated rows with their `dose` and, in the dose's own columns, null: methods are then equal.

    The dose is the number of neurons where a method was swept over it, and strength then tells methods apart; else it is
    the strength. An edit that mixes neurons touches all of them, so it always has strength for its dose.
    """
    edited = with_method(rows[(rows["edit"] != "none") & rows["skipped"].isna()]).copy()
    edited["dose"] = np.nan
    parts = []
    shared = [*WHERE, "saliency", "range", "tau", "gate", "edit", "control"]
    for _, group in edited.groupby(shared, dropna=False, sort=False):
        by_neurons = group["n_neurons"].nunique() > 1
        dose = "n_neurons" if by_neurons else "strength"
        group = group.assign(dose=group[dose].astype(float))
        group[dose] = pd.NA if dose == "n_neurons" else np.nan
        if by_neurons:
            group["top_fraction"] = np.nan
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
        drops, collateral = curve["concept_accuracy_drop"].to_numpy(), curve[COLLATERAL].to_numpy()
        found += [(*key, level, *at_erasure(drops, collateral, level * base)) for level in levels]
    return pd.DataFrame(found, columns=[*METHOD, "concept", "level", *COLLATERAL])


def plain_mask(methods: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are the plain neuron mask: every salient neuron zeroed, no control."""
    return (methods["gate"] == "neuron") & (methods["edit"] == "zero") & methods["control"].isna()


def _paired(group: pd.DataFrame, *, level: float, resamples: int, seed: int) -> dict[str, Any]:
    """Return one method's collateral against its baseline's, over the concepts that both reach."""
    both = group.dropna(subset=[*COLLATERAL, *(f"{name}_neuron" for name in COLLATERAL)])
    row: dict[str, Any] = {"n_concepts": len(both)}
    row["reached_range"] = int(group[COLLATERAL[0]].notna().sum())
    row["reached_neuron"] = int(group[f"{COLLATERAL[0]}_neuron"].notna().sum())
    for name in COLLATERAL:
        difference = (both[name] - both[f"{name}_neuron"]).to_numpy(dtype=float)
        row[f"{name}_range"], row[f"{name}_neuron"] = both[name].mean(), both[f"{name}_neuron"].mean()
        mean, low, high = mean_interval(difference, level=level, resamples=resamples, seed=seed)
        row[f"{name}_difference"], row[f"{name}_low"], row[f"{name}_high"] = mean, low, high
        row[f"{name}_wins"] = int((difference < 0).sum())
    return row


def compare_gates(matched: pd.DataFrame, *, level: float, resamples: int, seed: int) -> pd.DataFrame:
    """Return, per range method and erasure level, its collateral minus the neuron mask's of the same edit, by concept.

    Args:
        matched: as `matched_erasure` gives it.
        level: of the interval over concepts.
    Returns:
        One row per (range method x erasure level): for each collateral measure the mean of both over the concepts that
        both reach, the mean difference (negative: the range spares more) with its interval, `wins` and `n_concepts`.
    """
    own = ["range", "tau", "gate", "parameters"]  # the edit's are equal where the edit is; the gate's are its own
    shared = [column for column in matched.columns if column not in ("concept", *own, *COLLATERAL)]
    neuron = matched[matched["gate"] == "neuron"].drop(columns=own)
    ours = matched[matched["gate"] == "range"]
    if neuron.empty or ours.empty:
        return pd.DataFrame()
    paired = _join(ours, neuron, [*shared, "concept"])
    found = []
    for key, group in paired.groupby([*own, *shared], dropna=False, sort=False):
        statistics = _paired(group, level=level, resamples=resamples, seed=seed)
        found.append(dict(zip([*own, *shared], key, strict=True)) | statistics)
    return pd.DataFrame(found)


def _join(ours: pd.DataFrame, baseline: pd.DataFrame, on: list[str], how: Any = "inner") -> pd.DataFrame:
    """Return ours beside the baseline's collateral (`_neuron`), joined where `on` agrees, null with null."""
    keyed = [
        table.assign(_key=table[on].astype(object).where(table[on].notna(), None).apply(tuple, axis=1))
        for table in (ours, baseline)
    ]
    renamed = keyed[1][["_key", *COLLATERAL]].rename(columns={name: f"{name}_neuron" for name in COLLATERAL})
    return keyed[0].merge(renamed, on="_key", how=how).drop(columns="_key")


def rank_methods(matched: pd.DataFrame, *, level: float, resamples: int, seed: int) -> pd.DataFrame:
    """Return every method against the plain neuron mask (edit `zero`, full strength) of its ranking, best first.

    Best is the lowest mean complement confidence drop among methods that reach the level in at least half the concepts;
    the others follow. Differences are paired over the concepts that both reach; means are the method's own, over all the
    concepts it reaches.

    Returns:
        One row per (method x level); where no zeroing neuron mask was swept, differences are NaN.
    """
    if matched.empty:
        return pd.DataFrame()
    zero = plain_mask(matched) & (matched["strength"].isna() | (matched["strength"] == 1))
    at = [*WHERE, "saliency", "level", "concept"]
    baseline = matched[zero].drop_duplicates(at)
    if len(baseline):  # an edit without a ranking is held against the first ranking's mask
        first = baseline["saliency"].iloc[0]
        matched = matched.assign(_own=matched["saliency"], saliency=matched["saliency"].fillna(first))
    filled = _join(matched, baseline, at, how="left")
    if "_own" in filled:
        filled = filled.assign(saliency=filled["_own"]).drop(columns="_own")
    found = []
    for key, group in filled.groupby([*METHOD, "level"], dropna=False, sort=False):
        row = dict(zip([*METHOD, "level"], key, strict=True))
        row |= _paired(group, level=level, resamples=resamples, seed=seed)
        row["concepts"] = len(group)
        for name in COLLATERAL:
            own = group[name].dropna().to_numpy(dtype=float)
            bounds = mean_interval(own, level=level, resamples=resamples, seed=seed)
            row[name], row[f"{name}_own_low"], row[f"{name}_own_high"] = bounds
        found.append(row)
    table = pd.DataFrame(found)
    table["often"] = table["reached_range"] * 2 >= table["concepts"]
    order = [*WHERE, "level", "often", "complement_confidence_drop"]
    ascending = [True] * len(WHERE) + [True, False, True]
    return table.sort_values(order, ascending=ascending, kind="stable", ignore_index=True).drop(columns="often")


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
    open_knobs = [*WHERE, "saliency", "range", "gate", "edit", "control", "concept"]
    candidates = select[(select["edit"] != "none") & select["skipped"].isna()]
    by_cell = test.set_index("cell_id")
    found = []
    for key, group in candidates.groupby(open_knobs, dropna=False, sort=False):
        for level in levels:
            needed = level * group["base_concept_accuracy"]
            enough = group[(group["concept_accuracy_drop"] >= needed - 1e-12) & (group["base_concept_accuracy"] > 0)]
            row: dict[str, Any] = dict(zip(open_knobs, key, strict=True)) | {"level": level}
            if len(enough):
                chosen = enough.loc[enough["complement_confidence_drop"].idxmin()]
                row |= by_cell.loc[chosen["cell_id"]].to_dict() | {"cell_id": chosen["cell_id"]}
                for name in ("concept_accuracy_drop", "complement_confidence_drop"):
                    row[f"select_{name}"] = chosen[name]
            found.append(row)
    return pd.DataFrame(found)
