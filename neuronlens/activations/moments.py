"""Per-concept moments of activations, streamed in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuronlens.records import ConceptStatistics, FloatArray, IntArray


class ConceptMoments:
    """Streams samples into per-concept count, mean, variance and mean magnitude, in float64 (Chan et al. 1983)."""

    def __init__(self, concepts: int, neurons: int, device: torch.device | str = "cpu") -> None:
        """Start with no sample seen."""
        self.count = torch.zeros(concepts, dtype=torch.float64, device=device)
        self.mean = torch.zeros(concepts, neurons, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)
        self.magnitude = torch.zeros_like(self.mean)

    def update(self, values: Tensor, labels: Tensor) -> None:
        """Add samples `[sample, neuron]` with their concept indices `[sample]`."""
        values = values.to(torch.float64)
        member = torch.nn.functional.one_hot(labels, len(self.count)).to(torch.float64).T
        count = member.sum(1)
        mean = member @ values / count.clamp(min=1)[:, None]
        squares = member @ (values - mean[labels]).square()
        both = (self.count + count).clamp(min=1)[:, None]
        delta = mean - self.mean
        self.squares += squares + delta.square() * (self.count * count)[:, None] / both
        self.mean += delta * count[:, None] / both
        self.magnitude += member @ values.abs()
        self.count += count

    def statistics(self) -> ConceptStatistics:
        """Return the moments as numpy arrays; NaN where a concept has no sample."""
        count = self.count.cpu().numpy()
        seen = np.where(count > 0, count, np.nan)[:, None]
        return ConceptStatistics(
            count=count.astype(np.int64),
            mean=np.where(np.isnan(seen), np.nan, self.mean.cpu().numpy()),
            variance=self.squares.cpu().numpy() / seen,
            mean_abs=self.magnitude.cpu().numpy() / seen,
        )


def statistics_of(values: FloatArray, labels: IntArray, concepts: int) -> ConceptStatistics:
    """Return the per-concept moments of stored values `[sample, neuron]`."""
    moments = ConceptMoments(concepts, values.shape[1])
    moments.update(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(np.asarray(labels, dtype=np.int64)))
    return moments.statistics()
