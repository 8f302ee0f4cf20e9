"""Methods held against each other at matched erasure, paired by concept."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from neuronlens.measures.columns import COLLATERAL, COST, METHOD, RESULTS, WHERE
from neuronlens.measures.intervals import Bootstrap


def compare_gates(matched: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return, per range method and erasure level, its collateral minus the neuron mask's of the same edit, by concept.

    Args:
        matched: as `matched_erasure` gives it.
        bootstrap: of the intervals over concepts.

    Returns:
        One row per (range method x erasure level): for each collateral measure the mean of both over the concepts that
        both reach, the mean difference (negative: the range spares more) with its interval, `wins` and `n_concepts`.
    """
    own = RESULTS.keys("range")
    shared = [column for column in matched.columns if column not in ("concept", *own, *COLLATERAL)]
    neuron = matched[matched["gate"] == "neuron"].drop(columns=own)
    ours = matched[matched["gate"] == "range"]
    if neuron.empty or ours.empty:
        return pd.DataFrame()
    paired = _join(ours, neuron, [*shared, "concept"])
    found = []
    for key, group in paired.groupby([*own, *shared], dropna=False, sort=False):
        found.append(dict(zip([*own, *shared], key, strict=True)) | _paired(group, bootstrap))
    return pd.DataFrame(found)


def rank_methods(matched: pd.DataFrame, bootstrap: Bootstrap) -> pd.DataFrame:
    """Return every method against the plain neuron mask (edit `zero`, full strength) of its ranking, best first.

    Best is the lowest mean complement confidence drop among methods that reach the level in at least half the concepts;
    the others follow. Differences are paired over the concepts that both reach; means are the method's own, over all the
    concepts it reaches.

    Returns:
        One row per (method x level) with the columns of `compare_gates`, the method's own means with their intervals and
        `concepts`, how many it was swept on; where no zeroing neuron mask was swept, differences are NaN.
    """
    if matched.empty:
        return pd.DataFrame()
    zero = plain_mask(matched) & (matched["strength"].isna() | (matched["strength"] == RESULTS["strength"].neutral))
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
        row |= _paired(group, bootstrap)
        row["concepts"] = len(group)
        for name in COLLATERAL:
            own = group[name].dropna().to_numpy(dtype=float)
            row[name], row[f"{name}_own_low"], row[f"{name}_own_high"] = bootstrap.of_mean(own)
        found.append(row)
    table = pd.DataFrame(found)
    table["often"] = table["reached_range"] * 2 >= table["concepts"]
    order = [*WHERE, "level", "often", COST]
    ascending = [True] * len(WHERE) + [True, False, True]
    return table.sort_values(order, ascending=ascending, kind="stable", ignore_index=True).drop(columns="often")


def plain_mask(methods: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are the plain neuron mask: every salient neuron zeroed, no control."""
    return (methods["gate"] == "neuron") & (methods["edit"] == "zero") & methods["control"].isna()


def _paired(group: pd.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return one method's collateral against its baseline's, over the concepts that both reach."""
    both = group.dropna(subset=[*COLLATERAL, *(f"{name}_neuron" for name in COLLATERAL)])
    row: dict[str, Any] = {"n_concepts": len(both)}
    row["reached_range"] = int(group[COLLATERAL[0]].notna().sum())
    row["reached_neuron"] = int(group[f"{COLLATERAL[0]}_neuron"].notna().sum())
    for name in COLLATERAL:
        difference = (both[name] - both[f"{name}_neuron"]).to_numpy(dtype=float)
        row[f"{name}_range"], row[f"{name}_neuron"] = both[name].mean(), both[f"{name}_neuron"].mean()
        row[f"{name}_difference"], row[f"{name}_low"], row[f"{name}_high"] = bootstrap.of_mean(difference)
        row[f"{name}_wins"] = int((difference < 0).sum())
    return row


def _join(
    ours: pd.DataFrame, baseline: pd.DataFrame, on: list[str], how: Literal["inner", "left"] = "inner"
) -> pd.DataFrame:
    """Return ours beside the baseline's collateral (`_neuron`), joined where `on` agrees, null with null."""
    keyed = [
        table.assign(_key=table[on].astype(object).where(table[on].notna(), None).apply(tuple, axis=1))
        for table in (ours, baseline)
    ]
    renamed = keyed[1][["_key", *COLLATERAL]].rename(columns={name: f"{name}_neuron" for name in COLLATERAL})
    return keyed[0].merge(renamed, on="_key", how=how).drop(columns="_key")
