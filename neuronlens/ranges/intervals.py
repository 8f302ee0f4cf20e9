"""Intervals as data: `lower, upper [..., interval, neuron]`, bounds included."""

from __future__ import annotations

import numpy as np

from neuronlens.records import BoolArray, FloatArray

EMPTY = (np.inf, -np.inf)
WHOLE = (-np.inf, np.inf)


def contains(values: FloatArray, lower: FloatArray, upper: FloatArray) -> BoolArray:
    """Return where values `[sample, neuron]` lie in any of the intervals `[interval, neuron]`; NaN never does.

    Compared in float32, as the edit compares them.

    >>> contains(np.array([[1.0], [3.0]]), np.array([[1.0]]), np.array([[2.0]])).tolist()
    [[True], [False]]
    """
    narrow, low, high = (np.asarray(array, dtype=np.float32) for array in (values, lower, upper))
    return np.asarray(((narrow[:, None] >= low) & (narrow[:, None] <= high)).any(axis=1))
