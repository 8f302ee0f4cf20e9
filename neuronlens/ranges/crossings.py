"""Finds where a posterior crosses a threshold: a grid, the turning points between its points, and bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from neuronlens.ranges.densities import (
    Density,
    log_sum_exp,
)
from neuronlens.ranges.intervals import EMPTY, Intervals, merge
from neuronlens.records import FloatArray, IntArray

BISECTIONS = 60
# Beyond the even grid, points at 2^(1/8), 2^(2/8), ... times the span of the data, to about a million times.
TAIL_STEPS = 2.0 ** (np.arange(1, 161) / 8)
# Where p turns back between grid points, its extremum is searched for in this many golden sections.
GOLDEN_STEPS = 40
# Values of log p [concept, grid point, neuron] held at a time, float64.
GRID_ELEMENTS = 4_000_000


def log_posterior(density: Density, log_prior: FloatArray, points: FloatArray, neurons: IntArray) -> FloatArray:
    """Return log p(concept given point) `[concept, point]` at `points [point]` of the neurons `[point]`."""
    # Taken from the largest density before the prior is added: far out, where log p is -1e16, the prior would round away.
    relative = density.log_density(points, neurons)
    relative -= relative.max(axis=0)
    relative += log_prior[:, None]
    return relative - log_sum_exp(relative.copy(), axis=0)


def likely_intervals(
    density: Density, samples: Sequence[FloatArray], log_prior: FloatArray, theta: float, grid: int
) -> Intervals:
    """Return where the posterior is `theta` or more `[concept, interval, neuron]`, merged.

    Args:
        samples: of each concept `[sample, neuron]`; their span is the grid's.
        log_prior: `[concept]`.
        grid: points of its even part.
    """
    concepts, neurons = len(samples), samples[0].shape[1]
    points = grid + 2 * len(TAIL_STEPS) + len(density.landmarks(np.arange(1)))
    width = max(GRID_ELEMENTS // (concepts * points), 1)
    found = []
    for begin in range(0, neurons, width):
        chunk = np.arange(begin, min(begin + width, neurons))
        found.append(_crossings(density, _grid(density, samples, chunk, grid), chunk, log_prior, np.log(theta)))
    concept, neuron, place, low, high = (np.concatenate(parts) for parts in zip(*found, strict=True))
    shape = (concepts, int(place.max(initial=0)) + 1, neurons)
    lower, upper = np.full(shape, EMPTY[0]), np.full(shape, EMPTY[1])
    lower[concept, place, neuron], upper[concept, place, neuron] = low, high
    return merge(lower, upper)


def _grid(density: Density, samples: Sequence[FloatArray], neurons: IntArray, grid: int) -> FloatArray:
    """Return the ascending grid of each neuron `[point, neuron]`."""
    low = np.min([part[:, neurons].min(axis=0) for part in samples], axis=0)
    high = np.max([part[:, neurons].max(axis=0) for part in samples], axis=0)
    span = np.where(high > low, high - low, 1.0)
    even = np.linspace(low - span, high + span, grid, axis=0)
    steps = TAIL_STEPS[:, None] * span
    return np.sort(np.concatenate([even, low - steps, high + steps, density.landmarks(neurons)]), axis=0)


def _crossings(
    density: Density, grid: FloatArray, neurons: IntArray, log_prior: FloatArray, log_theta: float
) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
    """Return every interval of some neurons: concept, neuron, its place among the intervals there, lower and upper."""

    def excess(concepts: IntArray, rows: IntArray, points: FloatArray) -> FloatArray:
        """Return log p - log theta of some (concept, neuron) at one point each; 0 or more is inside."""
        posterior = log_posterior(density, log_prior, points, neurons[rows])
        return np.asarray(posterior[concepts, np.arange(len(points))] - log_theta)

    posterior = log_posterior(density, log_prior, grid.T.ravel(), np.repeat(neurons, len(grid)))
    above = (posterior - log_theta).reshape(len(log_prior), len(neurons), len(grid))
    inside = above >= 0
    outside_the_grid = np.zeros_like(inside[..., :1])
    sides = []
    for step, beyond in ((-1, -np.inf), (1, np.inf)):
        neighbour = [outside_the_grid, inside[..., :-1]] if step < 0 else [inside[..., 1:], outside_the_grid]
        concept, row, point = np.nonzero(inside & ~np.concatenate(neighbour, axis=-1))
        last = (point + step < 0) | (point + step >= len(grid))
        outer = np.where(last, beyond, grid[np.clip(point + step, 0, len(grid) - 1), row])
        sides.append([concept, row, grid[point, row], outer])
    for side, found in zip(sides, _between_points(excess, grid, above), strict=True):
        side[:] = [np.concatenate(parts) for parts in zip(side, found, strict=True)]
    bounds = []
    for concept, row, inner, outer in sides:
        order = np.lexsort((inner, row, concept))
        concept, row, inner, outer = concept[order], row[order], inner[order], outer[order]
        bounds.append(_bisect(partial(excess, concept, row), inner, outer))
    # Starts and ends alternate along a neuron, so the n-th start and the n-th end belong together.
    changes = np.flatnonzero(np.diff(concept * len(neurons) + row, prepend=-1))
    place = np.arange(len(concept)) - np.repeat(changes, np.diff(changes, append=len(concept)))
    return concept, neurons[row], place, bounds[0], bounds[1]


def _between_points(
    excess: Callable[[IntArray, IntArray, FloatArray], FloatArray], grid: FloatArray, above: FloatArray
) -> tuple[list[Any], list[Any]]:
    """Return starts and ends of intervals, and of gaps, that lie between grid points: concept, neuron, inner, outer each.

    Where the posterior peaks at a grid point just below theta, or dips just above it, the true extremum may lie on the other
    side: golden section finds it. "Just" is by no more than the drop to the lower neighbour, which bounds a parabola's.
    """
    starts, ends = [], []
    for sign in (1.0, -1.0):
        height = sign * above
        middle, left, right = height[..., 1:-1], height[..., :-2], height[..., 2:]
        peak = (middle > left) & (middle >= right) & (middle < 0 if sign > 0 else middle <= 0)
        peak &= middle + np.maximum(middle - left, middle - right) >= 0
        concept, row, point = np.nonzero(peak)
        low, high = grid[point, row], grid[point + 2, row]
        top = _golden(partial(excess, concept, row), sign, low, high)
        reached = excess(concept, row, top)
        crosses = reached >= 0 if sign > 0 else reached < 0
        concept, row = concept[crosses], row[crosses]
        low, high, top = low[crosses], high[crosses], top[crosses]
        # A peak inside starts to the right of `low` and ends to the left of `high`; a gap's neighbours do the opposite.
        starts.append([concept, row, *((top, low) if sign > 0 else (high, top))])
        ends.append([concept, row, *((top, high) if sign > 0 else (low, top))])
    starts_and_ends = [[np.concatenate(parts) for parts in zip(*side, strict=True)] for side in (starts, ends)]
    return starts_and_ends[0], starts_and_ends[1]


def _golden(height: Callable[[FloatArray], FloatArray], sign: float, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return where `sign * height` is largest between `low` and `high`, for functions with one peak there."""
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = sign * height(left), sign * height(right)
    for _ in range(GOLDEN_STEPS):
        go_left = at_left >= at_right
        low, high = np.where(go_left, low, left), np.where(go_left, right, high)
        fresh = np.where(go_left, high - ratio * (high - low), low + ratio * (high - low))
        at_fresh = sign * height(fresh)
        left, right = np.where(go_left, fresh, right), np.where(go_left, left, fresh)
        at_left, at_right = np.where(go_left, at_fresh, at_right), np.where(go_left, at_left, at_fresh)
    return np.where(at_left >= at_right, left, right)


def _bisect(excess: Callable[[FloatArray], FloatArray], inside: FloatArray, outside: FloatArray) -> FloatArray:
    """Return the last point that holds between `inside` and `outside`, `[crossing]` each; an infinite `outside` is it."""
    open_ended, end = np.isinf(outside), outside
    outside = np.where(open_ended, inside, outside)
    for _ in range(BISECTIONS):
        middle = 0.5 * inside + 0.5 * outside
        holds = excess(middle) >= 0
        inside, outside = np.where(holds, middle, inside), np.where(holds, outside, middle)
    return np.where(open_ended, end, inside)
