"""The one kernel that changes activations: a gated affine map with a leading cell dimension."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuronlens.errors import ShapeError


@dataclass(frozen=True)
class GatedEdit:
    """Edits of several cells at one site. All tensors float32 at least; every cell has the same neurons and intervals.

    Attributes:
        lower, upper: `[cell, interval, neuron]`, bounds included; (+inf, -inf) leaves a neuron alone.
        scale, shift: `[cell, neuron]`, the target T(x) = scale * x + shift.
        strength: `[cell]`; 0 leaves everything alone, 1 reaches the target.
    """

    lower: Tensor
    upper: Tensor
    scale: Tensor
    shift: Tensor
    strength: Tensor

    def __call__(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the edited hidden states: see `apply_gated`."""
        return apply_gated(hidden, self, mask)

    def to(self, device: torch.device | str) -> GatedEdit:
        """Return the edit on `device`."""
        return GatedEdit(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def apply_gated(hidden: Tensor, edit: GatedEdit, mask: Tensor | None = None) -> Tensor:
    """Return `hidden` with every in-range value of the chosen neurons moved towards its target.

    x' = x + strength * G(x) * (scale * x + shift - x), G(x) = 1 where lower <= x <= upper in any interval. Bounds are
    compared in float32 at least, so that a bf16 model's rounding moves none of them (TRAPS 9).

    Args:
        hidden: `[cell, sample, position, neuron]`, model dtype; not modified. One cell serves all of the edit's.
        edit: what to do per cell.
        mask: positions that may change `[sample, position]`; None for all.
    Returns:
        A new tensor `[cell, sample, position, neuron]` of `hidden`'s dtype; a value outside every interval keeps its bits.
    Raises:
        ShapeError: neuron or cell counts differ.
    """
    cells, neurons = edit.scale.shape
    if hidden.dim() != 4 or hidden.shape[-1] != neurons or hidden.shape[0] not in (1, cells):
        raise ShapeError(
            f"Hidden states {tuple(hidden.shape)} do not fit an edit of {cells} cells and {neurons} neurons. "
            "Expected [cell, sample, position, neuron]."
        )
    values = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    inside = (values >= edit.lower[:, 0, None, None]) & (values <= edit.upper[:, 0, None, None])
    for interval in range(1, edit.lower.shape[1]):
        inside |= (values >= edit.lower[:, interval, None, None]) & (values <= edit.upper[:, interval, None, None])
    if mask is not None:
        inside &= mask[None, :, :, None]
    target = torch.addcmul(
        edit.shift[:, None, None].to(values.dtype), edit.scale[:, None, None].to(values.dtype), values
    )
    moved = torch.lerp(values, target, edit.strength[:, None, None, None].to(values.dtype))
    return torch.where(inside, moved.to(hidden.dtype), hidden)
