"""How much the concepts' salient sets have in common."""

from __future__ import annotations

import numpy as np

from neuronlens.records import BoolArray, FloatArray


def jaccard(selected: BoolArray) -> FloatArray:
    """Return the Jaccard overlap of every two concepts' salient sets: shared neurons / neurons in either.

    Args:
        selected: which neurons are salient `[concept, neuron]`.

    Returns:
        `[concept, concept]` float64, symmetric, in [0, 1]; NaN where both sets are empty.

    >>> jaccard(np.array([[True, True, False], [False, True, True]])).round(3).tolist()
    [[1.0, 0.333], [0.333, 1.0]]
    """
    member = selected.astype(np.float64)
    shared = member @ member.T
    size = member.sum(axis=1)
    either = size[:, None] + size[None] - shared
    return np.divide(shared, either, out=np.full_like(shared, np.nan), where=either > 0)
