"""The batch of edits that mix neurons: affine maps of low rank, with the same call as the gated edit.

They change all neurons at the site. Restricting them to salient neurons would undo what they promise, since the rest of
the vector still carries the concept, so gates that decide value by value do not apply; `allowed` (one decision per sample
and position) does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuronlens.edits.base import EditBatch, Projection
from neuronlens.edits.gated import open_positions, padded
from neuronlens.errors import ShapeError


@dataclass(frozen=True)
class ProjectionEdit(EditBatch):
    """Projections of several cells at one site. All tensors float32; called as a `GatedEdit` is.

    Attributes:
        bias: `[cell, neuron]`.
        read, write: `[cell, rank, neuron]`; rows of 0 fill up a cell of lower rank.
        strength: `[cell]`; 0 leaves everything alone, 1 reaches P(x).
        shift: `[cell, neuron]`; None where no cell has one.
    """

    bias: Tensor
    read: Tensor
    write: Tensor
    strength: Tensor
    shift: Tensor | None = None

    @classmethod
    def of(cls, projections: Sequence[Projection], strengths: Sequence[float]) -> ProjectionEdit:
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
        shift = None
        if any(projection.shift is not None for projection in projections):
            none = np.zeros(bias.shape[1])
            shift = np.stack([none if one.shift is None else one.shift for one in projections]).astype(np.float32)
        return cls(
            torch.from_numpy(bias),
            torch.from_numpy(read),
            torch.from_numpy(write),
            torch.from_numpy(np.asarray(strengths, dtype=np.float32)),
            None if shift is None else torch.from_numpy(shift),
        )

    @classmethod
    def stack(cls, batches: Sequence[ProjectionEdit]) -> ProjectionEdit:
        """Return several batches as one, lower ranks filled up."""
        return cls(
            torch.cat([batch.bias for batch in batches]),
            padded([batch.read for batch in batches], 0.0),
            padded([batch.write for batch in batches], 0.0),
            torch.cat([batch.strength for batch in batches]),
            _joined([batch.shift for batch in batches], [batch.bias for batch in batches]),
        )

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.strength)

    def to(self, device: torch.device | str) -> ProjectionEdit:
        """Return the edit on `device`."""
        shift = None if self.shift is None else self.shift.to(device)
        return ProjectionEdit(
            self.bias.to(device), self.read.to(device), self.write.to(device), self.strength.to(device), shift
        )

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
        moves = self.write.flatten(1).any(-1)
        if self.shift is not None:
            moves = moves | self.shift.any(-1)
        changes = ((self.strength != 0) & moves)[:, None, None]
        gate = changes if gate is None else changes & gate
        values = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        bias, read, write, strength = (
            tensor.to(values.dtype) for tensor in (self.bias, self.read, self.write, self.strength)
        )
        rows = values.flatten(1, 2)  # [cell or 1, row, neuron]: one matrix product per cell
        # Centred before it is read: read bias and read x are large and nearly equal where means dwarf deviations.
        component = (rows - bias[:, None]) @ read.transpose(1, 2)
        moved = rows - (strength[:, None, None] * component) @ write
        if self.shift is not None:
            moved = moved + (strength[:, None] * self.shift.to(values.dtype))[:, None]
        moved = moved.unflatten(1, hidden.shape[1:3])
        limit = torch.finfo(hidden.dtype).max
        return torch.where(gate[..., None], moved.clamp_(-limit, limit).to(hidden.dtype), hidden)


def _joined(shifts: Sequence[Tensor | None], biases: Sequence[Tensor]) -> Tensor | None:
    """Return the shifts of several batches as one; None where none has any."""
    if all(shift is None for shift in shifts):
        return None
    pairs = zip(shifts, biases, strict=True)
    return torch.cat([torch.zeros_like(bias) if shift is None else shift for shift, bias in pairs])
