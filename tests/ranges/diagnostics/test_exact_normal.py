"""What an exact Gaussian gives, against fits and tests of drawn samples with SciPy, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.ranges.diagnostics.exact_normal import exact_normal, near_normal

FIT, TEST = 30, 40


def drawn(generator: np.random.Generator, draws: int) -> np.ndarray:
    """Return statistic, |skewness| and |excess kurtosis| of Gaussians of any mean and deviation `[draw, 3]`."""
    found = []
    for _ in range(draws):
        mean, std = generator.uniform(-5, 5), generator.uniform(0.1, 9)
        fit, test = generator.normal(mean, std, FIT), generator.normal(mean, std, TEST)
        statistic = stats.kstest(test, "norm", args=(fit.mean(), fit.std())).statistic
        found.append((statistic, abs(stats.skew(test)), abs(stats.kurtosis(test))))
    return np.array(found)


def test_the_simulated_law_is_that_of_fits_and_tests_of_any_gaussian(generator: np.random.Generator) -> None:
    law, found = exact_normal(FIT, TEST), drawn(generator, 2000)
    assert stats.ks_2samp(law.ks_statistics, found[:, 0]).pvalue > 0.01
    assert law.skewness == pytest.approx(found[:, 1].mean(), rel=0.05)
    assert law.excess_kurtosis == pytest.approx(found[:, 2].mean(), rel=0.05)
    rejected = np.mean(law.p(found[:, 0]) < 0.05)
    assert 0.03 < rejected < 0.07
    tabled = np.mean(stats.kstwo.sf(found[:, 0], TEST) < 0.05)
    assert tabled > 2 * rejected, "the error of the fit is what the tabled law leaves out"


def test_p_is_a_share_of_draws_never_zero_and_falls() -> None:
    law = exact_normal(FIT, TEST)
    p = law.p(np.array([0.0, 0.1, 0.2, 1.0, np.nan]))
    assert p[0] == 1.0
    assert (np.diff(p[:4]) < 0).all()
    assert p[3] == pytest.approx(1 / (len(law.ks_statistics) + 1))
    assert np.isnan(p[4])
    by_hand = (1 + np.sum(law.ks_statistics >= 0.2)) / (1 + len(law.ks_statistics))
    assert p[2] == pytest.approx(by_hand)


def test_draws_in_parts_are_as_many_and_the_same_each_time() -> None:
    law = exact_normal(5, 3000, draws=1500)  # more values than are held at once
    assert law.ks_statistics.shape == (1500,)
    exact_normal.cache_clear()
    assert (exact_normal(5, 3000, draws=1500).ks_statistics == law.ks_statistics).all()


@pytest.mark.parametrize(("n_fit", "n_test"), [(10, 20), (60, 140)])
def test_trap_50_bounds_depend_on_the_number_of_samples(
    n_fit: int, n_test: int, generator: np.random.Generator
) -> None:
    edge, exact = near_normal(n_fit, n_test), exact_normal(n_fit, n_test)
    kept, skewed, heavy = [], [], []
    for _ in range(1500):
        fit, test = generator.gamma(16, 3.0, n_fit), generator.gamma(16, 3.0, n_test)
        statistic = stats.kstest(test, "norm", args=(fit.mean(), fit.std())).statistic
        kept.append(np.mean(exact.ks_statistics >= statistic) >= 0.05)
        skewed.append(abs(stats.skew(test)))
        heavy.append(abs(stats.kurtosis(generator.standard_t(10, n_test))))
    assert edge.kept == pytest.approx(np.mean(kept), abs=0.03)
    assert edge.skewness == pytest.approx(np.mean(skewed), rel=0.06)
    assert edge.excess_kurtosis == pytest.approx(np.mean(heavy), rel=0.12)
    assert edge.skewness > exact.skewness
    assert edge.excess_kurtosis > exact.excess_kurtosis
    few, many = near_normal(10, 20), near_normal(400, 400)
    assert few.kept - many.kept > 0.05, "a test of more samples rejects more"
    assert many.skewness == pytest.approx(0.5, abs=0.03), "the law's own"
    assert exact_normal(10, 10).skewness > 0.4, "a fixed bound of 0.5 could not hold for exact Gaussians of 10 samples"
