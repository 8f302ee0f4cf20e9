"""Edits that scale a value towards 0: T(x) = a x, 0 <= a <= 1 or by how well a neuron separates the concept from the rest."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import between
from neuronlens.edits.base import Affine, Edit
from neuronlens.edits.contrast import require_contrast
from neuronlens.errors import ConfigError
from neuronlens.records import ActivationSet
from neuronlens.saliency.auroc import auroc

BETA = 0.125
"""What dampening leaves of a value: the published soft mask's factor."""


class Dampen(Edit):
    """T(x) = beta x."""

    mixes_neurons = False
    by_distance = False

    def __init__(self, *, beta: Annotated[float, between(0, 1, "[)", noun="a factor")] = BETA) -> None:
        """Leave `beta` of a value.

        Raises:
            ConfigError: beta is not in [0, 1).
        """
        if not 0 <= beta < 1:
            raise ConfigError(f"beta is {beta}, expected a number in [0, 1): 0 zeroes, 1 would change nothing.")
        self.beta = float(beta)

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return the scale beta, for every neuron."""
        neurons = activations.values.shape[1]
        return Affine(np.full(neurons, self.beta), np.zeros(neurons), by_distance=self.by_distance)


class DampenDistance(Dampen):
    """T(x) = beta x clip(abs(x - m) / h, 0, 1), m and h centre and half-width of the interval: the published soft mask."""

    by_distance = True


class Aura(Edit):
    """T(x) = (1 - 2 (AUROC_j - 0.5)) x where AUROC_j(c against the rest) > 0.5, else x (Suau et al. 2024)."""

    mixes_neurons = False

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        """Return one scale per neuron.

        Raises:
            ActivationError: the concept or its complement has no sample.
        """
        require_contrast(activations.statistics, concept)
        area = auroc(activations.values, (activations.labels == concept).astype(np.int64), 2)[1]
        return Affine(np.where(area > 0.5, 1 - 2 * (area - 0.5), 1.0), np.zeros_like(area))
