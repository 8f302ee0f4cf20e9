"""An edit behind a detector: open or closed for a sample's whole vector, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuronlens.edits.base import EditBatch
from neuronlens.edits.gates.base import Score


@dataclass(frozen=True)
class Detector:
    """Which samples and positions each cell's edit may change. All tensors float64.

    Attributes:
        quadratic, linear: `[cell, neuron]`.
        offset: the score's constant `[cell]`; +inf lets a cell through everywhere.
        ceiling: the largest score that is let through `[cell]`.
    """

    quadratic: Tensor
    linear: Tensor
    offset: Tensor
    ceiling: Tensor

    @classmethod
    def of(cls, scores: Sequence[Score | None], neurons: int) -> Detector:
        """Return the gates of several cells as one; None is a cell without a gate."""
        quadratic, linear = np.zeros((2, len(scores), neurons))
        offset, ceiling = np.full((2, len(scores)), np.inf)
        for place, score in enumerate(scores):
            if score is not None:
                quadratic[place], linear[place] = score.quadratic, score.linear
                offset[place], ceiling[place] = score.constant, score.ceiling
        return cls(*map(torch.from_numpy, (quadratic, linear, offset, ceiling)))

    @classmethod
    def stack(cls, detectors: Sequence[Detector]) -> Detector:
        """Return several detectors as one, their cells in order."""
        return cls(*(torch.cat([getattr(one, name) for one in detectors]) for name in cls.__dataclass_fields__))

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return where the score is above 0 and no larger than the ceiling `[cell, sample, position]`.

        Args:
            hidden: `[cell or 1, sample, position, neuron]`, before the edit.
        """
        values = hidden.to(torch.float64)
        if hidden.shape[0] == 1:
            rows = values[0]
            score = rows @ self.linear.T + self.offset
            if self.quadratic.any():
                score += rows.square() @ self.quadratic.T
            return ((score > 0) & (score <= self.ceiling)).movedim(-1, 0)
        score = torch.einsum("cspn,cn->csp", values, self.linear) + self.offset[:, None, None]
        if self.quadratic.any():
            score += torch.einsum("cspn,cn->csp", values.square(), self.quadratic)
        return (score > 0) & (score <= self.ceiling[:, None, None])

    def to(self, device: torch.device | str) -> Detector:
        """Return the detector on `device`."""
        return Detector(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class DetectedEdit(EditBatch):
    """An edit behind a detector, with the same call as the edit alone."""

    edit: EditBatch
    detector: Detector

    def __call__(self, hidden: Tensor, mask: Tensor | None = None, *, allowed: Tensor | None = None) -> Tensor:
        """Return the edited hidden states `[cell, sample, position, neuron]`; undetected positions keep their bits."""
        detected = self.detector(hidden)
        return self.edit(hidden, mask, allowed=detected if allowed is None else detected & allowed)

    @classmethod
    def stack(cls, batches: Sequence[EditBatch]) -> DetectedEdit:
        """Return several batches as one; the cells of one without a detector are let through everywhere."""
        edits = [batch.edit if isinstance(batch, DetectedEdit) else batch for batch in batches]
        neurons = next(batch.detector.linear.shape[1] for batch in batches if isinstance(batch, DetectedEdit))
        detectors = [
            batch.detector if isinstance(batch, DetectedEdit) else Detector.of([None] * batch.cells, neurons)
            for batch in batches
        ]
        return cls(stacked(edits), Detector.stack(detectors))

    def to(self, device: torch.device | str) -> DetectedEdit:
        """Return the edit and its detector on `device`."""
        return DetectedEdit(self.edit.to(device), self.detector.to(device))

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return self.edit.cells


def stacked(batches: Sequence[EditBatch]) -> EditBatch:
    """Return several batches as one, their cells in order; all mix neurons or none does, with a detector or without."""
    kind = next((type(batch) for batch in batches if isinstance(batch, DetectedEdit)), type(batches[0]))
    return kind.stack(batches)
