"""Intervals by formula: against SciPy and statsmodels-free references, at their edges, and for what they cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from neuronlens.measures.estimates import Estimate, of_difference, of_mean, of_paired_shares, of_pairs, of_share


def test_a_symmetric_sample_has_students_interval() -> None:
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    found = of_mean(values, 0.9)
    low, high = stats.t.interval(0.9, 4, 0.0, stats.sem(values))
    assert found == pytest.approx((0.0, low, high))


def test_a_skewed_sample_is_widened_on_the_side_of_its_tail_alone() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.3, 2.0])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    found = of_mean(values, 0.95)
    assert found.low == pytest.approx(low)
    assert found.high > high + 0.1
    mirrored = of_mean(-values, 0.95)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((found.low, found.high))


def test_the_bounds_are_where_halls_transformation_meets_the_quantile() -> None:
    values = np.random.default_rng(3).exponential(size=12)
    n, g = len(values), stats.skew(values, bias=False)
    s, q = values.std(ddof=1), stats.t.ppf(0.975, len(values) - 1) / np.sqrt(len(values))

    def transformed(mean: float) -> float:
        t = (values.mean() - mean) / s
        return float(t + g / 3 * t**2 + g**2 / 27 * t**3 + g / (6 * n))

    high = optimize.brentq(lambda mean: transformed(mean) + q, values.mean(), values.mean() + 50 * s)
    assert of_mean(values, 0.95).high == pytest.approx(high, rel=1e-9)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_no_interval_below_two_values(values: list[float]) -> None:
    found = of_mean(values, 0.95)
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_equal_values_have_no_width_though_their_mean_is_rounded() -> None:
    found = of_mean(np.full(7, 0.1), 0.95)
    assert found.low == found.high == found.value


@given(st.integers(0, 10_000), st.integers(3, 12), st.floats(0.01, 100), st.floats(-50, 50))
@settings(max_examples=60, deadline=None)
def test_an_interval_moves_and_scales_with_its_values(seed: int, n: int, scale: float, shift: float) -> None:
    values = np.random.default_rng(seed).exponential(size=n)
    plain, moved = of_mean(values, 0.95), of_mean(values * scale + shift, 0.95)
    assert moved.low == pytest.approx(plain.low * scale + shift, rel=1e-6, abs=1e-6)
    assert moved.high == pytest.approx(plain.high * scale + shift, rel=1e-6, abs=1e-6)


def test_a_share_of_0_or_1_has_a_width() -> None:
    found = of_share([0, 3, 10], [10, 10, 10], 0.95)
    for place, hits in enumerate((0, 3, 10)):
        low, high = stats.binomtest(hits, 10).proportion_ci(method="wilson")
        assert (found.low[place], found.high[place]) == pytest.approx((low, high), abs=1e-12)
    assert found.high[0] > 0.2
    assert found.low[2] < 0.8
    assert np.isnan(of_share(0, 0, 0.95).value)


def _tango(lost: int, gained: int, n: int, d: float) -> float:
    """Return the score statistic with the nuisance share found by maximising the likelihood numerically."""

    def likelihood(q: float) -> float:
        cells = [(lost, q + d), (gained, q), (n - lost - gained, 1 - 2 * q - d)]
        return -sum(count * np.log(max(p, 1e-300)) for count, p in cells if count)

    low, high = max(0.0, -d), (1 - d) / 2
    q = optimize.minimize_scalar(likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return float((lost - gained - n * d) / np.sqrt(n * (2 * q + d - d * d)))


@pytest.mark.parametrize(("lost", "gained", "n"), [(5, 1, 20), (9, 3, 44), (1, 1, 10), (7, 0, 30)])
def test_the_bounds_of_a_drop_solve_tangos_score_equation(lost: int, gained: int, n: int) -> None:
    drop, low, high = of_paired_shares(lost, gained, n, 0.95)
    assert drop == pytest.approx((lost - gained) / n)
    assert _tango(lost, gained, n, float(low)) == pytest.approx(1.959964, abs=2e-4)
    assert _tango(lost, gained, n, float(high)) == pytest.approx(-1.959964, abs=2e-4)


@given(st.integers(1, 60), st.data())
@settings(max_examples=80, deadline=None)
def test_a_drop_and_its_reverse_mirror_each_other(n: int, data: st.DataObject) -> None:
    lost = data.draw(st.integers(0, n))
    gained = data.draw(st.integers(0, n - lost))
    there, back = of_paired_shares(lost, gained, n, 0.95), of_paired_shares(gained, lost, n, 0.95)
    assert there.low == pytest.approx(-back.high, abs=1e-9)
    assert -1 <= there.low <= there.value <= there.high <= 1
    assert there.high - there.low > 0


def test_a_difference_of_two_estimates_adds_their_distances_in_quadrature() -> None:
    one, other = Estimate(*np.array([0.5, 0.4, 0.7])), Estimate(*np.array([0.1, 0.0, 0.3]))
    found = of_difference(one, other)
    assert found == pytest.approx((0.4, 0.4 - np.hypot(0.1, 0.2), 0.4 + np.hypot(0.2, 0.1)))


def test_pairs_are_left_out_by_member() -> None:
    square = np.random.default_rng(0).random((7, 7))
    square = (square + square.T) / 2
    pairs = square[np.triu_indices(7, 1)]
    means = []
    for left_out in range(7):
        kept = np.delete(np.delete(square, left_out, 0), left_out, 1)
        means.append(kept[np.triu_indices(6, 1)].mean())
    pseudo = 7 * pairs.mean() - 6 * np.array(means)
    found = of_pairs(square, 0.95)
    assert found.value == pytest.approx(pairs.mean())
    expected = of_mean(pseudo, 0.95)
    assert found.high - found.value == pytest.approx(expected.high - expected.value)
    assert np.isnan(of_pairs(square[:2, :2], 0.95).low)


def test_the_interval_of_a_few_values_covers_what_it_says() -> None:
    generator = np.random.default_rng(1)
    for n in (4, 8, 20):
        for draws, truth in ((generator.normal(size=(4000, n)), 0.0), (generator.gamma(2.0, size=(4000, n)), 2.0)):
            found = of_mean(draws, 0.95)
            covered = np.mean((found.low <= truth) & (truth <= found.high))
            assert 0.93 <= covered <= 0.985, (n, truth)
            t = stats.t.ppf(0.975, n - 1) * draws.std(1, ddof=1) / np.sqrt(n)
            if truth:
                assert np.mean(np.abs(draws.mean(1) - truth) <= t) < covered, "the control: Student's t covers less"
