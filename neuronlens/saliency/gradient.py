"""Saliency by effect: how much the concept's logit would change, to first order, if a neuron took the others' mean."""

from __future__ import annotations

import numpy as np

from neuronlens.errors import ActivationError
from neuronlens.records import ActivationSet
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking


class GradientSaliency(Ranker):
    """Scores a neuron by abs(mean over S_c of d logit_c / d x_j * (mu_cj - mu_notc,j)) (SPEC section 2, `gradient`).

    The derivative is with respect to a number added to the neuron at every edited position, through the blocks above the
    site, replayed. It is the same attribution as attribution patching's (Nanda 2023), from the concept's mean to the others'.
    """

    needs_gradients = True

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]`, units of the logit; NaN for a concept that has no sample, or all of them.

        Raises:
            ActivationError: these activations cannot tell their gradients: they are stored, or of an edited model.
        """
        texts = activations.records or activations
        if texts.gradients is None:
            raise ActivationError(
                "saliency 'gradient' runs the model backwards, and these activations come without it. Next: sweep "
                "saliency=gradient in the run itself"
            )
        statistics = activations.statistics
        slopes = texts.gradients(texts.labels).astype(np.float64)
        scores = np.full(statistics.mean.shape, np.nan)
        apart = statistics.mean - statistics.complement_mean
        for concept in np.intersect1d(np.flatnonzero(statistics.count), texts.labels):
            scores[concept] = np.abs(slopes[texts.labels == concept].mean(axis=0) * apart[concept])
        return NeuronRanking("gradient", scores, activations.concepts)
