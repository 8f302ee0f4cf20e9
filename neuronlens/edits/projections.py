"""The edits that mix neurons: an affine map of low rank, with the same call as the gated edit.

They change all neurons at the site. Restricting them to salient neurons would undo what they promise, since the rest of
the vector still carries the concept, so the gates `range` and `outside`, which are per neuron, do not apply; `allowed`
(one decision per sample and position) does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuronlens.edits.gated import open_positions
from neuronlens.edits.transports import missing_samples
from neuronlens.errors import ActivationError, ShapeError
from neuronlens.records import ConceptStatistics, FloatArray

RELATIVE_ZERO = 1e-12
"""A difference of means this small, relative to the means, is float64 rounding and has no direction."""


@dataclass(frozen=True)
class Projection:
    """P(x) = x - write^T read (x - bias), for one concept.

    Attributes:
        bias: `[neuron]` float64.
        read, write: `[rank, neuron]` float64; rank 0 is the identity.
        reason: why it is the identity, or None where it is not.
    """

    bias: FloatArray
    read: FloatArray
    write: FloatArray
    reason: str | None = None

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return P(x) for `[sample, neuron]`, float64; the values are not modified.

        >>> keep_second = Projection(np.zeros(2), np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
        >>> keep_second(np.array([[3.0, 4.0]])).tolist()
        [[0.0, 4.0]]
        """
        return values - (values - self.bias) @ self.read.T @ self.write


def identity(neurons: int, reason: str) -> Projection:
    """Return the projection that changes nothing, with the reason why."""
    return Projection(np.zeros(neurons), np.zeros((0, neurons)), np.zeros((0, neurons)), reason)


def directional_ablation(statistics: ConceptStatistics, concept: int) -> Projection:
    """Return P(x) = x - d d^T x with d = (mu_c - mu_notc) / |mu_c - mu_notc|, the identity where they coincide.

    The component is taken away down to 0, through the origin (Arditi et al. 2024), not down to the complement's mean.

    Raises:
        ActivationError: the concept or its complement has no sample.
    """
    reason = missing_samples(statistics, concept)
    if reason:
        raise ActivationError(f"Concept {concept} has {reason}.")
    here, there = statistics.mean[concept], statistics.complement_mean[concept]
    length = np.linalg.norm(here - there)
    if length <= RELATIVE_ZERO * max(np.linalg.norm(here), np.linalg.norm(there)):
        return identity(len(here), "the means of the concept and of its complement coincide: no direction to remove")
    direction = ((here - there) / length)[None]
    return Projection(np.zeros_like(here), direction, direction)


@dataclass(frozen=True)
class ProjectionEdit:
    """Projections of several cells at one site. All tensors float32; called as a `GatedEdit` is.

    Attributes:
        bias: `[cell, neuron]`.
        read, write: `[cell, rank, neuron]`; rows of 0 fill up a cell of lower rank.
        strength: `[cell]`; 0 leaves everything alone, 1 reaches P(x).
    """

    bias: Tensor
    read: Tensor
    write: Tensor
    strength: Tensor

    @classmethod
    def stack(cls, projections: Sequence[Projection], strengths: Sequence[float]) -> ProjectionEdit:
        """Return one batch of a cell per projection, float32, on the CPU.

        Raises:
            ShapeError: none given, or their numbers or widths differ.
        """
        widths = {len(projection.bias) for projection in projections}
        if len(widths) != 1 or len(projections) != len(strengths):
            raise ShapeError(
                f"{len(projections)} projections of {sorted(widths)} neurons and {len(strengths)} strengths, expected "
                "as many strengths as projections, at least one, all of one width."
            )
        rank = max(len(projection.read) for projection in projections)
        read, write = np.zeros((2, len(projections), rank, widths.pop()), dtype=np.float32)
        for place, projection in enumerate(projections):
            read[place, : len(projection.read)] = projection.read
            write[place, : len(projection.write)] = projection.write
        bias = np.stack([projection.bias for projection in projections]).astype(np.float32)
        return cls(*map(torch.from_numpy, (bias, read, write, np.asarray(strengths, dtype=np.float32))))

    def to(self, device: torch.device | str) -> ProjectionEdit:
        """Return the edit on `device`."""
        return ProjectionEdit(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))

    def __call__(self, hidden: Tensor, mask: Tensor | None = None, *, allowed: Tensor | None = None) -> Tensor:
        """Return `hidden` with every open position's vector moved towards its projection.

        x' = x + strength * (P(x) - x), computed in float32 at least.

        Args:
            hidden: `[cell, sample, position, neuron]`, model dtype; not modified. One cell serves all of the edit's.
            mask: positions that may change `[sample, position]`; None for all.
            allowed: a further gate `[cell, sample, position]`; None for open.
        Returns:
            A new tensor `[cell, sample, position, neuron]` of `hidden`'s dtype. A closed position, a cell of strength 0
            and one whose projection is the identity keep their bits; a result past the dtype's range is its largest
            number. (The sums themselves stay finite as long as values are below 1e30 or so.)
        Raises:
            ShapeError: neuron, cell, sample or position counts differ.
        """
        cells, neurons = self.bias.shape
        gate = open_positions(hidden, cells, neurons, mask, allowed)
        changes = ((self.strength != 0) & self.write.flatten(1).any(-1))[:, None, None]
        gate = changes if gate is None else changes & gate
        values = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        bias, read, write, strength = (
            tensor.to(values.dtype) for tensor in (self.bias, self.read, self.write, self.strength)
        )
        rows = values.flatten(1, 2)  # [cell or 1, row, neuron]: one matrix product per cell
        # Centred before it is read: read bias and read x are large and nearly equal where means dwarf deviations.
        component = (rows - bias[:, None]) @ read.transpose(1, 2)
        moved = (rows - (strength[:, None, None] * component) @ write).unflatten(1, hidden.shape[1:3])
        limit = torch.finfo(hidden.dtype).max
        return torch.where(gate[..., None], moved.clamp_(-limit, limit).to(hidden.dtype), hidden)
