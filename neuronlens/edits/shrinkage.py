"""How much a covariance is shrunk before it is inverted, alike for every method that inverts one.

Shrinking by `a` gives (1 - a) Sigma + a t I, t the mean variance of a neuron. It leaves eigenvectors as they are, so one
eigendecomposition serves every amount.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuronlens.config.schema import COVARIANCES
from neuronlens.errors import ActivationError, ConfigError, unknown
from neuronlens.records import ActivationSet, FloatArray, SecondMoments

RIDGES = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)
"""Amounts that `selected` chooses from, beside Ledoit and Wolf's."""
FIXED = {"empirical": 0.0, "shrunk": 0.1}
CONSTANT = 1e-12
"""A deviation below this share of the mean is float64 rounding: no neuron varies."""
TOLERANCE = 1e-10
"""Eigenvalues below this share of the largest count as 0."""


@dataclass(frozen=True)
class Whitened:
    """A shrunk covariance as V diag(roots^2) V^T, its null space left out.

    Attributes:
        mean: `[neuron]`.
        roots: of the eigenvalues that are kept `[kept]`.
        vectors: V `[neuron, kept]`.
    """

    mean: FloatArray
    roots: FloatArray
    vectors: FloatArray

    def solve(self, vector: FloatArray) -> FloatArray:
        """Return Sigma^+ times a vector `[neuron]`, or times each column `[neuron, column]`."""
        scale = self.roots**-2
        inner = self.vectors.T @ vector
        return np.asarray(self.vectors @ (inner * (scale if vector.ndim == 1 else scale[:, None])))


def whitened(second: SecondMoments, shrinkage: float, *, tolerance: float = TOLERANCE) -> Whitened:
    """Return a covariance shrunk by an amount in [0, 1], ready to be inverted.

    Raises:
        ActivationError: fewer than two samples, or no neuron that varies (covariance of rank 0).
        ConfigError: a tolerance outside [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance is {tolerance}, expected a number in [0, 1).")
    if second.count < 2:
        raise ActivationError(f"{second.count} samples to fit a covariance on, expected at least 2.")
    variance = np.trace(second.covariance)
    if not variance > CONSTANT**2 * (second.mean @ second.mean):
        raise ActivationError(
            f"None of the {len(second.mean)} neurons varies over {second.count} samples: the covariance has rank 0, "
            "and there is no concept to erase. Next: more samples, or another layer."
        )
    eigenvalues, vectors = second.eigen
    shrunk = (1 - shrinkage) * eigenvalues + shrinkage * variance / len(second.mean)
    kept = shrunk > tolerance * shrunk[-1]
    return Whitened(second.mean, np.sqrt(shrunk[kept]), vectors[:, kept])


def shrinkage_of(activations: ActivationSet, covariance: str) -> float:
    """Return the amount that an option of `intervention.covariance` stands for.

    Raises:
        ActivationError: `selected` without a select split.
        ConfigError: an unknown option.
    """
    if covariance not in COVARIANCES:
        raise ConfigError(unknown("covariance", covariance, COVARIANCES))
    if covariance == "selected":
        return selected(activations)
    return ledoit_wolf(activations.second) if covariance == "ledoit_wolf" else FIXED[covariance]


def shrinkage_within(second: SecondMoments, activations: ActivationSet, covariance: str) -> float:
    """Return the amount for a covariance within classes of the activations: Ledoit and Wolf's own, else as `shrinkage_of`.

    Raises:
        ActivationError, ConfigError: as `shrinkage_of` does.
    """
    return ledoit_wolf(second) if covariance == "ledoit_wolf" else shrinkage_of(activations, covariance)


def ledoit_wolf(second: SecondMoments) -> float:
    """Return Ledoit and Wolf's amount (2004): the expected error of the covariance over its distance from t I.

    Both are squared Frobenius norms: beta = (mean |x - m|^4 - |Sigma|^2) / n and delta = |Sigma - t I|^2.
    """
    size = float((second.covariance**2).sum())
    distance = size - float(np.trace(second.covariance)) ** 2 / len(second.mean)
    error = (second.fourth - size) / second.count
    return 0.0 if error <= 0 else min(1.0, error / distance) if distance > 0 else 1.0


def selected(activations: ActivationSet) -> float:
    """Return the amount under which the concepts' discriminant coordinates tell them apart best on the select split.

    That is the largest mean, over the concepts, of the correlation on select between w_c . x and being of concept c, with
    w_c = Sigma^-1 (mu_c - mu_notc) from the fit split. Of equally good amounts the smallest. It names no edit and no gate,
    so every method gets the same covariance.

    Raises:
        ActivationError: there is no select split, or no concept has samples and others there.
    """
    held_out = activations.select
    if held_out is None:
        raise ActivationError("covariance 'selected' chooses on the select split, which was not recorded.")
    here, there = activations.statistics, held_out.statistics
    share = there.count / max(there.count.sum(), 1)
    usable = np.flatnonzero((share > 0) & (share < 1) & (here.count > 0) & (here.count < here.count.sum()))
    if not len(usable):
        raise ActivationError("the select split holds no concept beside another: no shrinkage can be chosen on it")
    fitted = (here.mean - here.complement_mean)[usable].T
    seen = (there.mean - there.complement_mean)[usable].T
    amounts = sorted({*RIDGES, ledoit_wolf(activations.second)})
    quality = []
    for amount in amounts:
        reads = whitened(activations.second, amount).solve(fitted)
        spread = np.sqrt(np.einsum("nc,nm,mc->c", reads, held_out.second.covariance, reads, optimize=True))
        deviation = np.sqrt(share[usable] * (1 - share[usable]))
        between = (reads * seen).sum(axis=0) * deviation
        quality.append(np.mean(np.divide(between, spread, out=np.zeros_like(between), where=spread > 0)))
    return amounts[int(np.argmax(quality))]
