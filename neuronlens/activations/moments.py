"""Moments of activations, streamed in float64: per concept, and over all concepts together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronlens.records import SCATTER, ConceptStatistics, FloatArray, IntArray, SecondMoments


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


class ScatterMoments:
    """Streams samples into their mean, covariance and mean fourth power of their distance from the mean, in float64.

    Sums are taken about the first batch's mean, so that they do not cancel where means dwarf deviations, and moved to the
    mean at the end: with y = x - shift and m the mean of y, |y - m|^4 = (|y|^2 - 2 y.m + |m|^2)^2, term by term.
    """

    def __init__(self, neurons: int, device: torch.device | str = "cpu") -> None:
        """Start with no sample seen."""
        wide = {"dtype": torch.float64, "device": device}
        self.count = 0
        self.shift = torch.zeros(neurons, **wide)  # type: ignore[call-overload]
        self.sum = torch.zeros(neurons, **wide)  # type: ignore[call-overload]
        self.outer = torch.zeros(neurons, neurons, **wide)  # type: ignore[call-overload]
        self.cubes = torch.zeros(neurons, **wide)  # type: ignore[call-overload]
        self.fourth = torch.zeros((), **wide)  # type: ignore[call-overload]

    def update(self, values: Tensor) -> None:
        """Add samples `[sample, neuron]`."""
        if not len(values):
            return
        values = values.to(torch.float64)
        if not self.count:
            self.shift = values.mean(0)
        about = values - self.shift
        squared = about.square().sum(1)
        self.count += len(values)
        self.sum += about.sum(0)
        self.outer.addmm_(about.T, about)
        self.cubes += squared @ about
        self.fourth += squared.square().sum()

    def moments(self) -> SecondMoments:
        """Return the moments as numpy arrays; zeros where there was no sample."""
        count = max(self.count, 1)
        mean, outer, cubes, fourth = (
            (part / count).cpu().numpy() for part in (self.sum, self.outer, self.cubes, self.fourth)
        )
        size = float(mean @ mean)
        fourth = float(fourth) - 4 * float(cubes @ mean) + 2 * size * float(np.trace(outer))
        fourth += 4 * float(mean @ outer @ mean) - 3 * size**2
        return SecondMoments(self.count, self.shift.cpu().numpy() + mean, outer - np.outer(mean, mean), fourth)


def scatter_arrays(second: SecondMoments | None, where: str) -> dict[str, FloatArray]:
    """Return the moments as arrays of one dimension at least, by `where/<name>`; nothing for None."""
    return {} if second is None else {f"{where}/{name}": np.atleast_1d(getattr(second, name)) for name in SCATTER}


def read_scatter(arrays: Mapping[str, NDArray[Any]], where: str) -> SecondMoments | None:
    """Return what `scatter_arrays` was given."""
    if f"{where}/count" not in arrays:
        return None
    count, mean, covariance, fourth = (arrays[f"{where}/{name}"] for name in SCATTER)
    return SecondMoments(int(count.item()), mean, covariance, float(fourth.item()))


def statistics_of(values: FloatArray, labels: IntArray, concepts: int) -> ConceptStatistics:
    """Return the per-concept moments of stored values `[sample, neuron]`."""
    moments = ConceptMoments(concepts, values.shape[1])
    moments.update(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(np.asarray(labels, dtype=np.int64)))
    return moments.statistics()
