"""The joint gate: one decision per sample and position from all salient neurons at once, in front of any edit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.projections import ProjectionEdit
from neuronlens.records import BoolArray, ConceptStatistics, FloatArray

VARIANCE_FLOOR = 1e-6
"""Added to every variance, squared units of the activations, so that a constant neuron keeps a law."""


@dataclass(frozen=True)
class LikelihoodRatio:
    """sum over salient j of log p(x_j | c) - log p(x_j | not c), Gaussian laws: a quadratic in x (SPEC section 4, `joint`).

    Attributes:
        quadratic, linear: `[neuron]` float64, 0 for neurons that are not salient.
        constant: the rest of the sum.
    """

    quadratic: FloatArray
    linear: FloatArray
    constant: float

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return the log-likelihood ratio of `[sample, neuron]`, nats `[sample]`."""
        wide = np.asarray(values, dtype=np.float64)
        return wide**2 @ self.quadratic + wide @ self.linear + self.constant


def likelihood_ratio(statistics: ConceptStatistics, concept: int, salient: BoolArray) -> LikelihoodRatio:
    """Return the ratio of one concept's Gaussian laws to its complement's, over the salient neurons `[neuron]`."""
    here, there = statistics.mean[concept], statistics.complement_mean[concept]
    spread = statistics.variance[concept] + VARIANCE_FLOOR
    others = statistics.complement_variance[concept] + VARIANCE_FLOOR
    quadratic = np.where(salient, 0.5 / others - 0.5 / spread, 0.0)
    linear = np.where(salient, here / spread - there / others, 0.0)
    constant = 0.5 * (there**2 / others - here**2 / spread + np.log(others / spread))
    return LikelihoodRatio(quadratic, linear, float(constant[salient].sum()))


def best_threshold(scores: FloatArray, member: BoolArray) -> float:
    """Return the threshold that separates a concept from the rest best: the largest hit rate - false alarm rate.

    Halfway between two neighbouring scores; of equally good ones the highest, which gates fewest.

    Args:
        scores: `[sample]`, on the select split.
        member: which samples carry the concept `[sample]`; some must, and some must not.

    >>> best_threshold(np.array([0.0, 1.0, 3.0, 4.0]), np.array([False, False, True, True]))
    2.0
    """
    order = np.argsort(scores, kind="stable")
    ascending, hit = scores[order], member[order]
    above_hits = 1 - np.concatenate([[0], np.cumsum(hit)]) / max(hit.sum(), 1)
    above_misses = 1 - np.concatenate([[0], np.cumsum(~hit)]) / max((~hit).sum(), 1)
    cuts = np.concatenate([[-np.inf], (ascending[1:] + ascending[:-1]) / 2, [np.inf]])
    distinct = np.concatenate([[True], ascending[1:] > ascending[:-1], [True]])
    quality = np.where(distinct, above_hits - above_misses, -np.inf)
    return float(cuts[len(quality) - 1 - int(np.argmax(quality[::-1]))])


@dataclass(frozen=True)
class Detector:
    """Which samples and positions each cell's edit may change. All tensors float64.

    Attributes:
        quadratic, linear: `[cell, neuron]`.
        offset: constant minus threshold `[cell]`; +inf lets a cell through everywhere.
    """

    quadratic: Tensor
    linear: Tensor
    offset: Tensor

    @classmethod
    def stack(cls, gates: Sequence[tuple[LikelihoodRatio, float] | None], neurons: int) -> Detector:
        """Return the gates of several cells as one; None is a cell without a gate."""
        quadratic, linear = np.zeros((2, len(gates), neurons))
        offset = np.full(len(gates), np.inf)
        for place, gate in enumerate(gates):
            if gate is not None:
                ratio, threshold = gate
                quadratic[place], linear[place], offset[place] = (
                    ratio.quadratic,
                    ratio.linear,
                    ratio.constant - threshold,
                )
        return cls(*map(torch.from_numpy, (quadratic, linear, offset)))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return where the summed ratio exceeds the threshold `[cell, sample, position]`.

        Args:
            hidden: `[cell or 1, sample, position, neuron]`, before the edit.
        """
        values = hidden.to(torch.float64)
        if hidden.shape[0] == 1:
            rows = values[0]
            score = rows.square() @ self.quadratic.T + rows @ self.linear.T
            return (score + self.offset > 0).movedim(-1, 0)
        score = torch.einsum("cspn,cn->csp", values.square(), self.quadratic)
        score += torch.einsum("cspn,cn->csp", values, self.linear)
        return score + self.offset[:, None, None] > 0

    def to(self, device: torch.device | str) -> Detector:
        """Return the detector on `device`."""
        return Detector(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class DetectedEdit:
    """An edit behind a detector, with the same call as the edit alone."""

    edit: GatedEdit | ProjectionEdit
    detector: Detector

    def __call__(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the edited hidden states `[cell, sample, position, neuron]`; undetected positions keep their bits."""
        return self.edit(hidden, mask, allowed=self.detector(hidden))

    def to(self, device: torch.device | str) -> DetectedEdit:
        """Return the edit and its detector on `device`."""
        return DetectedEdit(self.edit.to(device), self.detector.to(device))
