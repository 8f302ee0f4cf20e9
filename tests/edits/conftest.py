"""Activations made from arrays, without a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from neuronlens.activations import statistics_of
from neuronlens.records import ActivationSet, FloatArray, IntArray, Site

MakeActivations = Callable[..., ActivationSet]


@pytest.fixture(scope="session")
def make_activations() -> MakeActivations:
    def make(values: FloatArray, labels: IntArray, concepts: int) -> ActivationSet:
        narrow = np.asarray(values, dtype=np.float32)
        labels = np.asarray(labels)
        return ActivationSet(
            site=Site(1),
            values=narrow,
            labels=labels,
            concepts=tuple(f"c{index}" for index in range(concepts)),
            ids=tuple(str(row) for row in range(len(labels))),
            statistics=statistics_of(narrow, labels, concepts),
            fingerprint="test",
        )

    return make
