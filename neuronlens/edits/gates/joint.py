"""The joint gate (naive Bayes): one decision from all salient neurons at once, in front of any edit."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from neuronlens.config.rules import OneOf
from neuronlens.config.schema import WHOLE_VECTORS
from neuronlens.edits.gates.base import Decides, Evidence, Gate, Score, whole_vector_grain
from neuronlens.errors import ActivationError
from neuronlens.records import ActivationSet, BoolArray, ConceptStatistics, FloatArray

VARIANCE_FLOOR = 1e-6
"""Added to every variance, squared units of the activations, so that a constant neuron keeps a law."""


class JointGate(Gate):
    """Open where sum over salient j of log p(x_j | c) - log p(x_j | not c), Gaussian laws, exceeds a threshold.

    The threshold separates the concept from the rest best on the select split (SPEC section 4, `joint`).
    """

    reads_range = False
    reads_ranking = True
    needs_select = True

    def __init__(self, *, grain: Annotated[str, OneOf(WHOLE_VECTORS)] = "position") -> None:
        """Decide for each position, or for each sample from the mean of its tokens.

        Raises:
            ConfigError: another grain.
        """
        self.grain = whole_vector_grain(grain)

    def opening(self, evidence: Evidence) -> Score | Decides:
        """Return the ratio minus its threshold.

        Raises:
            ActivationError: the select split holds the concept in all or in none of its samples.
        """
        select, member = chosen_on(evidence)
        ratio = likelihood_ratio(evidence.activations.statistics, evidence.concept, evidence.salient)
        threshold = best_threshold(ratio(select.values), member)
        score = replace(ratio, constant=ratio.constant - threshold)
        return of_samples(score) if self.grain == "sample" else score


def of_samples(score: Score) -> Decides:
    """Return a position's score as one of the mean of a sample's tokens, those so far in a causal model."""
    from neuronlens.edits.gates.decisions import Quadratic  # here, so that a config is checked without torch

    return Quadratic.of(score, over="so_far")


def chosen_on(evidence: Evidence) -> tuple[ActivationSet, BoolArray]:
    """Return the activations of the select split, and which of its samples carry the concept `[sample]`.

    Raises:
        ActivationError: all of them do or none does.
    """
    assert evidence.select is not None, "a gate that needs the select split is given it"
    member = evidence.select.labels == evidence.concept
    if member.all() or not member.any():
        raise ActivationError("the select split holds the concept in all or in none of its samples")
    return evidence.select, member


def likelihood_ratio(statistics: ConceptStatistics, concept: int, salient: BoolArray) -> Score:
    """Return log p(x | c) - log p(x | not c) under Gaussian laws, summed over the salient neurons `[neuron]`, nats."""
    here, there = statistics.mean[concept], statistics.complement_mean[concept]
    spread = statistics.variance[concept] + VARIANCE_FLOOR
    others = statistics.complement_variance[concept] + VARIANCE_FLOOR
    quadratic = np.where(salient, 0.5 / others - 0.5 / spread, 0.0)
    linear = np.where(salient, here / spread - there / others, 0.0)
    constant = 0.5 * (there**2 / others - here**2 / spread + np.log(others / spread))
    return Score(quadratic, linear, float(constant[salient].sum()))


def best_threshold(scores: FloatArray, member: BoolArray) -> float:
    """Return the threshold that separates a concept from the rest best: the largest hit rate - false alarm rate.

    Halfway between two neighbouring scores; of equally good ones the highest, which gates fewest.

    Args:
        scores: `[sample]`, on the select split.
        member: which samples carry the concept `[sample]`; some must, and some must not.

    >>> best_threshold(np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True]))
    2.0
    """
    order = np.argsort(scores, kind="stable")
    ascending, hit = scores[order], member[order]
    members, others = int(hit.sum()), int((~hit).sum())
    hits = members - np.concatenate([[0], np.cumsum(hit)])
    alarms = others - np.concatenate([[0], np.cumsum(~hit)])
    cuts = np.concatenate([[-np.inf], (ascending[1:] + ascending[:-1]) / 2, [np.inf]])
    distinct = np.concatenate([[True], ascending[1:] > ascending[:-1], [True]])
    # Hit rate - false alarm rate, times both counts: whole numbers, so that equally good ones are equal (TRAPS 42).
    quality = np.where(distinct, hits * others - alarms * members, np.iinfo(np.int64).min)
    return float(cuts[len(quality) - 1 - int(np.argmax(quality[::-1]))])
