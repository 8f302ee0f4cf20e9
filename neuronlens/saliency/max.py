"""Saliency by mean magnitude, the ranking of the paper's reference code."""

from __future__ import annotations

from neuronlens.records import ActivationSet
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking


class MaxSaliency(Ranker):
    """Scores a neuron for a concept by the mean of abs(x) over the concept's samples (SPEC section 2, `max`)."""

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]`; NaN for a concept without samples."""
        return NeuronRanking("max", activations.statistics.mean_abs, activations.concepts)
