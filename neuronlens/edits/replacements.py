"""Edits that put one value in the place of whatever stands there: T(x) = v."""

from __future__ import annotations

import numpy as np

from neuronlens.edits.base import Affine, Edit
from neuronlens.records import ActivationSet, FloatArray


def replacement(value: FloatArray) -> Affine:
    """Return the target that is `value [neuron]` for every x."""
    return Affine(np.zeros_like(value), value)


class Zero(Edit):
    """T(x) = 0: the paper's masking."""

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return zeros."""
        return replacement(np.zeros(activations.values.shape[1]))


class Mean(Edit):
    """T(x) = the mean over all samples."""

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return the overall mean."""
        return replacement(activations.statistics.overall_mean)


class ComplementMean(Edit):
    """T(x) = the mean over the samples of all other concepts."""

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return the complement's mean; NaN where there is no other sample."""
        return replacement(activations.statistics.complement_mean[concept])
