"""Shape and goodness of fit against scipy.stats, column by column."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from neuronlens.ranges.diagnostics.normality import describe, ks_p, ks_statistic, normal_cdf, skewness_and_kurtosis
from tests.ranges.activations import activation_set


def columns(n: int, seed: int = 0) -> np.ndarray:
    """Return normal, skewed, heavy, uniform, two-peaked and far-off columns `[sample, neuron]`."""
    rng = np.random.default_rng(seed)
    peaks = np.where(rng.random(n) < 0.3, rng.normal(-4, 1, n), rng.normal(4, 1, n))
    parts = [rng.normal(size=n), rng.exponential(size=n), rng.standard_t(3, n), rng.uniform(size=n), peaks]
    return np.stack([*parts, 1000 + rng.normal(size=n)], axis=1)


@pytest.mark.parametrize("n", [2, 3, 7, 40, 150, 400])
def test_every_number_is_scipys(n: int) -> None:
    activations = activation_set(columns(n), columns(n + 5, seed=1))
    law = describe(activations, normal_cdf(activations.statistics))
    for concept in range(2):
        values = activations.values[activations.labels == concept].astype(np.float64)
        np.testing.assert_allclose(law["skewness"][concept], scipy.stats.skew(values), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(law["excess_kurtosis"][concept], scipy.stats.kurtosis(values), rtol=1e-9, atol=1e-12)
        for neuron, column in enumerate(values.T):
            test = scipy.stats.kstest(column, "norm", (column.mean(), column.std()))
            assert law["ks_statistic"][concept, neuron] == pytest.approx(test.statistic, abs=1e-12)
            assert law["ks_p"][concept, neuron] == pytest.approx(test.pvalue, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("n", [30, 60, 139, 400])
def test_many_p_values_are_scipys_as_well(n: int) -> None:
    statistic = np.concatenate([np.linspace(0, 1, 997), [np.nan]])
    p = ks_p(statistic, n)
    assert np.isnan(p[-1])
    np.testing.assert_allclose(p[:-1], scipy.stats.kstwo.sf(statistic[:-1], n), rtol=2e-5)
    assert ((p[:-1] >= 0) & (p[:-1] <= 1)).all()


def test_the_statistic_is_measured_against_the_law_it_is_given() -> None:
    values = columns(80)[:, 1:2]
    statistic = ks_statistic(values, lambda ordered: scipy.stats.expon.cdf(ordered))
    assert statistic[0] == pytest.approx(scipy.stats.kstest(values[:, 0], "expon").statistic)


def test_a_constant_neuron_and_an_empty_concept_are_nan_and_no_warning() -> None:
    activations = activation_set([[0.1, 1.0], [0.1, 2.0], [0.1, 4.0]], np.empty((0, 2)), [[3.0, 1.0]])
    with np.errstate(all="raise"):
        law = describe(activations, normal_cdf(activations.statistics))
    for part in law.values():
        assert np.isnan(part[0, 0])
        assert np.isfinite(part[0, 1])
        assert np.isnan(part[1:]).all()


def test_skewness_does_not_lose_precision_far_from_zero() -> None:
    values = np.random.default_rng(0).exponential(size=(500, 1))
    near, far = skewness_and_kurtosis(values), skewness_and_kurtosis(values + 1e6)
    np.testing.assert_allclose(near, far, rtol=1e-6)
