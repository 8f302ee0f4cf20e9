"""Edits that carry a concept's values over to the other concepts' law: T(x) = scale * x + shift per neuron.

`notc` stands for the samples of all other concepts.
"""

from __future__ import annotations

import numpy as np

from neuronlens.edits.base import Affine, Edit
from neuronlens.edits.contrast import require_contrast
from neuronlens.records import ActivationSet

SIGMA_FLOOR = 1e-4
"""Deviation, in units of the activations, below which a neuron counts as constant; ml-act's threshold."""
CHUNK_VALUES = 1 << 21
"""Values [piece, neuron] that the linear transport pairs at a time, float64."""


class MeanShift(Edit):
    """T(x) = x - (mu_c - mu_notc): difference-in-means steering, ml-act's mean_ot."""

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return scale 1 and the difference of the means.

        Raises:
            ActivationError: the concept or its complement has no sample.
        """
        statistics = activations.statistics
        require_contrast(statistics, concept)
        difference = statistics.mean[concept] - statistics.complement_mean[concept]
        return Affine(np.ones_like(difference), -difference)


class GaussianTransport(Edit):
    """T(x) = (sigma_notc / sigma_c)(x - mu_c) + mu_notc: the optimal map between two Gaussians, ml-act's gaussian_ot.

    The identity where either deviation (ddof 0) is below 1e-4.
    """

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return the map between the two Gaussians of each neuron.

        Raises:
            ActivationError: the concept or its complement has no sample.
        """
        statistics = activations.statistics
        require_contrast(statistics, concept)
        source, target = statistics.std[concept], np.sqrt(statistics.complement_variance[concept])
        spread = (source >= SIGMA_FLOOR) & (target >= SIGMA_FLOOR)
        scale = np.divide(target, source, out=np.ones_like(source), where=spread)
        shift = statistics.complement_mean[concept] - scale * statistics.mean[concept]
        return Affine(scale, np.where(spread, shift, 0.0))


class LinearTransport(Edit):
    """T(x) = beta x + b, least squares from the sorted samples of c to those of notc (Rodriguez et al. 2025).

    With n samples on both sides the i-th smallest is paired with the i-th smallest. With n and m it is the same fit on
    the quantile functions: sample i holds the levels ((i - 1) / n, i / n], and a pair weighs what its levels share
    (the optimal coupling in one dimension), which uses every sample and no interpolation. beta = cov / var_c >= 0 and
    b = mu_notc - beta mu_c, so the mean arrives exactly. The identity where the deviation over S_c is below 1e-4.
    """

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return the least-squares line of each neuron.

        Raises:
            ActivationError: the concept or its complement has no sample.
        """
        require_contrast(activations.statistics, concept)
        members = activations.labels == concept
        sources, targets = int(members.sum()), int((~members).sum())
        # In units of 1 / (n m) every level is a whole number, so pieces of no width cannot appear by rounding.
        ends = np.union1d(np.arange(1, sources + 1) * targets, np.arange(1, targets + 1) * sources)
        weights = np.diff(ends, prepend=0) / (sources * targets)
        from_source, from_target = (ends - 1) // targets, (ends - 1) // sources
        neurons = activations.values.shape[1]
        scale, shift = np.ones(neurons), np.zeros(neurons)
        width = max(1, CHUNK_VALUES // len(ends))
        for start in range(0, neurons, width):
            chunk = slice(start, start + width)
            values = activations.values[:, chunk].astype(np.float64)
            source, target = values[members], values[~members]
            source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
            source = np.sort(source - source_mean, axis=0)[from_source]
            target = np.sort(target - target_mean, axis=0)[from_target]
            variance, covariance = weights @ source**2, weights @ (source * target)
            spread = variance >= SIGMA_FLOOR**2
            scale[chunk] = np.divide(covariance, variance, out=np.ones_like(variance), where=spread)
            shift[chunk] = np.where(spread, target_mean - scale[chunk] * source_mean, 0.0)
        return Affine(scale, shift)
