"""The one kernel that changes activations: a gated affine map with a leading cell dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuronlens.edits.base import EditBatch
from neuronlens.errors import ShapeError


@dataclass(frozen=True)
class GatedEdit(EditBatch):
    """Edits of several cells at one site. Numbers float32 at least; every cell has the same neurons and intervals.

    Attributes:
        lower, upper: `[cell, interval, neuron]`, bounds included; (+inf, -inf) leaves a neuron alone.
        scale, shift: `[cell, neuron]`, the target T(x) = scale * x + shift.
        strength: `[cell]`; 0 leaves everything alone, 1 reaches the target.
        distance: `[cell]` bool, the cells whose scale shrinks towards the interval's centre (`Affine.by_distance`); None
            where none does.
    """

    lower: Tensor
    upper: Tensor
    scale: Tensor
    shift: Tensor
    strength: Tensor
    distance: Tensor | None = None

    def __call__(self, hidden: Tensor, mask: Tensor | None = None, *, allowed: Tensor | None = None) -> Tensor:
        """Return the edited hidden states: see `apply_gated`."""
        return apply_gated(hidden, self, mask, allowed=allowed)

    @classmethod
    def stack(cls, batches: Sequence[GatedEdit]) -> GatedEdit:
        """Return several batches as one, fewer intervals filled up with empty ones."""
        never = [torch.zeros(len(batch.strength), dtype=torch.bool) for batch in batches]
        flags = [no if batch.distance is None else batch.distance for batch, no in zip(batches, never, strict=True)]
        distance = torch.cat(flags)
        return cls(
            lower=padded([batch.lower for batch in batches], torch.inf),
            upper=padded([batch.upper for batch in batches], -torch.inf),
            scale=torch.cat([batch.scale for batch in batches]),
            shift=torch.cat([batch.shift for batch in batches]),
            strength=torch.cat([batch.strength for batch in batches]),
            distance=distance if distance.any() else None,
        )

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return len(self.strength)

    def to(self, device: torch.device | str) -> GatedEdit:
        """Return the edit on `device`."""
        lower, upper, scale, shift, strength = (
            tensor.to(device) for tensor in (self.lower, self.upper, self.scale, self.shift, self.strength)
        )
        distance = None if self.distance is None else self.distance.to(device)
        return GatedEdit(lower, upper, scale, shift, strength, distance)


def apply_gated(
    hidden: Tensor, edit: GatedEdit, mask: Tensor | None = None, *, allowed: Tensor | None = None
) -> Tensor:
    """Return `hidden` with every in-range value of the chosen neurons moved towards its target.

    x' = x + strength * G(x) * (scale * x + shift - x), G(x) = 1 where lower <= x <= upper in any interval. Bounds are
    compared in float32 at least, so that a bf16 model's rounding moves none of them (TRAPS 9). In the cells of
    `edit.distance`, scale is multiplied by `distance_share`.

    Args:
        hidden: `[cell, sample, position, neuron]`, model dtype; not modified. One cell serves all of the edit's.
        edit: what to do per cell.
        mask: positions that may change `[sample, position]`; None for all.
        allowed: a further gate `[cell, sample, position]`, one decision for all neurons; None for open.

    Returns:
        A new tensor `[cell, sample, position, neuron]` of `hidden`'s dtype. A value outside every interval, at a closed
        position or in a cell of strength 0 keeps its bits. A result past the dtype's range is its largest number, so
        that finite values stay finite (TRAPS 7).

    Raises:
        ShapeError: neuron, cell, sample or position counts differ.
    """
    cells, neurons = edit.scale.shape
    gate = open_positions(hidden, cells, neurons, mask, allowed)
    values = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    strength = edit.strength[:, None].to(values.dtype)
    # An empty interval instead of x + 0 * (T - x), which turns -0.0 into 0.0; made per neuron, so it costs nothing.
    lower = torch.where(strength[:, None] == 0, torch.inf, edit.lower)
    inside = (values >= lower[:, 0, None, None]) & (values <= edit.upper[:, 0, None, None])
    for interval in range(1, lower.shape[1]):
        inside |= (values >= lower[:, interval, None, None]) & (values <= edit.upper[:, interval, None, None])
    if gate is not None:
        inside &= gate[..., None]
    scale, shift = edit.scale[:, None, None].to(values.dtype), edit.shift[:, None, None].to(values.dtype)
    if edit.distance is not None:
        scale = scale * torch.where(edit.distance[:, None, None, None], distance_share(values, edit), 1.0)
    # One affine map of slope 1 + strength * (scale - 1). The lerp keeps it exact at both ends: 1 at strength 0 and
    # where scale is 1, `scale` at strength 1.
    slope = torch.lerp(torch.ones_like(scale), scale, strength[..., None, None])
    moved = torch.addcmul(strength[..., None, None] * shift, slope, values)
    limit = torch.finfo(hidden.dtype).max
    return torch.where(inside, moved.clamp_(-limit, limit).to(hidden.dtype), hidden)


def distance_share(values: Tensor, edit: GatedEdit) -> Tensor:
    """Return clip(abs(x - m) / h, 0, 1), m and h the centre and half-width of the first interval that x lies in.

    Where the quotient has no value it is its limit: 0 at a point (h = 0, x = m) and in (-inf, inf), which is what
    mu +/- tau sigma tends to as tau grows, so that tau = inf zeroes; 1 in an interval with one infinite end, where x
    stays at a finite distance from the finite end and the centre runs away. (The published code gives NaN.)

    Args:
        values: `[cell or 1, sample, position, neuron]`, float32 at least.

    Returns:
        `[cell, sample, position, neuron]` in [0, 1]; 1 for a value outside every interval.
    """
    share = torch.ones((), dtype=values.dtype, device=values.device)
    for interval in reversed(range(edit.lower.shape[1])):  # the first interval is written last
        lower, upper = (bound[:, interval, None, None].to(values.dtype) for bound in (edit.lower, edit.upper))
        half = upper / 2 - lower / 2  # halved first: upper - lower may overflow
        proper = torch.isfinite(half) & (half > 0)
        centre = torch.where(proper, lower / 2 + upper / 2, 0.0)
        quotient = ((values - centre).abs() / torch.where(proper, half, 1.0)).clamp(0, 1)
        limit = (torch.isinf(lower) ^ torch.isinf(upper)).to(values.dtype)
        inside = (values >= lower) & (values <= upper)
        share = torch.where(inside, torch.where(proper, quotient, limit), share)
    return share


def open_positions(
    hidden: Tensor, cells: int, neurons: int, mask: Tensor | None, allowed: Tensor | None
) -> Tensor | None:
    """Return where an edit of `cells` cells may change anything `[cell or 1, sample, position]`; None for everywhere.

    Raises:
        ShapeError: the hidden states, the mask or the gate do not fit the edit or each other.
    """
    if hidden.dim() != 4 or hidden.shape[-1] != neurons or hidden.shape[0] not in (1, cells):
        raise ShapeError(
            f"Hidden states {tuple(hidden.shape)} do not fit an edit of {cells} cells and {neurons} neurons. "
            "Expected [cell, sample, position, neuron]."
        )
    samples, positions = hidden.shape[1:3]
    if mask is not None and mask.shape != (samples, positions):
        raise ShapeError(f"The mask is {tuple(mask.shape)}, expected [sample, position], here {(samples, positions)}.")
    if allowed is not None and allowed.shape != (cells, samples, positions):
        raise ShapeError(
            f"The gate is {tuple(allowed.shape)}, expected [cell, sample, position], here {(cells, samples, positions)}."
        )
    if mask is None or allowed is None:
        return allowed if mask is None else mask[None]
    return allowed & mask[None]


def padded(tensors: Sequence[Tensor], fill: float) -> Tensor:
    """Return `[cell, row, neuron]` tensors as one, those of fewer rows filled up with rows of `fill`."""
    rows = max(tensor.shape[1] for tensor in tensors)
    grown = [torch.nn.functional.pad(t, (0, 0, 0, rows - t.shape[1]), value=fill) for t in tensors]
    return torch.cat(grown)
