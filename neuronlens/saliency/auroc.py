"""Saliency by how well a neuron alone separates a concept's samples from the rest: the area under the ROC curve."""

from __future__ import annotations

import numpy as np

from neuronlens.errors import ShapeError
from neuronlens.records import ActivationSet, FloatArray, IntArray
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking

CHUNK_VALUES = 1 << 21
"""Values ranked at a time; ranking holds about ten float64 arrays of that size (160 MiB)."""


def auroc(values: FloatArray, labels: IntArray, concepts: int) -> FloatArray:
    """Return each neuron's area under the ROC curve for each concept against all the others.

    AUROC = (R_c - n_c (n_c + 1) / 2) / (n_c n_notc), R_c the sum over S_c of the ranks among all samples, ties given
    their average rank: the share of (concept, other) pairs in which the concept's value is higher, a tie counting one
    half (Mann & Whitney 1947).

    Args:
        values: `[sample, neuron]`, finite; not modified.
        labels: concept index `[sample]`.
        concepts: how many concepts there are.

    Returns:
        `[concept, neuron]` float64 in [0, 1]; NaN for a concept that has no sample, or all of them.

    Raises:
        ShapeError: samples and labels differ in number.

    >>> auroc(np.array([[1.0], [2.0], [2.0], [3.0]]), np.array([0, 0, 1, 1]), 2).tolist()
    [[0.125], [0.875]]
    """
    from scipy.stats import rankdata  # here, so that a config is checked without SciPy

    samples, neurons = values.shape
    if samples != len(labels):
        raise ShapeError(f"{samples} rows of activations, {len(labels)} labels.")
    member = np.equal.outer(np.arange(concepts), labels).astype(np.float64)
    inside = member.sum(axis=1)[:, None]
    pairs = inside * (samples - inside)
    rank_sums = np.zeros((concepts, neurons))
    width = max(1, CHUNK_VALUES // max(samples, 1))
    for start in range(0, neurons, width):
        chunk = slice(start, start + width)
        # Half-integers below 2^53: the sums are exact in float64, so ties come out right to the last bit.
        rank_sums[:, chunk] = member @ rankdata(np.ascontiguousarray(values[:, chunk].T), axis=1).T
    wins = rank_sums - inside * (inside + 1) / 2
    return np.divide(wins, pairs, out=np.full_like(wins, np.nan), where=pairs > 0)


class AurocSaliency(Ranker):
    """Scores a neuron by abs(AUROC(c against the rest) - 0.5) * 2 (SPEC section 2, `auroc`; AurA, Suau et al. 2024)."""

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]` in [0, 1]; NaN for a concept that has no sample, or all of them."""
        areas = auroc(activations.values, activations.labels, len(activations.concepts))
        return NeuronRanking("auroc", np.abs(areas - 0.5) * 2, activations.concepts)
