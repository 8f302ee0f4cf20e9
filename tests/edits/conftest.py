"""Activations that edits are fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.records import ActivationSet


@pytest.fixture(scope="module")
def skewed(make_activations) -> ActivationSet:
    """Three concepts of 40, 70 and 90 samples, five neurons of different laws; neuron 4 is constant."""
    random = np.random.default_rng(3)
    labels = random.permutation(np.repeat([0, 1, 2], [40, 70, 90]))
    values = random.gamma(2.0, size=(200, 5)) * (1 + labels[:, None]) + 3 * (labels[:, None] == 1)
    values[:, 4] = 0.3
    return make_activations(values, labels, 3)
