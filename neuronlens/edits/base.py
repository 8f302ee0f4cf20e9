"""What an edit is: a target for a concept, fitted on activations; and what a batch of edits can do to hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from neuronlens.records import ActivationSet, FloatArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """T(x) = scale * x + shift, per neuron, for one concept.

    Attributes:
        scale, shift: `[neuron]` float64.
        by_distance: scale shrinks towards the centre of the interval that x lies in, see `gated.distance_share`.
    """

    scale: FloatArray
    shift: FloatArray
    by_distance: bool = False


@dataclass(frozen=True)
class Projection:
    """P(x) = x - write^T read (x - bias) + shift, for one concept.

    Attributes:
        bias: `[neuron]` float64.
        read, write: `[rank, neuron]` float64; rank 0 without a shift is the identity.
        reason: why it is the identity, or None where it is not.
        shift: `[neuron]` float64; None for 0. Only a map without a fixed point needs one.
    """

    bias: FloatArray
    read: FloatArray
    write: FloatArray
    reason: str | None = None
    shift: FloatArray | None = None

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return P(x) for `[sample, neuron]`, float64; the values are not modified.

        >>> keep_second = Projection(np.zeros(2), np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]))
        >>> keep_second(np.array([[3.0, 4.0]])).tolist()
        [[0.0, 4.0]]
        """
        moved = values - (values - self.bias) @ self.read.T @ self.write
        return moved if self.shift is None else moved + self.shift


def identity(neurons: int, reason: str) -> Projection:
    """Return the projection that changes nothing, with the reason why."""
    return Projection(np.zeros(neurons), np.zeros((0, neurons)), np.zeros((0, neurons)), reason)


Target = Affine | Projection


class Edit(Protocol):
    """A kind of edit: x' = x + strength * G(x) * (T(x) - x), of which it gives the target T.

    Its parameters are its constructor's keyword-only arguments; they enter the cell's id and the results by themselves. A
    module that holds one imports no torch, SciPy or scikit-learn at its top: a config is checked without them.

    Attributes:
        mixes_neurons: whether a neuron's new value rests on other neurons. Such an edit changes all neurons, for the rest
            of the vector would still carry the concept, so gates that decide value by value do not apply to it.
        needs_gate: whether its target is right for the concept's samples alone, so that a gate must detect these.
        needs_select: whether it chooses something on the select split, which it then finds at its activations.
        reads_covariance: whether it reads `activations.second`, which is then streamed over all tokens that are fitted on.
    """

    mixes_neurons: bool
    needs_gate: bool = False
    needs_select: bool = False
    reads_covariance: bool = False

    def target(self, activations: ActivationSet, concept: int) -> Target:
        """Return the target for a concept: a `Projection` where the edit mixes neurons, else an `Affine`.

        Args:
            activations: fitted on, with those of the select split where one was recorded; not modified. Their labels are
                another labelling's under a control.
            concept: its index.

        Raises:
            ActivationError: these activations give none; the cell is skipped with the message as its reason.
        """
        ...


class EditBatch(Protocol):
    """The edits of several cells at one site, ready to be made."""

    def __call__(self, hidden: Tensor, mask: Tensor | None = None, *, allowed: Tensor | None = None) -> Tensor:
        """Return the edited hidden states `[cell, sample, position, neuron]`, of `hidden`'s dtype.

        Args:
            hidden: `[cell, sample, position, neuron]`; not modified. One cell serves all of the batch's.
            mask: positions that may change `[sample, position]`; None for all.
            allowed: a further gate `[cell, sample, position]`; None for open.
        """
        ...

    @classmethod
    def stack(cls, batches: Sequence[Self]) -> Self:
        """Return several batches of this kind as one, their cells in order."""
        ...

    @property
    def cells(self) -> int:
        """How many cells there are."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on `device`."""
        ...
