"""Methods held against each other where they are matched, in erasure or in damage, paired by concept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from neuronlens.measures.columns import COLLATERAL, COST, ERASED, ERASURE, METHOD, RESULTS, WHERE
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.matched import BOUND
from neuronlens.measures.significance import sign_flip_p
from neuronlens.records import BoolArray, FloatArray
from neuronlens.sweep.doses import TOLERANCE


@dataclass(frozen=True)
class Matching:
    """What methods are held against each other by.

    Attributes:
        at: columns that say where they are matched.
        values: measures that are compared there.
        first: the measure that methods are ranked by.
        bounded: whether each measure has a bound (`<measure>_bound`) where a method does not get there.
    """

    at: tuple[str, ...]
    values: tuple[str, ...]
    first: str
    bounded: bool


AT_ERASURE = Matching(("level",), tuple(COLLATERAL), COST, bounded=True)
"""What methods cost the others where they erase the same (`matched_erasure`)."""
AT_BUDGET = Matching(("damage", "budget"), tuple(ERASURE), ERASED, bounded=False)
"""What methods erase where they cost the others the same at most (`erasure_at_budget`)."""


def compare_gates(matched: pd.DataFrame, bootstrap: Bootstrap, by: Matching = AT_ERASURE) -> pd.DataFrame:
    """Return, per range method and place of matching, its measures minus the neuron mask's of the same edit, by concept.

    A range of tau = inf is the neuron mask itself: it is not compared.

    Args:
        matched: as `matched_erasure` or `erasure_at_budget` gives it.
        bootstrap: of the intervals over concepts.

    Returns:
        One row per (range method x place of matching): for each measure the mean of both over the concepts that both
        reach, the mean difference with its interval, `p` (exact sign-flip test of this comparison alone), `wins` (concepts
        in which the range is the better one) and `n_concepts`. Where measures are bounded the same over all `n_all`
        concepts, `<measure>_all_...`: a method that does not reach the level counts with its bound; in
        `<measure>_wins_all` it loses, and where neither reaches it, or both are equal, it is one of `<measure>_ties_all`.
    """
    if matched.empty:
        return pd.DataFrame()
    own = RESULTS.keys("range")
    shared = [*(column for column in METHOD if column not in own), *by.at]
    neuron = matched[matched["gate"] == "neuron"].drop(columns=own)
    ours = matched[(matched["gate"] == "range") & (matched["tau"] != np.inf)]
    if neuron.empty or ours.empty:
        return pd.DataFrame()
    paired = _join(ours, neuron, [*shared, "concept"], by)
    found = []
    for key, group in paired.groupby([*own, *shared], dropna=False, sort=False):
        found.append(dict(zip([*own, *shared], key, strict=True)) | _paired(group, bootstrap, by))
    return pd.DataFrame(found)


def rank_methods(matched: pd.DataFrame, bootstrap: Bootstrap, by: Matching = AT_ERASURE) -> pd.DataFrame:
    """Return every method against the plain neuron mask (edit `zero`, full strength) of its ranking, best first.

    Best is the best mean of the measure ranked by (at matched erasure the lowest complement confidence drop) among methods
    that reach the level in at least half the concepts; the others follow. Differences are paired over the concepts that
    both reach; means are the method's own, over all the concepts it reaches.

    Returns:
        One row per (method x place of matching) with the columns of `compare_gates`, the method's own means with their
        intervals and `concepts`, how many it was swept on; where no zeroing neuron mask was swept, differences are NaN.
    """
    if matched.empty:
        return pd.DataFrame()
    zero = _is_baseline(matched)
    at = [*WHERE, "saliency", *by.at, "concept"]
    baseline = matched[zero].drop_duplicates(at)
    if len(baseline):  # an edit without a ranking is held against the first ranking's mask
        first = baseline["saliency"].iloc[0]
        matched = matched.assign(_own=matched["saliency"], saliency=matched["saliency"].fillna(first))
    filled = _join(matched, baseline, at, by, how="left")
    if "_own" in filled:
        filled = filled.assign(saliency=filled["_own"]).drop(columns="_own")
    found = []
    for key, group in filled.groupby([*METHOD, *by.at], dropna=False, sort=False):
        row = dict(zip([*METHOD, *by.at], key, strict=True))
        row |= _paired(group, bootstrap, by)
        row["concepts"] = len(group)
        for name in by.values:
            own = group[name].dropna().to_numpy(dtype=float)
            row[name], row[f"{name}_own_low"], row[f"{name}_own_high"] = bootstrap.of_mean(own)
        found.append(row)
    table = pd.DataFrame(found)
    table.loc[_is_baseline(table), [f"{name}_p" for name in by.values]] = float("nan")  # no comparison with itself
    table["often"] = table["reached_range"] * 2 >= table["concepts"]
    order = [*WHERE, *by.at, "often", by.first]
    ascending = [*([True] * (len(order) - 2)), False, RESULTS[by.first].better == "low"]
    return table.sort_values(order, ascending=ascending, kind="stable", ignore_index=True).drop(columns="often")


def compare_pairs(matched: pd.DataFrame, row: Mapping[Any, Any]) -> pd.DataFrame:
    """Return what both masks of one comparison at matched erasure cost in each concept that both erase as much.

    Args:
        row: of `compare_gates`.

    Returns:
        One row per concept: `concept`, and `COST` of the `range` and the `neuron` mask.
    """
    own = RESULTS.keys("range")
    for knob in [*(knob for knob in METHOD if knob not in own), "level"]:
        matched = matched[matched[knob].isna() if pd.isna(row[knob]) else matched[knob] == row[knob]]
    neuron, ours = matched[matched["gate"] == "neuron"], matched[matched["gate"] == "range"]
    for knob in own:
        ours = ours[ours[knob].isna() if pd.isna(row[knob]) else ours[knob] == row[knob]]
    columns = ["concept", COST]
    both = ours[columns].merge(neuron[columns], on="concept", suffixes=("_range", "_neuron")).dropna()
    return both.rename(columns={f"{COST}_{mask}": mask for mask in ("range", "neuron")})


def plain_mask(methods: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows are the plain neuron mask: every salient neuron zeroed, no control."""
    return (methods["gate"] == "neuron") & (methods["edit"] == "zero") & methods["control"].isna()


