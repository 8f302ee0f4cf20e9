"""Saliency by effect: how much the concept's logit would change, to first order, if a neuron took the others' mean."""

from __future__ import annotations

import numpy as np

from neuronlens.errors import ActivationError
from neuronlens.records import ActivationSet, FloatArray
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
            ActivationError: as `mean_slopes` does.
        """
        statistics = activations.statistics
        scores = np.abs(mean_slopes(activations, "saliency=gradient") * (statistics.mean - statistics.complement_mean))
        return NeuronRanking("gradient", scores, activations.concepts)


def mean_slopes(activations: ActivationSet, asked_by: str) -> FloatArray:
    """Return the mean over a concept's texts of d logit_c / d x `[concept, neuron]`; NaN for a concept without any.

    Args:
        asked_by: the setting that asks for it, for the message.

    Raises:
        ActivationError: these activations cannot tell their gradients: they are stored, or of an edited model.
    """
    texts = activations.records or activations
    if texts.gradients is None:
        raise ActivationError(
            f"{asked_by} runs the model backwards, and these activations come without it. Next: sweep {asked_by} in the run "
            "itself"
        )
    slopes, found = texts.gradients(texts.labels), np.full(activations.statistics.mean.shape, np.nan)
    for concept in np.intersect1d(np.flatnonzero(activations.statistics.count), texts.labels):
        found[concept] = slopes[texts.labels == concept].mean(axis=0, dtype=np.float64)
    return found
