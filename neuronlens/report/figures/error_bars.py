"""Error bars of the figures of a run."""

from __future__ import annotations

import numpy as np

from neuronlens.records import FloatArray


def error_bars(mean: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray | None:
    """Return how far an interval reaches below and above each mean `[2, point]`; None where no point has an interval."""
    if np.isnan(low).all():
        return None
    return np.maximum([mean - low, high - mean], 0)
