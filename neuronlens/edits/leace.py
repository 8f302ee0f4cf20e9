"""Least-squares concept erasure in closed form (LEACE): the smallest change after which no linear probe finds the concept.

Belrose, Schneider-Joseph, Ravfogel, Cotterell, Raff & Biderman 2023, arXiv 2306.03819: with W = Sigma_xx^(-1/2), a
pseudo-inverse, and U an orthonormal basis of the column space of W Sigma_xz, r(x) = x - W^+ U U^T W (x - mean).
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import OneOf
from neuronlens.config.schema import COVARIANCES
from neuronlens.edits.base import Edit, Projection, identity
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.shrinkage import Whitened, shrinkage_of, whitened
from neuronlens.errors import ConfigError, unknown
from neuronlens.records import ActivationSet, FloatArray

CORRELATION_FLOOR = 1e-9
"""A whitened cross-covariance below this, relative to the concept's own deviation, is float64 rounding."""


class Leace(Edit):
    """Least-squares concept erasure of one concept against the rest: x - z delta_c, of rank one.

    z is the discriminant coordinate (`edits/discriminant.py`), delta_c the difference of the concept's mean and the others'.
    """

    mixes_neurons = True
    reads_covariance = True

    def __init__(self, *, covariance: Annotated[str, OneOf(COVARIANCES)] = "ledoit_wolf") -> None:
        """Shrink the covariance so: see `shrinkage.shrinkage_of`.

        Raises:
            ConfigError: an unknown covariance.
        """
        if covariance not in COVARIANCES:
            raise ConfigError(unknown("covariance", covariance, COVARIANCES))
        self.covariance = covariance
        self.needs_select = covariance == "selected"
        self._whitened: tuple[ActivationSet, Whitened] | None = None

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the erasure; the identity, with the reason, where no neuron varies with the concept.

        The whitening is kept for the next concept of the same activations.

        Raises:
            ActivationError: fewer than two samples, or no neuron that varies.
        """
        fitted, statistics = self.whitening(activations), activations.statistics
        require_contrast(statistics, concept)
        share = statistics.count[concept] / statistics.count.sum()
        crossed = share * (1 - share) * (statistics.mean[concept] - statistics.complement_mean[concept])
        return erasure(fitted, crossed[:, None], np.sqrt(share * (1 - share)))

    def whitening(self, activations: ActivationSet) -> Whitened:
        """Return the shrunk covariance of these activations, kept until others are given.

        Raises:
            ActivationError: fewer than two samples, or no neuron that varies.
        """
        if self._whitened is None or self._whitened[0] is not activations:
            shrinkage = shrinkage_of(activations, self.covariance)
            self._whitened = activations, whitened(activations.second, shrinkage)
        return self._whitened[1]


def erasure(fitted: Whitened, crossed: FloatArray, deviation: float) -> Projection:
    """Return the least change after which nothing linear tells the labels, of which some are given, apart.

    Args:
        crossed: Sigma_xz, the covariance of neurons and labels `[neuron, label]`.
        deviation: of a label, root mean square over the labels.

    Returns:
        The projection, of rank `label` at most; the identity, with the reason, where no neuron varies with them.
    """
    # In the eigenbasis W is diagonal: W Sigma_xz = V diag(1 / root) V^T Sigma_xz, and V drops out of U U^T.
    basis, singular, _ = np.linalg.svd((fitted.vectors.T @ crossed) / fitted.roots[:, None], full_matrices=False)
    basis = basis[:, singular > CORRELATION_FLOOR * deviation]
    if not basis.shape[1]:
        return identity(len(crossed), "no neuron's mean differs between the labels: there is nothing to erase")
    read = (fitted.vectors / fitted.roots) @ basis
    write = (fitted.vectors * fitted.roots) @ basis
    return Projection(fitted.mean, np.ascontiguousarray(read.T), np.ascontiguousarray(write.T))
