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
from neuronlens.errors import ActivationError, ConfigError, ShapeError, unknown
from neuronlens.records import ActivationSet, FloatArray, IntArray

CORRELATION_FLOOR = 1e-9
"""A whitened cross-covariance below this, relative to the concept's own deviation, is float64 rounding."""


class Leace(Edit):
    """Least-squares concept erasure of one concept against the rest."""

    mixes_neurons = True

    def __init__(self, *, covariance: Annotated[str, OneOf(COVARIANCES)] = "ledoit_wolf") -> None:
        """Estimate the covariance so: see `LeaceFitter`.

        Raises:
            ConfigError: an unknown covariance.
        """
        if covariance not in COVARIANCES:
            raise ConfigError(unknown("covariance", covariance, COVARIANCES))
        self.covariance = covariance
        self._whitened: tuple[ActivationSet, LeaceFitter] | None = None

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the erasure; the identity, with the reason, where no neuron varies with the concept.

        The whitening is kept for the next concept of the same activations.

        Raises:
            ActivationError: fewer than two samples, or no neuron that varies.
        """
        return self.fitter(activations).erase(activations.labels == concept)

    def fitter(self, activations: ActivationSet) -> LeaceFitter:
        """Return the whitening of these activations, kept until others are given.

        Raises:
            ActivationError: fewer than two samples, or no neuron that varies.
        """
        if self._whitened is None or self._whitened[0] is not activations:
            self._whitened = activations, LeaceFitter(activations.values, covariance=self.covariance)
        return self._whitened[1]


class LeaceFitter:
    """Whitens a site's activations once, and erases any number of concepts from them."""

    def __init__(self, values: FloatArray, *, covariance: str = "empirical", tolerance: float = 1e-10) -> None:
        """Fit mean and covariance, in float64; costs one eigendecomposition `[neuron, neuron]`.

        Args:
            values: `[sample, neuron]`, finite; not modified.
            covariance: `empirical`, scikit-learn's `shrunk` (by 0.1) or its `ledoit_wolf`. With fewer samples than
                neurons the empirical one is singular and its erasure fits the samples' noise: shrink it. The
                erasure is exact on the fitted samples either way; which change counts as smallest differs.
            tolerance: eigenvalues below this share of the largest count as 0, and their directions are left alone.

        Raises:
            ActivationError: fewer than two samples, or no neuron that varies (covariance of rank 0).
            ConfigError: an unknown covariance, or a tolerance outside [0, 1).
        """
        if covariance not in COVARIANCES:
            raise ConfigError(unknown("covariance", covariance, COVARIANCES))
        if not 0 <= tolerance < 1:
            raise ConfigError(f"tolerance is {tolerance}, expected a number in [0, 1).")
        if len(values) < 2:
            raise ActivationError(f"{len(values)} samples to fit a covariance on, expected at least 2.")
        wide = values.astype(np.float64)
        self.mean: FloatArray = wide.mean(axis=0)
        self._centred = wide - self.mean
        sigma = covariance_of(self._centred, covariance)
        eigenvalues, vectors = np.linalg.eigh(sigma)
        kept = eigenvalues > tolerance * eigenvalues[-1]
        if not (values.max(axis=0) > values.min(axis=0)).any() or not kept.any():
            raise ActivationError(
                f"None of the {values.shape[1]} neurons varies over {len(values)} samples: the covariance has rank 0, "
                "and there is no concept to erase. Next: more samples, or another layer."
            )
        self._roots: FloatArray = np.sqrt(eigenvalues[kept])
        self._vectors: FloatArray = vectors[:, kept]

    def erase(self, labels: IntArray) -> Projection:
        """Return the erasure of one labelling: `labels == c` for one concept, the labels themselves for all at once.

        Args:
            labels: bool or integer `[sample]`, of the samples fitted on. k values give a projection of rank k - 1 at
                most. They are read as a one-hot indicator, so their order and numbers play no part.

        Returns:
            The projection; the identity, with the reason, where the labels are constant or no neuron varies with them.

        Raises:
            ShapeError: samples and labels differ in number.
        """
        samples, neurons = self._centred.shape
        if len(labels) != samples:
            raise ShapeError(f"{samples} rows of activations, {len(labels)} labels.")
        classes, index = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            return identity(neurons, f"all {samples} samples bear one label: there is nothing to erase")
        indicator = np.eye(len(classes))[index]
        indicator -= indicator.mean(axis=0)
        basis, singular, _ = np.linalg.svd(self.whitened(indicator.T @ self._centred / samples).T, full_matrices=False)
        basis = basis[:, singular > CORRELATION_FLOOR * np.sqrt(np.mean(indicator**2))]
        if not basis.shape[1]:
            return identity(neurons, "no neuron's mean differs between the labels: there is nothing to erase")
        return self.projection(basis.T, basis.T)

    def whitened(self, directions: FloatArray) -> FloatArray:
        """Return W d for each row of `[direction, neuron]`, in the eigenbasis of the covariance `[direction, component]`.

        W is diagonal there, and the basis drops out of every product of two such rows.
        """
        return directions @ self._vectors / self._roots

    def projection(self, read: FloatArray, write: FloatArray) -> Projection:
        """Return x - W^+ write^T read W (x - mean), both given in the eigenbasis `[rank, component]`."""
        return Projection(self.mean, (read / self._roots) @ self._vectors.T, (write * self._roots) @ self._vectors.T)


def covariance_of(centred: FloatArray, covariance: str) -> FloatArray:
    """Return the covariance of `[sample, neuron]` whose mean is 0, `[neuron, neuron]` float64.

    Args:
        covariance: `empirical`, scikit-learn's `shrunk` (by 0.1) or its `ledoit_wolf`.
    """
    from sklearn.covariance import empirical_covariance, ledoit_wolf, shrunk_covariance

    if covariance == "ledoit_wolf":
        found: FloatArray = ledoit_wolf(centred, assume_centered=True)[0]
        return found
    sigma: FloatArray = empirical_covariance(centred, assume_centered=True)
    return shrunk_covariance(sigma) if covariance == "shrunk" else sigma
