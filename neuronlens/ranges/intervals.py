"""Intervals as data: `lower, upper [..., interval, neuron]`, bounds included.

(+inf, -inf) is the empty interval, (-inf, +inf) the whole neuron. An interval with lower > upper, with NaN for a bound, or
that holds no finite number is empty. A set is *merged* when its intervals ascend, neither overlap nor touch, and empty
ones stand last.
"""

from __future__ import annotations

import numpy as np

from neuronlens.records import BoolArray, FloatArray

EMPTY = (np.inf, -np.inf)
WHOLE = (-np.inf, np.inf)

Intervals = tuple[FloatArray, FloatArray]


def contains(values: FloatArray, lower: FloatArray, upper: FloatArray) -> BoolArray:
    """Return where values `[sample, neuron]` lie in any of the intervals `[interval, neuron]`; NaN never does.

    Compared in float32, as the edit compares them.

    >>> contains(np.array([[1.0], [3.0]]), np.array([[1.0]]), np.array([[2.0]])).tolist()
    [[True], [False]]
    """
    narrow, low, high = (np.asarray(array, dtype=np.float32) for array in (values, lower, upper))
    return np.asarray(((narrow[:, None] >= low) & (narrow[:, None] <= high)).any(axis=1))


def is_empty(lower: FloatArray, upper: FloatArray) -> BoolArray:
    """Return which intervals hold no finite number; the arrays' own shape."""
    return np.asarray(~((lower <= upper) & (lower < np.inf) & (upper > -np.inf)))


def merge(lower: FloatArray, upper: FloatArray) -> Intervals:
    """Return the same sets as ascending intervals that neither overlap nor touch.

    Two intervals that share a bound touch, for bounds are included. Empty ones come last, and as many places are left as
    the largest set needs, at least one.

    Args:
        lower, upper: `[..., interval, neuron]`; not modified.

    Returns:
        The bounds, float64 `[..., fewer intervals, neuron]`.

    >>> [bound.ravel().tolist() for bound in merge(np.array([[3.0], [0.0], [1.0]]), np.array([[4.0], [1.0], [2.0]]))]
    [[0.0, 3.0], [2.0, 4.0]]
    """
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    void = is_empty(lower, upper)
    lower, upper = np.where(void, EMPTY[0], lower), np.where(void, EMPTY[1], upper)
    order = np.argsort(lower, axis=-2, kind="stable")
    lower, upper = (np.take_along_axis(bound, order, axis=-2) for bound in (lower, upper))
    reach = np.maximum.accumulate(upper, axis=-2)
    before = np.concatenate([np.full_like(reach[..., :1, :], -np.inf), reach[..., :-1, :]], axis=-2)
    # The first of a run starts past all that came before; -inf never lies past -inf, so the first place is its own case.
    starts = (lower > before) & (lower < np.inf)
    starts[..., :1, :] = lower[..., :1, :] < np.inf
    count = starts.sum(axis=-2, keepdims=True)
    # A run ends where the next place starts one, or is empty, or is past the last.
    filled = lower < np.inf
    after = np.zeros_like(starts)
    after[..., :-1, :] = starts[..., 1:, :] | ~filled[..., 1:, :]
    after[..., -1:, :] = True
    ends = filled & after
    place = np.arange(lower.shape[-2])[:, None] < count
    merged_lower = np.sort(np.where(starts, lower, np.inf), axis=-2)
    merged_upper = np.where(place, np.sort(np.where(ends, reach, np.inf), axis=-2), EMPTY[1])
    room = max(int(count.max(initial=0)), 1)
    return merged_lower[..., :room, :], merged_upper[..., :room, :]


def union(lower: FloatArray, upper: FloatArray, other_lower: FloatArray, other_upper: FloatArray) -> Intervals:
    """Return the merged union of two arrays of sets `[..., interval, neuron]`, whose other dimensions broadcast."""
    lead = np.broadcast_shapes(lower.shape[:-2], other_lower.shape[:-2])
    neurons = np.broadcast_shapes(lower.shape[-1:], other_lower.shape[-1:])

    def stacked(first: FloatArray, second: FloatArray) -> FloatArray:
        parts = [np.broadcast_to(part, (*lead, part.shape[-2], *neurons)) for part in (first, second)]
        return np.concatenate(parts, axis=-2)

    return merge(stacked(lower, other_lower), stacked(upper, other_upper))


def complement(lower: FloatArray, upper: FloatArray) -> Intervals:
    """Return the sets of all float32 numbers outside the sets `[..., interval, neuron]`, merged.

    Bounds are included at both ends, so the complement of [a, b] ends one float32 below a and begins one above b: for
    every finite number exactly one of a set and its complement holds, as `contains` compares them.

    Returns:
        The bounds, float64 whose values are float32 numbers, `[..., interval, neuron]`.
    """
    with np.errstate(over="ignore"):
        narrow = [np.asarray(bound, dtype=np.float32) for bound in merge(lower, upper)]
    low, high = (bound.astype(np.float32) for bound in merge(*narrow))
    edge = np.full_like(low[..., :1, :], np.inf)
    with np.errstate(over="ignore"):
        below = np.nextafter(low, np.float32(-np.inf))
        above = np.nextafter(high, np.float32(np.inf))
    # Gap i lies above interval i - 1 and below interval i. Empty places stand last: the first of them bounds nothing, so
    # the gap before it is open, and the gaps behind it are none.
    below = np.where(low > high, np.float32(np.inf), below)
    above = np.where(low > high, np.float32(np.nan), above)
    return merge(np.concatenate([-edge, above], axis=-2), np.concatenate([below, edge], axis=-2))
