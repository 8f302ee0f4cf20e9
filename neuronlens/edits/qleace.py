"""Quadratic concept erasure behind a gate (QLEACE): carries the concept's Gaussian to the barycentre of both classes.

Belrose et al. 2023, arXiv 2306.03819, and concept-erasure's `quadratic.py`: x -> T_z (x - mu_z) + mu with T_z the optimal
transport from class z's Gaussian to the Wasserstein barycentre. Of two classes the barycentre lies on the straight line of
the transport from one to the other: T_c = p_c I + p_notc T_(c -> notc), p the classes' shares.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import OneOf
from neuronlens.config.schema import COVARIANCES
from neuronlens.edits.base import Edit, Projection
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.shrinkage import shrinkage_within
from neuronlens.errors import ActivationError, ConfigError, unknown
from neuronlens.records import ActivationSet, FloatArray, SecondMoments

FLOOR = 1e-10
"""Variances below this share of the largest count as 0, and their directions are left as they are."""


class Qleace(Edit):
    """T(x) = T_c (x - mu_c) + mu: right for samples of the concept, so it stands behind a gate that detects these.

    mu = p_c mu_c + p_notc mu_notc is the barycentre's mean. (concept-erasure takes the unweighted mean of the class means,
    which is the same for classes of equal size.)
    """

    mixes_neurons = True
    needs_gate = True

    def __init__(self, *, covariance: Annotated[str, OneOf(COVARIANCES)] = "ledoit_wolf") -> None:
        """Estimate each class's covariance so: see `shrinkage.shrinkage_of`.

        Raises:
            ConfigError: an unknown covariance.
        """
        if covariance not in COVARIANCES:
            raise ConfigError(unknown("covariance", covariance, COVARIANCES))
        self.covariance = covariance
        self.needs_select = covariance == "selected"

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the transport of the concept's class, an affine map of full rank.

        Raises:
            ActivationError: the concept or its complement has fewer than two samples, or no neuron that varies.
        """
        statistics = activations.statistics
        require_contrast(statistics, concept)
        member = activations.labels == concept
        share = float(statistics.count[concept] / statistics.count.sum())
        if min(member.sum(), (~member).sum()) < 2:
            raise ActivationError(
                "a covariance of each class needs at least 2 samples of the concept and of the others"
            )
        wide = activations.values.astype(np.float64)
        source, rest = (self._covariance(wide[own], activations) for own in (member, ~member))
        here, there = statistics.mean[concept], statistics.complement_mean[concept]
        # P(x) = x - (1 - share) ((I - T)(x - mu_c) + mu_c - mu_notc): share of the way from T_(c -> notc) back to x.
        away = (1 - share) * (np.eye(len(here)) - gaussian_map(source, rest))
        return Projection(here, away, np.eye(len(here)), shift=(1 - share) * (there - here))

    def _covariance(self, values: FloatArray, activations: ActivationSet) -> FloatArray:
        """Return one class's shrunk covariance `[neuron, neuron]`."""
        second = SecondMoments.of(values)
        amount = shrinkage_within(second, activations, self.covariance)
        scale = np.trace(second.covariance) / len(second.mean)
        return (1 - amount) * second.covariance + amount * scale * np.eye(len(second.mean))


def gaussian_map(source: FloatArray, target: FloatArray) -> FloatArray:
    """Return the optimal transport map between two centred Gaussians, S^(-1/2) (S^(1/2) R S^(1/2))^(1/2) S^(-1/2).

    Args:
        source, target: covariances S and R `[neuron, neuron]`. In directions where S has no variance it is the identity.

    Returns:
        `[neuron, neuron]`, symmetric. Source: Knott & Smith 1984.

    Raises:
        ActivationError: the source has no variance at all.

    >>> gaussian_map(np.diag([1.0, 4.0]), np.diag([9.0, 1.0])).round(6).tolist()
    [[3.0, 0.0], [0.0, 0.5]]
    """
    values, vectors = np.linalg.eigh(source)
    kept = values > FLOOR * values[-1]
    if not kept.any() or values[-1] <= 0:
        raise ActivationError("no neuron varies over the concept's samples: its covariance has rank 0")
    roots, basis = np.sqrt(values[kept]), vectors[:, kept]
    middle = (basis * roots).T @ target @ (basis * roots)
    inner, turned = np.linalg.eigh(middle)
    root = (turned * np.sqrt(np.maximum(inner, 0))) @ turned.T
    whitening = basis / roots
    outside: FloatArray = np.eye(len(source)) - basis @ basis.T
    return whitening @ root @ whitening.T + outside
