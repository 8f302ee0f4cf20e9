"""Saliency by the sensitivity index of signal detection theory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neuronlens.records import ActivationSet, ConceptStatistics, FloatArray
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking

VARIANCE_FLOOR = 1e-8
"""Added to the mean variance, in squared units of the activations: a constant neuron scores 0 and not 0 / 0."""


def sensitivity(statistics: ConceptStatistics) -> FloatArray:
    """Return d' = abs(mu_cj - mu_notc,j) / sqrt((var_cj + var_notc,j) / 2 + 1e-8).

    Returns:
        `[concept, neuron]` float64; NaN for a concept that has no sample, or all of them.
    """
    spread = np.sqrt((statistics.variance + statistics.complement_variance) / 2 + VARIANCE_FLOOR)
    return np.abs(statistics.mean - statistics.complement_mean) / spread


def with_second_score(ranking: NeuronRanking, statistics: ConceptStatistics) -> NeuronRanking:
    """Return the ranking with d' as what orders neurons of equal score, unless its ranker gave another second score.

    Args:
        statistics: of the activations that were ranked.
    """
    if ranking.second is not None:
        return ranking
    return replace(ranking, second=sensitivity(statistics))


class DprimeSaliency(Ranker):
    """Scores a neuron by the distance of the means in units of the pooled deviation (SPEC section 2, `dprime`)."""

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]`; NaN for a concept that has no sample, or all of them."""
        return NeuronRanking("dprime", sensitivity(activations.statistics), activations.concepts)
