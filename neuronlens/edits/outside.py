"""The control gate `outside`: everything but a concept's intervals, as intervals."""

from __future__ import annotations

import numpy as np

from neuronlens.ranges.intervals import EMPTY
from neuronlens.records import FloatArray


def complement(lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the intervals between, below and above the given ones.

    Bounds are float32, as the edit compares them, and an open end is the next float32 in that direction, so that a
    value of float32, bf16 or float16 lies in exactly one of the two sets though all bounds are included. NaN lies in
    neither. An interval with lower > upper, or a NaN bound, is empty, and the complement of nothing is (-inf, inf): of
    neurons that are to be left alone, and of concepts that are skipped, do not ask for one.

    Args:
        lower, upper: `[..., interval, neuron]`, in any order, overlapping or not; not modified.
    Returns:
        lower, upper `[..., interval + 1, neuron]` float32, disjoint; (+inf, -inf) where there is no gap.

    >>> low, high = complement(np.array([[-np.inf]]), np.array([[2.0]]))
    >>> bool(low[1, 0] == np.nextafter(np.float32(2), np.float32(3))), float(high[1, 0]), float(low[0, 0])
    (True, inf, inf)
    """
    low, high = np.asarray(lower, dtype=np.float32), np.asarray(upper, dtype=np.float32)
    kept = low <= high
    low, high = np.where(kept, low, np.float32(EMPTY[0])), np.where(kept, high, np.float32(EMPTY[1]))
    order = np.argsort(low, axis=-2, kind="stable")
    low, high = (np.take_along_axis(bound, order, axis=-2) for bound in (low, high))
    edge = np.full_like(low[..., :1, :], np.inf)
    # What is covered from below before each gap, and where cover starts again after it; empty intervals sort last.
    covered = np.concatenate([-edge, np.maximum.accumulate(high, axis=-2)], axis=-2)
    resumed = np.concatenate([low, edge], axis=-2)
    minus, plus = np.float32(-np.inf), np.float32(np.inf)
    with np.errstate(over="ignore"):  # the next float32 above the largest one is infinity, as it should be
        start = np.where(covered == minus, minus, np.nextafter(covered, plus))
        end = np.where(resumed == plus, plus, np.nextafter(resumed, minus))
    first_unbounded = np.cumsum(resumed == plus, axis=-2) <= 1  # one gap reaches +inf, not one per empty interval
    gap = (start <= end) & (covered < plus) & (resumed > minus) & first_unbounded
    return np.where(gap, start, np.float32(EMPTY[0])), np.where(gap, end, np.float32(EMPTY[1]))
