"""The Gaussian range against numpy and the normal law."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.activations.moments import statistics_of
from neuronlens.errors import ConfigError
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.ranges.intervals import contains
from neuronlens.records import ActivationSet, Site


def _set(values: np.ndarray, labels: np.ndarray) -> ActivationSet:
    concepts = tuple(str(number) for number in range(labels.max() + 1))
    ids = tuple(str(row) for row in range(len(labels)))
    return ActivationSet(Site(0), values, labels, concepts, ids, statistics_of(values, labels, len(concepts)), "f")


def test_bounds_are_mean_and_ddof_0_deviations(generator: np.random.Generator) -> None:
    values, labels = generator.normal(3, 2, size=(90, 5)).astype(np.float32), np.arange(90) % 3
    found = GaussianRange(tau=1.7).fit(_set(values, labels))
    for concept in range(3):
        own = values[labels == concept].astype(np.float64)
        np.testing.assert_allclose(found.lower[concept, 0], own.mean(0) - 1.7 * own.std(0), rtol=1e-9)
        np.testing.assert_allclose(found.upper[concept, 0], own.mean(0) + 1.7 * own.std(0), rtol=1e-9)


def test_tau_two_and_a_half_covers_what_the_normal_law_says(generator: np.random.Generator) -> None:
    values = generator.normal(size=(200_000, 1)).astype(np.float32)
    found = GaussianRange(tau=2.5).fit(_set(values, np.zeros(len(values), dtype=int)))
    covered = contains(values, found.lower[0], found.upper[0]).mean()
    assert stats.norm.cdf(2.5) - stats.norm.cdf(-2.5) == pytest.approx(0.9876, abs=5e-5)
    assert covered == pytest.approx(0.9876, abs=2e-3)


def test_tau_0_is_the_mean_and_a_constant_neuron_a_point() -> None:
    values = np.full((6, 2), 0.1, dtype=np.float32)
    for tau in (0.0, 3.0):
        found = GaussianRange(tau=tau).fit(_set(values, np.zeros(6, dtype=int)))
        assert contains(values, found.lower[0], found.upper[0]).all(), "the point holds its own value in float32"


@pytest.mark.parametrize("tau", [-0.1, float("nan"), -float("inf")])
def test_a_tau_that_is_no_width_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match=">= 0"):
        GaussianRange(tau=tau)