def _is_baseline(methods: pd.DataFrame) -> pd.Series[bool]:
    full = methods["strength"].isna() | (methods["strength"] == RESULTS["strength"].neutral)
    return plain_mask(methods) & full


def _paired(group: pd.DataFrame, bootstrap: Bootstrap, by: Matching) -> dict[str, Any]:
    """Return one method's measures against its baseline's, over the concepts that both reach, and over all."""
    both = group.dropna(subset=[*by.values, *(f"{name}_neuron" for name in by.values)])
    first = by.values[0]
    row: dict[str, Any] = {"n_concepts": len(both)}
    row["reached_range"] = int(group[first].notna().sum())
    row["reached_neuron"] = int(group[f"{first}_neuron"].notna().sum())
    for name in by.values:
        difference = beyond_rounding((both[name] - both[f"{name}_neuron"]).to_numpy(dtype=float))
        row[f"{name}_range"], row[f"{name}_neuron"] = both[name].mean(), both[f"{name}_neuron"].mean()
        row[f"{name}_difference"], row[f"{name}_low"], row[f"{name}_high"] = bootstrap.of_mean(difference)
        row[f"{name}_p"] = sign_flip_p(difference, seed=bootstrap.seed)
        row[f"{name}_wins"] = int(_better(name, difference).sum())
    return row | (_over_all(group, bootstrap, by) if by.bounded else {})


def _over_all(group: pd.DataFrame, bootstrap: Bootstrap, by: Matching) -> dict[str, Any]:
    """Return the measures against the baseline's over every concept of both, those not reached at their bound."""
    every = group.dropna(subset=[f"{name}{BOUND}_neuron" for name in by.values])
    row: dict[str, Any] = {"n_all": len(every)}
    for name in by.values:
        ours, theirs = (every[f"{name}{BOUND}{end}"].to_numpy(dtype=float) for end in ("", "_neuron"))
        here, there = every[name].notna().to_numpy(), every[f"{name}_neuron"].notna().to_numpy()
        row[f"{name}_all_range"], row[f"{name}_all_neuron"] = (
            float(side.mean()) if len(every) else np.nan for side in (ours, theirs)
        )
        ends = bootstrap.of_mean(beyond_rounding(ours - theirs))
        row[f"{name}_all_difference"], row[f"{name}_all_low"], row[f"{name}_all_high"] = ends
        equal = here & there & (np.abs(ours - theirs) <= TOLERANCE)
        row[f"{name}_wins_all"] = int((here & (~there | _better(name, ours - theirs))).sum())
        row[f"{name}_ties_all"] = int(((~here & ~there) | equal).sum())
    return row


def beyond_rounding(differences: FloatArray) -> FloatArray:
    """Return differences with those that are rounding alone as 0: many of one sign would look like evidence."""
    return np.where(np.abs(differences) <= TOLERANCE, 0.0, differences)


def _better(name: str, difference: FloatArray) -> BoolArray:
    """Return in which concepts a measure's difference is better than none, beyond rounding."""
    return (difference if RESULTS[name].better == "high" else -difference) > TOLERANCE


def _join(
    ours: pd.DataFrame, baseline: pd.DataFrame, on: list[str], by: Matching, how: Literal["inner", "left"] = "inner"
) -> pd.DataFrame:
    """Return ours beside the baseline's measures (`_neuron`), joined where `on` agrees, null with null."""
    keyed = [
        table.assign(_key=table[on].astype(object).where(table[on].notna(), None).apply(tuple, axis=1))
        for table in (ours, baseline)
    ]
    names = [*by.values, *(f"{name}{BOUND}" for name in by.values if by.bounded)]
    renamed = keyed[1][["_key", *names]].rename(columns={name: f"{name}_neuron" for name in names})
    return keyed[0].merge(renamed, on="_key", how=how).drop(columns="_key")
