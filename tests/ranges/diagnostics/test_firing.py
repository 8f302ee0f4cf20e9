"""Diagnostics against loops over samples and numerical integrals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from neuronlens.errors import ShapeError
from neuronlens.ranges.diagnostics.firing import bhattacharyya, firing
from neuronlens.ranges.intervals import EMPTY
from tests.ranges.activations import activation_set


def test_firing_is_counted_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 2, 60)
    lower = np.array([[[-1.0, 0.0, 5.0], [1.0, EMPTY[0], EMPTY[0]]], [[-0.5, -np.inf, 0.0]] * 2])
    upper = np.array([[[0.0, 0.7, 6.0], [2.0, EMPTY[1], EMPTY[1]]], [[0.5, np.inf, 1.0]] * 2])
    result = firing(values, labels, lower, upper)
    for concept in range(2):
        for neuron in range(3):
            inside = np.array(
                [
                    any(lower[concept, i, neuron] <= x <= upper[concept, i, neuron] for i in range(2))
                    for x in values[:, neuron]
                ]
            )
            assert result.coverage[concept, neuron] == pytest.approx(inside[labels == concept].mean())
            assert result.rest[concept, neuron] == pytest.approx(inside[labels != concept].mean())
            purity = (labels[inside] == concept).mean() if inside.any() else np.nan
            assert result.purity[concept, neuron] == pytest.approx(purity, nan_ok=True)
    assert np.isnan(result.purity[0, 2])


def test_a_share_of_no_samples_is_nan_and_a_wrong_shape_is_refused() -> None:
    result = firing(np.zeros((2, 1)), np.array([0, 0]), np.full((2, 1, 1), -1.0), np.full((2, 1, 1), 1.0))
    assert np.isnan(result.coverage[1, 0])
    assert np.isnan(result.rest[0, 0])
    with pytest.raises(ShapeError, match="labels"):
        firing(np.zeros((2, 1)), np.array([0]), np.zeros((1, 1, 1)), np.zeros((1, 1, 1)))


def test_bhattacharyya_is_the_integral_of_the_root_of_the_product() -> None:
    rng = np.random.default_rng(0)
    statistics = activation_set(*(rng.normal(m, s, size=(50, 2)) for m, s in ((0, 1), (1, 2), (-3, 0.3)))).statistics
    overlap = bhattacharyya(statistics)
    np.testing.assert_allclose(overlap, overlap.transpose(1, 0, 2))
    np.testing.assert_allclose(overlap[range(3), range(3)], 1)
    for first in range(3):
        for second in range(first):
            laws = [scipy.stats.norm(statistics.mean[c, 0], statistics.std[c, 0]) for c in (first, second)]
            grid = np.linspace(-15, 15, 200_001)
            integral = scipy.integrate.trapezoid(np.sqrt(laws[0].pdf(grid) * laws[1].pdf(grid)), grid)
            assert overlap[first, second, 0] == pytest.approx(integral, abs=1e-9)


def test_constants_overlap_only_with_themselves() -> None:
    statistics = activation_set([[1.0], [1.0]], [[2.0], [2.0]], [[1.0], [3.0]]).statistics
    np.testing.assert_array_equal(bhattacharyya(statistics)[:, :, 0], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
