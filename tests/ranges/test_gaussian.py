"""Gaussian ranges against a direct loop, and the statistics they carry."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from neuronlens.errors import ConfigError
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.ranges.intervals import EMPTY, WHOLE
from tests.ranges.activations import activation_set


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.5])
def test_bounds_are_mean_plus_minus_tau_standard_deviations(tau: float) -> None:
    samples = [np.random.default_rng(seed).normal(seed, seed + 1, size=(50, 3)) for seed in range(2)]
    ranges = GaussianRange(tau=tau).fit(activation_set(*samples))
    for concept, part in enumerate(samples):
        for neuron in range(3):
            column = part[:, neuron].astype(np.float32).astype(np.float64)
            half = tau * np.sqrt(((column - column.mean()) ** 2).mean())
            assert ranges.lower[concept, 0, neuron] == pytest.approx(column.mean() - half)
            assert ranges.upper[concept, 0, neuron] == pytest.approx(column.mean() + half)
            test = scipy.stats.kstest(column, "norm", (column.mean(), column.std()))
            assert ranges.law["ks_statistic"][concept, neuron] == pytest.approx(test.statistic)
            assert ranges.law["ks_p"][concept, neuron] == pytest.approx(test.pvalue)


def test_infinite_tau_is_the_whole_neuron_even_for_a_constant_one() -> None:
    ranges = GaussianRange(tau=np.inf).fit(activation_set([[1.0], [1.0]], [[2.0]]))
    assert (ranges.lower[0, 0, 0], ranges.upper[0, 0, 0]) == WHOLE
    assert (ranges.lower[1, 0, 0], ranges.upper[1, 0, 0]) == EMPTY
    assert list(ranges.skipped) == [1]


@pytest.mark.parametrize("tau", [-1.0, float("nan")])
def test_a_negative_width_is_refused(tau: float) -> None:
    with pytest.raises(ConfigError, match=r"range\.tau"):
        GaussianRange(tau=tau)
