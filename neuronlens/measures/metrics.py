"""Turns outcomes into the measures of SPEC section 5, with paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from neuronlens.measures.columns import MEASURES, RESULTS
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import BoolArray, FloatArray, IntArray
from neuronlens.sweep.evaluator import Outcomes


@dataclass(frozen=True)
class BaseOutcomes:
    """The unedited model's gold probability and correctness `[sample]`, evaluated once per (model, data)."""

    gold: FloatArray
    correct: BoolArray

    @classmethod
    def of(cls, log_probabilities: FloatArray, prediction: IntArray, labels: IntArray) -> BaseOutcomes:
        """Return the outcomes behind log-probabilities `[sample, concept]` and predictions `[sample]`."""
        gold = np.exp(log_probabilities[np.arange(len(labels)), labels])
        return cls(gold, prediction == labels)


def measure(
    outcomes: Outcomes, cells: IntArray, base: BaseOutcomes, in_concept: BoolArray, bootstrap: Bootstrap
) -> dict[str, FloatArray]:
    """Return every measure of some cells of one concept, and its interval's bounds.

    The concept's and the complement's samples are resampled each within itself; base and edited share every resample.

    Args:
        cells: which rows of `outcomes`.
        in_concept: which samples carry the concept `[sample]`.

    Returns:
        `[cell]` per measure, `<measure>_low` and `<measure>_high`; NaN where a side has no sample.
    """
    points = _measures(outcomes, cells, base, in_concept, None)
    draws = _measures(outcomes, cells, base, in_concept, bootstrap)
    found = {name: points[name][0] for name in MEASURES}
    for name in MEASURES:
        found |= dict(zip(RESULTS[name].ends, bootstrap.bounds(draws[name]), strict=True))
    return found


def _measures(
    outcomes: Outcomes, cells: IntArray, base: BaseOutcomes, in_concept: BoolArray, bootstrap: Bootstrap | None
) -> Mapping[str, FloatArray]:
    """Return `[resample, cell]` per measure; one row, the plain means, where `bootstrap` is None."""
    found: dict[str, FloatArray] = {}
    for side, chosen in (("concept", in_concept), ("complement", ~in_concept)):
        samples = np.flatnonzero(chosen)
        weights = None if bootstrap is None else bootstrap.counts(len(samples))
        edited = np.ix_(cells, samples)
        accuracy, confidence = _mean(weights, outcomes.correct[edited]), _mean(weights, outcomes.gold[edited])
        base_accuracy = np.broadcast_to(_mean(weights, base.correct[None, samples]), accuracy.shape)
        base_confidence = np.broadcast_to(_mean(weights, base.gold[None, samples]), accuracy.shape)
        found |= {
            f"{side}_accuracy": accuracy,
            f"{side}_confidence": confidence,
            f"base_{side}_accuracy": base_accuracy,
            f"base_{side}_confidence": base_confidence,
            f"{side}_accuracy_drop": base_accuracy - accuracy,
            f"{side}_confidence_drop": base_confidence - confidence,
        }
        if side == "complement":
            found["kl"] = _mean(weights, outcomes.kl[edited])
            found["flip_rate"] = _mean(weights, outcomes.flipped[edited])
    found["selectivity"] = found["concept_accuracy_drop"] - found["complement_accuracy_drop"]
    return found


def _mean(weights: FloatArray | None, values: FloatArray | BoolArray) -> FloatArray:
    """Return means `[resample, cell]` of values `[cell, sample]`, float64, plain without weights; NaN over no sample."""
    if not values.shape[1]:
        return np.full((1 if weights is None else len(weights), len(values)), np.nan)
    if weights is None:
        return values.astype(np.float64).mean(axis=1)[None]
    return (weights @ values.astype(np.float32).T).astype(np.float64) / values.shape[1]
