"""Colours and error bars that the figures of a run share."""

from __future__ import annotations

import numpy as np

from neuronlens.records import FloatArray

NEURON_COLOUR = "#d55e00"  # Okabe and Ito's palette, which colour-blind readers can tell apart
RANGE_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#332288", "#cc79a7", "#999999")


def error_bars(mean: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray | None:
    """Return how far an interval reaches below and above each mean `[2, point]`; None where no point has an interval."""
    if np.isnan(low).all():
        return None
    return np.maximum([mean - low, high - mean], 0)
