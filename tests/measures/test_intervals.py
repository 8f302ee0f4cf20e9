"""What the settings of a run make of its intervals: formulas, none where there is nothing to tell, none where none is wanted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.config.compose import compose
from neuronlens.measures.intervals import Bootstrap

SETTINGS = Bootstrap(0.9, 300, 3)


def test_trap_43_a_mean_over_a_handful_of_concepts_has_students_interval_or_a_wider_one() -> None:
    values = np.array([-0.3, -0.1, 0.1, 0.3])  # symmetric, so that no side is widened for skewness
    expected = stats.t.interval(0.9, 3, loc=values.mean(), scale=stats.sem(values))
    assert SETTINGS.of_mean(values) == pytest.approx((0.0, *expected))
    generator, held, percentile_held = np.random.default_rng(0), 0, 0
    settings = Bootstrap(0.95, 1000, 0)
    for _ in range(1000):
        drawn = generator.normal(size=4)
        low, high = settings.of_mean(drawn)[1:]
        held += low <= 0 <= high
        low, high = settings.bounds(settings.counts(4) @ drawn / 4)
        percentile_held += low <= 0 <= high
    assert held >= 930
    assert percentile_held < 850, "what stood there before, at the same level"


def test_trap_41_one_concept_or_no_resamples_has_a_mean_and_no_interval() -> None:
    for estimate in (SETTINGS.of_mean([0.4]), Bootstrap(0.9, 0, 0).of_mean([0.3, 0.5])):
        assert estimate.value == pytest.approx(0.4)
        assert np.isnan(estimate[1:]).all()
    assert np.isnan(SETTINGS.of_mean([])).all()


def test_trap_39_intervals_over_pairs_are_those_of_the_concepts(generator: np.random.Generator) -> None:
    """Means of `effect_i + effect_j` over pairs are twice the mean effect, so the interval must be twice that one's."""
    effect = generator.normal(size=12)
    square = effect[:, None] + effect[None, :]
    found, of_effects = SETTINGS.of_pairs(square), SETTINGS.of_mean(effect)
    assert found == pytest.approx([2 * end for end in of_effects])
    pairs = square[np.triu_indices(12, 1)]
    naive = SETTINGS.of_mean(pairs)
    assert found.high - found.low > 2 * (naive.high - naive.low)
    rows = SETTINGS.of_mean((square.sum(axis=1) - np.diag(square)) / 11)
    assert found.high - found.low > 1.5 * (rows.high - rows.low), "means of rows are not independent either"


def test_two_concepts_make_one_pair_and_no_interval() -> None:
    mean, low, high = SETTINGS.of_pairs(np.array([[1.0, 0.3], [0.3, 1.0]]))
    assert mean == pytest.approx(0.3)
    assert np.isnan([low, high]).all()
    assert np.isnan(SETTINGS.of_pairs(np.ones((1, 1)))).all()


def test_both_values_of_a_pair_count_and_a_concept_without_any_is_left_out(generator: np.random.Generator) -> None:
    square = generator.uniform(size=(6, 6))
    assert SETTINGS.of_pairs(square) == pytest.approx(SETTINGS.of_pairs((square + square.T) / 2))
    larger = np.full((7, 7), np.nan)
    larger[:6, :6] = square
    assert SETTINGS.of_pairs(larger) == pytest.approx(SETTINGS.of_pairs(square))


def test_trap_44_shares_at_0_and_1_and_drops_of_nothing_have_a_width() -> None:
    for found in (
        SETTINGS.of_share(np.array([0, 20]), 20),
        SETTINGS.of_paired_shares(np.array([0]), np.array([0]), 20),
    ):
        assert (found.high - found.low > 0.01).all()


def test_resamples_are_the_same_every_time_and_differ_by_seed() -> None:
    assert (Bootstrap(0.95, 5, 0).counts(10) == Bootstrap(0.95, 5, 0).counts(10)).all()
    assert (Bootstrap(0.95, 5, 0).counts(10) != Bootstrap(0.95, 5, 1).counts(10)).any()
    assert (Bootstrap(0.95, 5, 0).counts(10).sum(1) == 10).all()
    assert Bootstrap(0.95, 5, 0).counts(0).shape == (5, 0)


def test_several_means_have_the_bounds_of_each(generator: np.random.Generator) -> None:
    values = generator.normal(size=(3, 7))
    found = SETTINGS.of_mean(values)
    for row, own in enumerate(values):
        assert [end[row] for end in found] == pytest.approx(list(SETTINGS.of_mean(own)), abs=1e-12)
    assert (found.low < found.high).all()


def test_without_resamples_every_bound_is_missing_in_its_own_shape() -> None:
    off, counts = SETTINGS.off(), np.array([1, 2, 3])
    made = (
        off.of_mean(np.arange(12.0).reshape(3, 4)),
        off.of_share(counts, 4),
        off.of_paired_shares(counts, 0, 4),
        off.of_difference(SETTINGS.of_share(counts, 4), SETTINGS.of_share(counts, 9)),
    )
    for found in made:
        assert found.value.shape == found.low.shape == found.high.shape == (3,)
        assert np.isfinite(found.value).all()
        assert np.isnan([found.low, found.high]).all()
    assert [bound.shape for bound in off.bounds(off.counts(3) @ np.ones((3, 3)))] == [(3,), (3,)]
    assert np.isnan(off.of_pairs(np.ones((4, 4)))[1:]).all()


def test_the_settings_are_the_configs() -> None:
    config = compose(["evaluation.level=0.9", "evaluation.bootstrap=77", "seed=3"])
    assert Bootstrap.of(config) == Bootstrap(0.9, 77, 3)
