"""Paired bootstrap intervals, and collateral compared at matched erasure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neuronlens.records import FloatArray

METHOD = ["layer", "site", "saliency", "range", "tau", "gate", "edit", "edit_positions"]
COLLATERAL = ["complement_accuracy_drop", "complement_confidence_drop", "kl"]


def resample_counts(samples: int, resamples: int, seed: int) -> FloatArray:
    """Return how often each bootstrap draw takes each sample `[resample, sample]`; the same for equal arguments."""
    generator = np.random.default_rng([seed, samples, resamples])
    return generator.multinomial(samples, np.full(samples, 1.0 / samples), size=resamples).astype(np.float32)


def interval(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper percentile bounds over the first axis of `draws`."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return low, high


def mean_interval(values: FloatArray, *, level: float, resamples: int, seed: int) -> tuple[float, float, float]:
    """Return the mean of a sample and its bootstrap interval; NaN for an empty one."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    draws = resample_counts(len(values), max(resamples, 1), seed) @ np.asarray(values, dtype=np.float64) / len(values)
    low, high = interval(draws, level)
    return float(np.mean(values)), float(low), float(high)


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


def dose_columns(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the columns that tell methods apart and those along which a method's dose grows.

    The number of neurons is the dose where it varies, and strength then tells methods apart; else strength is the dose.
    """
    edited = rows[rows["edit"] != "none"]
    if edited["n_neurons"].nunique() > 1 or edited["strength"].nunique() <= 1:
        return [*METHOD, "strength"], ["n_neurons"]
    return [*METHOD, "n_neurons"], ["strength"]


def matched_erasure(rows: pd.DataFrame, levels: Sequence[float]) -> pd.DataFrame:
    """Return each method's collateral at given shares of the base accuracy erased, per concept.

    A fixed-strength comparison is unfair: the same strength erases different amounts (SPEC section 5).

    Args:
        rows: the results table.
        levels: concept drop as shares of the concept's base accuracy, in (0, 1].
    Returns:
        One row per (method x level x concept), collateral NaN where the method never erases as much.
    """
    method, dose = dose_columns(rows)
    edited = rows[(rows["edit"] != "none") & rows["skipped"].isna()]
    found = []
    for key, curve in edited.groupby([*method, "concept"], dropna=False, sort=False):
        curve = curve.sort_values(dose)
        base = float(curve["base_concept_accuracy"].iloc[0])
        if not base > 0:
            continue
        drops, collateral = curve["concept_accuracy_drop"].to_numpy(), curve[COLLATERAL].to_numpy()
        for level in levels:
            values = at_erasure(drops, collateral, level * base)
            found.append((*key, level, *values))
    return pd.DataFrame(found, columns=[*method, "concept", "level", *COLLATERAL])


def compare_gates(matched: pd.DataFrame, *, level: float, resamples: int, seed: int) -> pd.DataFrame:
    """Return, per range method and erasure level, its collateral minus the neuron mask's, paired by concept.

    Args:
        matched: as `matched_erasure` gives it.
        level: of the interval over concepts.
    Returns:
        One row per (range method x erasure level): for each collateral measure the mean of both over the concepts that
        both reach, the mean difference (negative: the range spares more) with its interval, `wins` and `n_concepts`.
    """
    if matched.empty:
        return pd.DataFrame()
    shared = [column for column in matched.columns if column not in ("concept", "range", "tau", "gate", *COLLATERAL)]
    neuron = matched[matched["gate"] == "neuron"].drop(columns=["range", "tau", "gate"])
    ours = matched[matched["gate"] != "neuron"]
    if neuron.empty or ours.empty:
        return pd.DataFrame()
    paired = ours.merge(neuron, on=[*shared, "concept"], suffixes=("", "_neuron"))
    found = []
    for key, group in paired.groupby(["range", "tau", "gate", *shared], dropna=False, sort=False):
        row = dict(zip(["range", "tau", "gate", *shared], key, strict=True))
        both = group.dropna(subset=[*COLLATERAL, *(f"{name}_neuron" for name in COLLATERAL)])
        row["n_concepts"] = len(both)
        row["reached_range"] = int(group[COLLATERAL[0]].notna().sum())
        row["reached_neuron"] = int(group[f"{COLLATERAL[0]}_neuron"].notna().sum())
        for name in COLLATERAL:
            difference = (both[name] - both[f"{name}_neuron"]).to_numpy()
            row[f"{name}_range"], row[f"{name}_neuron"] = both[name].mean(), both[f"{name}_neuron"].mean()
            mean, low, high = mean_interval(difference, level=level, resamples=resamples, seed=seed)
            row[f"{name}_difference"], row[f"{name}_low"], row[f"{name}_high"] = mean, low, high
            row[f"{name}_wins"] = int((difference < 0).sum())
        found.append(row)
    return pd.DataFrame(found)
