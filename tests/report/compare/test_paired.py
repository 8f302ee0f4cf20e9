"""Intervals over concepts and over pairs of them, against loops that take one resample at a time."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.measures.intervals import resample_counts
from neuronlens.report.compare.paired import Bootstrap

BOOTSTRAP = Bootstrap(0.9, 300, 3)


def test_over_is_the_percentile_bootstrap_of_the_mean(generator: np.random.Generator) -> None:
    values = generator.normal(size=9)
    means = [
        np.mean(np.repeat(values, count.astype(int)))
        for count in resample_counts(9, BOOTSTRAP.resamples, BOOTSTRAP.seed)
    ]
    expected = (values.mean(), *np.percentile(means, [5, 95]))
    assert BOOTSTRAP.over(values) == pytest.approx(expected, abs=1e-6)


def test_one_concept_or_no_resamples_has_a_mean_and_no_interval() -> None:
    for estimate in (BOOTSTRAP.over(np.array([0.4])), Bootstrap(0.9, 0, 0).over(np.array([0.3, 0.5]))):
        assert estimate[0] == pytest.approx(0.4)
        assert np.isnan(estimate[1:]).all()
    assert np.isnan(BOOTSTRAP.over(np.array([]))).all()


def test_over_pairs_resamples_concepts_and_leaves_out_a_concepts_pair_with_itself(
    generator: np.random.Generator,
) -> None:
    upper = np.triu(generator.uniform(size=(6, 6)), 1)
    square = upper + upper.T + np.eye(6) * 99  # a diagonal that would show
    means = []
    for count in resample_counts(6, BOOTSTRAP.resamples, BOOTSTRAP.seed):
        drawn = np.repeat(np.arange(6), count.astype(int))
        pairs = [square[a, b] for i, a in enumerate(drawn) for b in drawn[i + 1 :] if a != b]
        weights = [1.0 for _ in pairs]
        if pairs:
            means.append(np.average(pairs, weights=weights))
    same = [square[a, b] for a in range(6) for b in range(a + 1, 6)]
    assert BOOTSTRAP.over_pairs(square) == pytest.approx((np.mean(same), *np.percentile(means, [5, 95])), abs=1e-9)


def test_intervals_over_pairs_are_wider_than_if_pairs_were_independent(generator: np.random.Generator) -> None:
    effect = generator.normal(size=12)
    square = effect[:, None] + effect[None, :]
    _, low, high = BOOTSTRAP.over_pairs(square)
    pairs = square[np.triu_indices(12, 1)]
    _, naive_low, naive_high = BOOTSTRAP.over(pairs)
    assert high - low > 2 * (naive_high - naive_low)


def test_two_concepts_make_one_pair_and_no_interval() -> None:
    mean, low, high = BOOTSTRAP.over_pairs(np.array([[1.0, 0.3], [0.3, 1.0]]))
    assert mean == pytest.approx(0.3)
    assert np.isnan([low, high]).all()
    assert np.isnan(BOOTSTRAP.over_pairs(np.ones((1, 1)))).all()
