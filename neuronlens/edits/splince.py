"""Covariance-preserving erasure (SPLINCE): no linear probe finds the concept, and the other concepts keep their distances.

Holstege, Ravfogel & Wouters 2025, arXiv 2506.10703 (read second-hand: the formula below is that of docs/SPEC.md). With
W = Sigma^(-1/2), u = W Sigma_xz / |W Sigma_xz|, U an orthonormal basis of W (mu_c' - mu_notc) over the concepts c' to
keep, and Q = I - U U^T: r(x) = x - W^+ u (u^T Q u)^-1 u^T Q W (x - mean). Without U it is LEACE.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import OneOf
from neuronlens.config.schema import COVARIANCES
from neuronlens.edits.base import Projection, identity
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.leace import CORRELATION_FLOOR, Leace
from neuronlens.edits.shrinkage import Whitened
from neuronlens.records import ActivationSet, FloatArray

INDEPENDENT_SHARE = 1e-8
"""Of the whitened direction's square, what must lie outside the span of the directions to keep."""

ROUNDING = 1e-9
"""Lengths below this share of the largest are float64 rounding."""


class Splince(Leace):
    """Erases one concept and keeps the differences between the other concepts' means exactly.

    After it cov(x, z_c) = 0, and mu_c' - mu_c'' is what it was for all c', c'' other than c, whichever covariance whitens.
    """

    def __init__(self, *, covariance: Annotated[str, OneOf(COVARIANCES)] = "ledoit_wolf") -> None:
        """Estimate the covariance so: see `shrinkage.shrinkage_of`.

        Raises:
            ConfigError: an unknown covariance.
        """
        super().__init__(covariance=covariance)

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the erasure; the identity, with the reason, where there is nothing to erase or no way to keep the others.

        Raises:
            ActivationError: the concept or its complement has no sample, or no neuron varies.
        """
        statistics = activations.statistics
        require_contrast(statistics, concept)
        fitted = self.whitening(activations)
        here, there = statistics.mean[concept], statistics.complement_mean[concept]
        share = statistics.count[concept] / statistics.count.sum()
        direction = _whiten(fitted, (here - there)[None])[0]
        length = float(np.linalg.norm(direction))
        if length * np.sqrt(share * (1 - share)) <= CORRELATION_FLOOR:
            return identity(len(here), "no neuron's mean differs between the labels: there is nothing to erase")
        unit = direction / length
        others = [c for c in np.flatnonzero(statistics.count) if c != concept]
        kept = span(_whiten(fitted, statistics.mean[others] - there), scale=length)
        free = unit - (unit @ kept.T) @ kept
        overlap = float(free @ free)  # u^T Q u
        if overlap <= INDEPENDENT_SHARE:
            return identity(
                len(here),
                "its mean lies in the span of the other concepts' means: erasing it would change their distances",
            )
        read, write = (free / overlap / fitted.roots) @ fitted.vectors.T, (unit * fitted.roots) @ fitted.vectors.T
        return Projection(fitted.mean, read[None], write[None])


def _whiten(fitted: Whitened, directions: FloatArray) -> FloatArray:
    """Return W d for each row of `[direction, neuron]`, in the eigenbasis of the covariance `[direction, component]`.

    W is diagonal there, and the basis drops out of every product of two such rows.
    """
    return directions @ fitted.vectors / fitted.roots


def span(rows: FloatArray, *, scale: float = 0.0) -> FloatArray:
    """Return an orthonormal basis of the span of `[row, component]`, `[rank, component]`; rounding has no direction.

    Args:
        scale: a length beside which a row may be rounding.

    >>> span(np.array([[2.0, 0.0], [4.0, 0.0]])).shape
    (1, 2)
    """
    _, singular, basis = np.linalg.svd(rows, full_matrices=False)
    return basis[singular > ROUNDING * max(scale, *singular)]
