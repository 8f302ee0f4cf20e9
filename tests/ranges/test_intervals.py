"""The interval algebra, held against membership of single points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.ranges.intervals import EMPTY, WHOLE, complement, contains, is_empty, merge, union
from neuronlens.records import FloatArray

# Few distinct bounds, so that intervals touch, coincide and nest often; all exact in float32.
BOUNDS = [
    -np.inf,
    -3.0,
    -1.5,
    -1.0,
    0.0,
    0.25,
    1.0,
    2.0,
    3.5,
    np.inf,
    float(np.nextafter(np.float32(1), np.float32(2))),
]
LARGEST = float(np.finfo(np.float32).max)


@st.composite
def interval_sets(draw: st.DrawFn, neurons: int = 3) -> tuple[FloatArray, FloatArray]:
    """Draw `lower, upper [interval, neuron]`: plain, inverted (so empty), points, EMPTY and WHOLE."""
    count = draw(st.integers(1, 5))
    bound = st.sampled_from(BOUNDS) | st.floats(-4, 4, width=32)
    pair = st.tuples(bound, bound) | bound.map(lambda value: (value, value)) | st.sampled_from([EMPTY, WHOLE])
    pairs = draw(st.lists(pair, min_size=count * neurons, max_size=count * neurons))
    table = np.array(pairs).reshape(count, neurons, 2)
    return table[..., 0], table[..., 1]


def probes(*bounds: FloatArray) -> FloatArray:
    """Return finite float32 points at, just below and just above every bound, and far out `[point, neuron]`."""
    near = np.concatenate([np.ravel(bound) for bound in bounds]).astype(np.float32)
    near = near[np.isfinite(near)]
    sides = [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))]
    points = np.concatenate([*sides, np.linspace(-5, 5, 41, dtype=np.float32), [LARGEST, -LARGEST, 0]])
    return np.repeat(points[:, None], bounds[0].shape[-1], axis=1)


def assert_merged(lower: FloatArray, upper: FloatArray) -> None:
    empty = is_empty(lower, upper)
    assert (lower[empty] == EMPTY[0]).all()
    assert (upper[empty] == EMPTY[1]).all()
    for neuron in range(lower.shape[-1]):
        low, high = lower[~empty[:, neuron], neuron], upper[~empty[:, neuron], neuron]
        assert not empty[: len(low), neuron].any(), "empty intervals stand last"
        assert (low <= high).all()
        assert (high[:-1] < low[1:]).all(), "ascending, and no two overlap or touch"


@given(interval_sets())
def test_merge_keeps_membership_and_is_sorted_and_disjoint(intervals: tuple[FloatArray, FloatArray]) -> None:
    lower, upper = intervals
    before = (lower.copy(), upper.copy())
    merged = merge(lower, upper)
    points = probes(lower, upper)
    np.testing.assert_array_equal(contains(points, *merged), contains(points, lower, upper))
    assert_merged(*merged)
    again = merge(*merged)
    np.testing.assert_array_equal(again[0], merged[0])
    np.testing.assert_array_equal(again[1], merged[1])
    assert merged[0].shape[0] == max((~is_empty(*merged)).sum(axis=0).max(), 1), "no place is left over"
    np.testing.assert_array_equal(lower, before[0])
    np.testing.assert_array_equal(upper, before[1])


@given(interval_sets(), interval_sets())
def test_a_union_holds_where_either_holds(
    first: tuple[FloatArray, FloatArray], second: tuple[FloatArray, FloatArray]
) -> None:
    points = probes(*first, *second)
    result = union(*first, *second)
    np.testing.assert_array_equal(contains(points, *result), contains(points, *first) | contains(points, *second))
    assert_merged(*result)


@given(interval_sets())
def test_complement_holds_exactly_where_the_set_does_not(intervals: tuple[FloatArray, FloatArray]) -> None:
    points = probes(*intervals)
    outside = complement(*intervals)
    np.testing.assert_array_equal(contains(points, *outside), ~contains(points, *intervals))
    np.testing.assert_array_equal(contains(points, *complement(*outside)), contains(points, *intervals))
    assert_merged(*outside)


def test_leading_dimensions_are_independent_and_trailing_places_trimmed_across_them() -> None:
    lower = np.array([[[0.0], [2.0], [EMPTY[0]]], [[5.0], [5.0], [EMPTY[0]]]])
    upper = np.array([[[1.0], [3.0], [EMPTY[1]]], [[6.0], [7.0], [EMPTY[1]]]])
    low, high = merge(lower, upper)
    np.testing.assert_array_equal(low[..., 0], [[0.0, 2.0], [5.0, np.inf]])
    np.testing.assert_array_equal(high[..., 0], [[1.0, 3.0], [7.0, -np.inf]])
    broadcast = union(lower, upper, np.array([[0.5]]), np.array([[2.5]]))
    np.testing.assert_array_equal(broadcast[0][..., 0], [[0.0, np.inf], [0.5, 5.0]])
    np.testing.assert_array_equal(broadcast[1][..., 0], [[3.0, -np.inf], [2.5, 7.0]])


@pytest.mark.parametrize(("given_set", "expected"), [(EMPTY, WHOLE), (WHOLE, EMPTY)])
def test_empty_and_whole_are_each_others_complement(
    given_set: tuple[float, float], expected: tuple[float, float]
) -> None:
    lower, upper = (np.full((2, 1), bound) for bound in given_set)
    low, high = complement(lower, upper)
    assert (low.item(), high.item()) == expected


def test_touching_intervals_merge_and_points_survive() -> None:
    lower, upper = merge(np.array([[1.0], [0.0], [4.0]]), np.array([[2.0], [1.0], [4.0]]))
    assert lower.ravel().tolist() == [0.0, 4.0]
    assert upper.ravel().tolist() == [2.0, 4.0]


def test_nan_is_neither_a_bound_nor_a_member() -> None:
    lower, upper = merge(np.array([[np.nan], [0.0]]), np.array([[1.0], [np.nan]]))
    assert (lower.item(), upper.item()) == EMPTY
    assert not contains(np.array([[np.nan]]), np.array([[-np.inf]]), np.array([[np.inf]])).any()
