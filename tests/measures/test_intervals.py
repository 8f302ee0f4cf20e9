"""Intervals over concepts and over pairs of them, against loops that take one resample at a time."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.config.compose import compose
from neuronlens.measures.intervals import Bootstrap

BOOTSTRAP = Bootstrap(0.9, 300, 3)


def test_it_is_the_percentile_bootstrap_of_the_mean(generator: np.random.Generator) -> None:
    values = generator.normal(size=9)
    means = [np.mean(np.repeat(values, count.astype(int))) for count in BOOTSTRAP.counts(9)]
    expected = (values.mean(), *np.percentile(means, [5, 95]))
    assert BOOTSTRAP.of_concepts(values) == pytest.approx(expected, abs=1e-6)


def test_one_concept_or_no_resamples_has_a_mean_and_no_interval() -> None:
    for estimate in (BOOTSTRAP.of_concepts(np.array([0.4])), Bootstrap(0.9, 0, 0).of_concepts(np.array([0.3, 0.5]))):
        assert estimate[0] == pytest.approx(0.4)
        assert np.isnan(estimate[1:]).all()
    assert np.isnan(BOOTSTRAP.of_concepts(np.array([]))).all()


def test_of_pairs_resamples_concepts_and_leaves_out_a_concepts_pair_with_itself(
    generator: np.random.Generator,
) -> None:
    upper = np.triu(generator.uniform(size=(6, 6)), 1)
    square = upper + upper.T + np.eye(6) * 99  # a diagonal that would show
    means = []
    for count in BOOTSTRAP.counts(6):
        drawn = np.repeat(np.arange(6), count.astype(int))
        pairs = [square[a, b] for i, a in enumerate(drawn) for b in drawn[i + 1 :] if a != b]
        weights = [1.0 for _ in pairs]
        if pairs:
            means.append(np.average(pairs, weights=weights))
    same = [square[a, b] for a in range(6) for b in range(a + 1, 6)]
    assert BOOTSTRAP.of_pairs(square) == pytest.approx((np.mean(same), *np.percentile(means, [5, 95])), abs=1e-9)


def test_intervals_over_pairs_are_wider_than_if_pairs_were_independent(generator: np.random.Generator) -> None:
    effect = generator.normal(size=12)
    square = effect[:, None] + effect[None, :]
    _, low, high = BOOTSTRAP.of_pairs(square)
    pairs = square[np.triu_indices(12, 1)]
    _, naive_low, naive_high = BOOTSTRAP.of_concepts(pairs)
    assert high - low > 2 * (naive_high - naive_low)


def test_two_concepts_make_one_pair_and_no_interval() -> None:
    mean, low, high = BOOTSTRAP.of_pairs(np.array([[1.0, 0.3], [0.3, 1.0]]))
    assert mean == pytest.approx(0.3)
    assert np.isnan([low, high]).all()
    assert np.isnan(BOOTSTRAP.of_pairs(np.ones((1, 1)))).all()


def test_resamples_are_the_same_every_time_and_differ_by_seed() -> None:
    assert (Bootstrap(0.95, 5, 0).counts(10) == Bootstrap(0.95, 5, 0).counts(10)).all()
    assert (Bootstrap(0.95, 5, 0).counts(10) != Bootstrap(0.95, 5, 1).counts(10)).any()
    assert (Bootstrap(0.95, 5, 0).counts(10).sum(1) == 10).all()
    assert Bootstrap(0.95, 5, 0).counts(0).shape == (5, 0)
    mean, low, high = Bootstrap(0.95, 200, 0).of_mean(np.array([1.0, 2.0, 3.0]))
    assert low <= mean == 2.0 <= high
    assert np.isnan(Bootstrap(0.95, 10, 0).of_mean(np.array([]))[0])


def test_several_means_have_the_bounds_of_each(generator: np.random.Generator) -> None:
    values = generator.normal(size=(7, 3))
    low, high = BOOTSTRAP.of_means(values)
    for column in range(3):
        expected = BOOTSTRAP.of_mean(values[:, column])
        assert (low[column], high[column]) == pytest.approx(expected[1:], abs=1e-12)
    assert (low < high).all()


def test_without_resamples_every_bound_is_missing_in_its_own_shape() -> None:
    off = BOOTSTRAP.off()
    assert off.of_mean(np.array([1.0, 2.0]))[0] == 1.5
    assert np.isnan(off.of_mean(np.array([1.0, 2.0]))[1:]).all()
    for bounds in (off.of_means(np.ones((4, 3))), off.bounds(off.counts(3) @ np.ones((3, 3)))):
        assert [bound.shape for bound in bounds] == [(3,), (3,)]
        assert np.isnan(bounds).all()
    assert np.isnan(off.of_pairs(np.ones((4, 4)))[1:]).all()


def test_the_settings_are_the_configs() -> None:
    config = compose(["evaluation.level=0.9", "evaluation.bootstrap=77", "seed=3"])
    assert Bootstrap.of(config) == Bootstrap(0.9, 77, 3)
