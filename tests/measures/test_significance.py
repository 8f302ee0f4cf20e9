"""Exact sign-flip p values and Holm's correction, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.measures.significance import holm, sign_flip_p


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_every_sign_pattern_is_counted(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.4, 1.0, size=n)
    reference = stats.permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences) == pytest.approx(reference.pvalue)


def test_ties_and_zeros_count_as_extreme() -> None:
    assert sign_flip_p([0.1, 0.2, 0.3]) == 0.25
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert sign_flip_p([0.1, -0.1]) == 1.0
    assert np.isnan(sign_flip_p([]))


def test_many_differences_are_sampled_and_agree_with_a_normal_law() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, size=60)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert sign_flip_p(differences) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.005)
    assert sign_flip_p(differences) == sign_flip_p(differences)


def test_under_no_difference_p_is_small_as_rarely_as_it_says() -> None:
    generator = np.random.default_rng(5)
    p = np.array([sign_flip_p(generator.standard_t(3, size=8)) for _ in range(600)])
    assert np.mean(p <= 0.05) <= 0.075
    assert np.mean(p <= 0.05) >= 0.02


def test_holm_is_the_stepwise_bound_and_skips_missing_values() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.5])
    assert holm(p) == pytest.approx([0.04, np.nan, 0.09, 0.09, 0.5], nan_ok=True)
    assert holm([]).tolist() == []
