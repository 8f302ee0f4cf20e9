"""What ranges do on samples they were not fitted on: firing, purity, coverage, overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuronlens.errors import ShapeError
from neuronlens.ranges.intervals import contains
from neuronlens.records import ConceptStatistics, FloatArray, IntArray


class Firing(NamedTuple):
    """How ranges fire, `[concept, neuron]` float64 each; NaN where the share is of nothing.

    Attributes:
        coverage: share of the concept's samples inside the concept's range: its firing rate on the concept.
        rest: share of all other samples inside the concept's range: its firing rate on the rest.
        purity: share of the samples inside the range that are the concept's.
    """

    coverage: FloatArray
    rest: FloatArray
    purity: FloatArray


def firing(values: FloatArray, labels: IntArray, lower: FloatArray, upper: FloatArray) -> Firing:
    """Return coverage, firing rate on the rest, and purity of every concept's ranges on some samples.

    Args:
        values: `[sample, neuron]`, held out; not modified.
        labels: concept index `[sample]`.
        lower, upper: `[concept, interval, neuron]`, compared in float32.

    Raises:
        ShapeError: the arrays disagree in samples or neurons.
    """
    if len(values) != len(labels) or values.shape[1] != lower.shape[-1]:
        raise ShapeError(f"values {values.shape}, {len(labels)} labels, bounds {lower.shape}.")
    rates = []
    for concept in range(len(lower)):
        inside = contains(values, lower[concept], upper[concept])
        own = labels == concept
        hits, misses = inside[own].sum(axis=0), inside[~own].sum(axis=0)
        rates.append((_share(hits, own.sum()), _share(misses, (~own).sum()), _share(hits, hits + misses)))
    return Firing(*(np.stack(part) for part in zip(*rates, strict=True)))


def bhattacharyya(statistics: ConceptStatistics) -> FloatArray:
    """Return the overlap of each two concepts' Gaussians `[concept, concept, neuron]`, in [0, 1]; 1 for equal laws.

    The Bhattacharyya coefficient, the integral of sqrt(p q), of Gaussians with the concepts' mean and variance (ddof 0):
    sqrt(2 s t / (s^2 + t^2)) exp(-(m - n)^2 / (4 (s^2 + t^2))). Two constants overlap by 1 where they are equal and by 0
    elsewhere; a concept without samples is NaN.
    """
    gap = statistics.mean[:, None] - statistics.mean
    total = statistics.variance[:, None] + statistics.variance
    both_constant = total == 0
    safe = np.where(both_constant, 1.0, total)
    overlap = np.sqrt(2 * statistics.std[:, None] * statistics.std / safe) * np.exp(-(gap**2) / (4 * safe))
    return np.asarray(np.where(both_constant, gap == 0, overlap))


def _share(part: IntArray, whole: IntArray) -> FloatArray:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
