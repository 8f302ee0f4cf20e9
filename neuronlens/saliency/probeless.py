"""Saliency by how far a concept's mean lies from the other concepts' means."""

from __future__ import annotations

import numpy as np

from neuronlens.records import ActivationSet, FloatArray
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking


def mean_distances(means: FloatArray) -> FloatArray:
    """Return the sum over c' != c of abs(mu_cj - mu_c'j).

    Args:
        means: `[concept, neuron]`; a NaN row is a concept without samples, and adds nothing to the others.

    Returns:
        `[concept, neuron]` float64; NaN for a concept without samples, or with nothing to compare it to.

    >>> mean_distances(np.array([[0.0], [1.0], [3.0]])).tolist()
    [[4.0], [3.0], [5.0]]
    """
    scores = np.full(means.shape, np.nan)
    present = np.flatnonzero(np.isfinite(means).all(axis=1))
    if len(present) > 1:
        for concept in present:  # one concept at a time: [concept, neuron] in memory instead of its square
            scores[concept] = np.abs(means[present] - means[concept]).sum(axis=0)
    return scores


class ProbelessSaliency(Ranker):
    """Scores a neuron by the sum over c' != c of abs(mu_cj - mu_c'j) (SPEC section 2, `probeless`).

    Source: Antverg & Belinkov 2022; NeuroX' probeless ranking.
    """

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]`; NaN for a concept without samples, or the only one that has any."""
        return NeuronRanking("probeless", mean_distances(activations.statistics.mean), activations.concepts)
