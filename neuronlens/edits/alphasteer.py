"""Null-space-constrained steering (AlphaSteer): moves what lies off the other concepts' principal directions, and nothing else.

Sheng et al. 2025, arXiv 2506.07022, and its `steering_utils.py` (read second-hand). H are the concept's samples as rows, P
the projector on the directions of least second moment B^T B of the other concepts' samples B, R the wanted move of every
row, here mu_notc - mu_c: Delta = ((HP)^T HP + ridge P^T P)^+ (HP)^T R, and T(x) = x + x P Delta. R has one row over and
over, so Delta has rank one.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import between, more_than
from neuronlens.edits.base import Edit, Projection
from neuronlens.edits.contrast import require_contrast
from neuronlens.errors import ActivationError
from neuronlens.records import ActivationSet, FloatArray


class AlphaSteer(Edit):
    """T(x) = x + x P Delta: the move is near 0 for the other concepts' samples, by geometry and without a gate."""

    mixes_neurons = True

    def __init__(
        self,
        *,
        null_share: Annotated[float, between(0, 1, "(]", noun="a share")] = 0.5,
        ridge: Annotated[float, more_than(0, noun="a number")] = 10.0,
    ) -> None:
        """Keep the `null_share` of the directions in which the other concepts have least second moment.

        Args:
            ridge: the weight of the penalty on Delta, in squared units of the activations.
        """
        self.null_share, self.ridge = float(null_share), float(ridge)
        self._latest: tuple[ActivationSet, FloatArray] | None = None

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        """Return the steering map.

        Raises:
            ActivationError: the concept or its complement has no sample, or the share keeps no direction.
        """
        statistics = activations.statistics
        require_contrast(statistics, concept)
        neurons = activations.values.shape[1]
        kept = int(self.null_share * neurons)
        if not kept:
            raise ActivationError(
                f"null_share {self.null_share:g} of {neurons} neurons keeps no direction. Next: a larger "
                "edit.alphasteer.null_share"
            )
        wide = activations.values.astype(np.float64)
        own = wide[activations.labels == concept]
        benign = self._second_moments(activations) - own.T @ own
        basis = np.linalg.eigh(benign)[1][:, :kept]  # [neuron, kept], least first: P = basis basis^T
        reduced = own @ basis
        # In the kept directions P is the identity and the ridge makes the sum regular, so the pseudo-inverse is an inverse.
        weights = np.linalg.solve(reduced.T @ reduced + self.ridge * np.eye(kept), reduced.sum(axis=0))
        move = statistics.complement_mean[concept] - statistics.mean[concept]
        return Projection(np.zeros(neurons), -(basis @ weights)[None], move[None])

    def _second_moments(self, activations: ActivationSet) -> FloatArray:
        """Return X^T X `[neuron, neuron]` over all samples, kept for the next concept of the same activations."""
        if self._latest is None or self._latest[0] is not activations:
            wide = activations.values.astype(np.float64)
            self._latest = activations, wide.T @ wide
        return self._latest[1]
