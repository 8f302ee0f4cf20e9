"""Activations with what trips rankers up: ties, a constant neuron, and (on request) a concept without samples."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.records import ActivationSet
from tests.conftest import MakeActivations


@pytest.fixture(scope="session")
def tied(make_activations: MakeActivations) -> ActivationSet:
    """60 samples of three concepts and one without any; neuron 0 is constant, the rest have ties, 3 and up a signal."""
    random = np.random.default_rng(7)
    labels = random.permutation(np.repeat([0, 1, 3], [10, 20, 30]))
    values = random.integers(-3, 4, size=(60, 8)) / 2 + np.where(np.arange(8) >= 3, labels[:, None] / 4, 0)
    values[:, 0] = 0.1
    return make_activations(values, labels, 4)
