"""Turns outcomes into the measures of SPEC section 5, each with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuronlens.measures.columns import MEASURES
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import BoolArray, FloatArray, IntArray
from neuronlens.sweep.evaluator import Outcomes

MOST_VALUES = 1 << 22
"""Cells x samples that are measured at once: some 0.3 GB while they are."""


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

    Accuracies and the flip rate are shares (Wilson), drops of accuracy are paired by sample (Tango), selectivity is the
    difference of two such drops (MOVER), everything else is a mean over samples.

    Args:
        cells: which rows of `outcomes`.
        in_concept: which samples carry the concept `[sample]`.

    Returns:
        `[cell]` per measure, `<measure>_low` and `<measure>_high`; NaN where a side has no sample.
    """
    most = max(MOST_VALUES // max(len(in_concept), 1), 1)
    parts = [
        _measure(outcomes, cells[start : start + most], base, in_concept, bootstrap)
        for start in range(0, len(cells), most)
    ]
    return {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}


def _measure(
    outcomes: Outcomes, cells: IntArray, base: BaseOutcomes, in_concept: BoolArray, bootstrap: Bootstrap
) -> dict[str, FloatArray]:
    found: dict[str, Estimate] = {}
    for side, chosen in (("concept", in_concept), ("complement", ~in_concept)):
        samples = np.flatnonzero(chosen)
        edited, n = np.ix_(cells, samples), len(samples)
        gold, base_gold = outcomes.gold[edited].astype(np.float64), base.gold[samples].astype(np.float64)
        right, base_right = outcomes.correct[edited].astype(bool), base.correct[samples].astype(bool)
        lost, gained = (base_right & ~right).sum(axis=1), (~base_right & right).sum(axis=1)
        found |= {
            f"{side}_accuracy": bootstrap.of_share(right.sum(axis=1), n),
            f"{side}_confidence": bootstrap.of_mean(gold),
            f"base_{side}_accuracy": bootstrap.of_share(base_right.sum(), n),
            f"base_{side}_confidence": bootstrap.of_mean(base_gold),
            f"{side}_accuracy_drop": bootstrap.of_paired_shares(lost, gained, n),
            f"{side}_confidence_drop": bootstrap.of_mean(base_gold - gold),
        }
        if side == "complement":
            found["kl"] = bootstrap.of_mean(outcomes.kl[edited])
            found["flip_rate"] = bootstrap.of_share(outcomes.flipped[edited].sum(axis=1), n)
    found["selectivity"] = bootstrap.of_difference(found["concept_accuracy_drop"], found["complement_accuracy_drop"])
    columns = {column: values for name in MEASURES for column, values in found[name].columns(name).items()}
    return {column: np.broadcast_to(values, cells.shape) for column, values in columns.items()}
