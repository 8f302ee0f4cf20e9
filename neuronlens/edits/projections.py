"""Edits that take one direction out of the whole vector."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np

from neuronlens.edits.base import Edit, Projection, identity
from neuronlens.edits.contrast import require_contrast
from neuronlens.records import ActivationSet, ConceptStatistics, FloatArray

RELATIVE_ZERO = 1e-12
"""A difference of means this small, relative to the means, is float64 rounding and has no direction."""


class MeanProjection(Edit):
    """P(x) = x - d d^T (x - m), d = (mu_c - mu_notc) / |mu_c - mu_notc|, m the mean over all samples.

    The orthogonal projection that makes the two means equal (Haghighatkhah et al. 2022): LEACE without the whitening.
    """

    mixes_neurons = True

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the projection; the identity where the two means coincide.

        Raises:
            ActivationError: the concept or its complement has no sample.
        """
        direction = mean_direction(activations.statistics, concept)
        if isinstance(direction, Projection):
            return direction
        return Projection(activations.statistics.overall_mean, direction[None], direction[None])


class DirectionalAblation(Edit):
    """P(x) = x - d d^T x with d = (mu_c - mu_notc) / |mu_c - mu_notc|.

    The component is taken away down to 0, through the origin (Arditi et al. 2024), not down to a mean.
    """

    mixes_neurons = True

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the ablation; the identity where the two means coincide.

        Raises:
            ActivationError: the concept or its complement has no sample.
        """
        direction = mean_direction(activations.statistics, concept)
        if isinstance(direction, Projection):
            return direction
        return Projection(np.zeros_like(direction), direction[None], direction[None])


def mean_direction(statistics: ConceptStatistics, concept: int) -> FloatArray | Projection:
    """Return (mu_c - mu_notc) / |mu_c - mu_notc| `[neuron]`; the identity, with the reason, where both coincide.

    Raises:
        ActivationError: the concept or its complement has no sample.
    """
    require_contrast(statistics, concept)
    here, there = statistics.mean[concept], statistics.complement_mean[concept]
    length = np.linalg.norm(here - there)
    if length <= RELATIVE_ZERO * max(np.linalg.norm(here), np.linalg.norm(there)):
        return identity(len(here), "the means of the concept and of its complement coincide: no direction to remove")
    direction: FloatArray = (here - there) / length
    return direction


def random_direction(projection: Projection, concept: str, seed: int) -> Projection:
    """Return a projection that writes along random directions: the control `random_direction`.

    What it reads, and how far it moves, stays: each row of `write` keeps its length. Drawn by seed and the concept's name.
    """
    generator = np.random.default_rng([seed, zlib.crc32(concept.encode())])
    drawn = generator.normal(size=projection.write.shape)
    lengths = np.linalg.norm(projection.write, axis=1, keepdims=True)
    return replace(projection, write=drawn * lengths / np.linalg.norm(drawn, axis=1, keepdims=True))
