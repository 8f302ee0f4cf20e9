"""Activation sets built by hand, with their statistics from plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from neuronlens.records import ActivationSet, ConceptStatistics, FloatArray, Site


def statistics_of(values: FloatArray, labels: ArrayLike, concepts: int) -> ConceptStatistics:
    """Return the moments of every concept, NaN where it has no sample."""
    wide, owner = np.asarray(values, dtype=np.float64), np.asarray(labels)

    def per_concept(moment: Any) -> FloatArray:
        rows = [wide[owner == concept] for concept in range(concepts)]
        return np.stack([moment(part) if len(part) else np.full(wide.shape[1], np.nan) for part in rows])

    return ConceptStatistics(
        count=np.bincount(owner, minlength=concepts),
        mean=per_concept(lambda part: part.mean(axis=0)),
        variance=per_concept(lambda part: part.var(axis=0)),
        mean_abs=per_concept(lambda part: np.abs(part).mean(axis=0)),
    )


def activation_set(*samples: ArrayLike) -> ActivationSet:
    """Return an activation set of one `[sample, neuron]` array per concept, float32, rows in concept order."""
    parts = [np.asarray(part, dtype=np.float32) for part in samples]
    values = np.concatenate(parts)
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return ActivationSet(
        site=Site(0),
        values=values,
        labels=labels,
        concepts=tuple(f"concept {index}" for index in range(len(parts))),
        ids=tuple(f"sample {index}" for index in range(len(values))),
        statistics=statistics_of(values, labels, len(parts)),
        fingerprint="by hand",
    )
