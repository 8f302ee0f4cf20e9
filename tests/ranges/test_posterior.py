"""Posterior ranges against SciPy's densities and numpy's histogram."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronlens.errors import ConfigError
from neuronlens.ranges import crossings, densities
from neuronlens.ranges.densities import histograms
from neuronlens.ranges.intervals import EMPTY, WHOLE, contains, is_empty
from neuronlens.ranges.mixture.fitter import MixtureFitter
from neuronlens.ranges.posterior import PosteriorRange
from neuronlens.records import ActivationRanges, ActivationSet, FloatArray
from tests.ranges.activations import activation_set


def three_concepts(seed: int, neurons: int = 4) -> ActivationSet:
    """Return concepts of different place, width, shape and sample count."""
    rng = np.random.default_rng(seed)
    place, width = rng.normal(size=(3, neurons)) * 2, rng.uniform(0.2, 2.0, (3, neurons))
    return activation_set(
        rng.normal(place[0], width[0], (80, neurons)),
        rng.normal(place[1], width[1], (50, neurons)) * np.sign(rng.normal(size=(50, 1))),
        rng.laplace(place[2], width[2], (120, neurons)),
    )


def columns_of(activations: ActivationSet, neuron: int) -> list[FloatArray]:
    return [
        activations.values[activations.labels == concept, neuron].astype(np.float64)
        for concept in range(len(activations.concepts))
    ]


def log_density(activations: ActivationSet, neuron: int, density: str, points: FloatArray) -> FloatArray:
    """Return log p(point given concept) `[concept, point]`, by SciPy."""
    columns = columns_of(activations, neuron)
    if density == "gaussian":
        return np.stack([scipy.stats.norm.logpdf(points, part.mean(), part.std()) for part in columns])
    if density == "kde":
        return np.stack([scipy.stats.gaussian_kde(part, "silverman").logpdf(points) for part in columns])
    laws = MixtureFitter().fit(activations.values, activations.labels, len(columns))
    rows = []
    for concept in range(len(columns)):
        used = slice(0, laws.components[concept, neuron])
        weights, means, variances = (
            part[concept, used, neuron, None] for part in (laws.weights, laws.means, laws.variances)
        )
        terms = scipy.stats.norm.logpdf(points, means, np.sqrt(variances))
        rows.append(scipy.special.logsumexp(terms, b=weights, axis=0))
    return np.stack(rows)


def direct_posterior(
    activations: ActivationSet, neuron: int, density: str, points: FloatArray, priors: str = "empirical"
) -> FloatArray:
    """Return p(concept given point) `[concept, point]`."""
    counts = np.bincount(activations.labels)
    prior = counts if priors == "empirical" else np.ones(len(counts))
    joint = log_density(activations, neuron, density, points) + np.log(prior / prior.sum())[:, None]
    return np.asarray(np.exp(joint - scipy.special.logsumexp(joint, axis=0)))


def assert_solved(
    ranges: ActivationRanges, activations: ActivationSet, theta: float, density: str, priors: str
) -> None:
    """Assert p = theta at every finite bound, and the direct formula at random points, far ones included."""
    points = np.concatenate([np.random.default_rng(0).uniform(-12, 12, 300), [-300.0, -60.0, 45.0, 400.0]])
    points = points.astype(np.float32)
    for neuron in range(activations.values.shape[1]):
        expected = direct_posterior(activations, neuron, density, points.astype(np.float64), priors)
        for concept in range(len(expected)):
            low, high = ranges.lower[concept][:, [neuron]], ranges.upper[concept][:, [neuron]]
            bounds = np.concatenate([low, high]).ravel()
            bounds = bounds[np.isfinite(bounds)]
            at_bounds = direct_posterior(activations, neuron, density, bounds, priors)[concept]
            np.testing.assert_allclose(at_bounds, theta, atol=1e-6)
            clear = np.abs(expected[concept] - theta) > 1e-4
            found = contains(points[:, None], low, high)[:, 0]
            np.testing.assert_array_equal(found[clear], expected[concept][clear] >= theta)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    theta=st.sampled_from([0.1, 0.34, 0.5, 0.9, 0.99]),
    priors=st.sampled_from(["empirical", "uniform"]),
)
def test_gaussian_posterior_is_solved(seed: int, theta: float, priors: str) -> None:
    activations = three_concepts(seed)
    ranges = PosteriorRange(theta=theta, priors=priors).fit(activations)
    assert ranges.name == "posterior"
    assert ranges.tau is None
    assert_solved(ranges, activations, theta, "gaussian", priors)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("theta", [0.3, 0.7])
def test_mixture_posterior_is_solved(seed: int, theta: float) -> None:
    activations = three_concepts(seed)
    ranges = PosteriorRange(theta=theta, density="mixture").fit(activations)
    assert_solved(ranges, activations, theta, "mixture", "empirical")


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("priors", ["empirical", "uniform"])
def test_kde_posterior_is_solved(seed: int, priors: str) -> None:
    activations = three_concepts(seed)
    ranges = PosteriorRange(theta=0.5, density="kde", bandwidth="silverman", priors=priors).fit(activations)
    assert_solved(ranges, activations, 0.5, "kde", priors)


def test_two_gaussians_cross_at_the_roots_of_their_quadratic_and_the_wider_owns_both_tails() -> None:
    rng = np.random.default_rng(0)
    activations = activation_set(rng.normal(0, 1, (60, 1)), rng.normal(1, 3, (60, 1)))
    ranges = PosteriorRange().fit(activations)
    (m, n), (s, t) = activations.statistics.mean[:, 0], activations.statistics.std[:, 0]
    roots = np.sort(
        np.roots([1 / t**2 - 1 / s**2, 2 * (m / s**2 - n / t**2), n**2 / t**2 - m**2 / s**2 + 2 * np.log(t / s)])
    )
    np.testing.assert_allclose([ranges.lower[0, 0, 0], ranges.upper[0, 0, 0]], roots)
    np.testing.assert_allclose(ranges.lower[1, :, 0], [-np.inf, roots[1]])
    np.testing.assert_allclose(ranges.upper[1, :, 0], [roots[0], np.inf])


def test_a_crossing_far_out_in_the_tail_is_found() -> None:
    base = np.random.default_rng(0).normal(size=200)
    base = (base - base.mean()) / base.std()
    activations = activation_set(base[:, None], (1 + 1.001 * base)[:, None])
    ranges = PosteriorRange().fit(activations)
    crossings = np.unique(ranges.upper[1][np.isfinite(ranges.upper[1])])
    assert crossings.min() < -400, "the slightly wider of the two wins the far side's tail, hundreds of spans out"
    assert_solved(ranges, activations, 0.5, "gaussian", "empirical")


def test_equal_widths_part_at_the_middle_with_open_ends() -> None:
    base = np.random.default_rng(0).normal(size=(64, 1)).round(3)
    ranges = PosteriorRange().fit(activation_set(np.vstack([base, -base]), np.vstack([base, -base]) + 4))
    assert ranges.lower[0, 0, 0] == -np.inf
    assert ranges.upper[1, 0, 0] == np.inf
    assert ranges.upper[0, 0, 0] == pytest.approx(2, abs=1e-5)
    assert ranges.lower[1, 0, 0] == pytest.approx(2, abs=1e-5)


def test_a_narrow_concept_between_grid_points_is_not_missed() -> None:
    rng = np.random.default_rng(0)
    narrow = 0.12345 + 1e-5 * rng.normal(size=(50, 1))
    ranges = PosteriorRange(grid=16).fit(activation_set(narrow, rng.normal(size=(50, 1)) * 3))
    assert ranges.lower[0, 0, 0] < 0.12345 < ranges.upper[0, 0, 0]
    assert ranges.upper[0, 0, 0] - ranges.lower[0, 0, 0] < 0.1


@pytest.mark.parametrize("bins", [1, 8, 32])
@pytest.mark.parametrize("theta", [0.2, 0.5, 1 - 1e-9])
def test_histogram_posterior_is_numpys_histogram_bin_by_bin(bins: int, theta: float) -> None:
    activations = three_concepts(3)
    ranges = PosteriorRange(theta=theta, density="histogram", bins=bins, priors="uniform").fit(activations)
    for neuron in range(4):
        columns = columns_of(activations, neuron)
        edges = np.histogram_bin_edges(np.concatenate(columns), bins)
        share = np.stack([np.histogram(part, edges)[0] / len(part) for part in columns])
        total = share.sum(axis=0)
        middle = (edges[1:] + edges[:-1]) / 2
        points = np.concatenate([middle, [edges[0] - 1, edges[-1] + 1]])[:, None]
        for concept in range(3):
            low, high = ranges.lower[concept][:, [neuron]], ranges.upper[concept][:, [neuron]]
            expected = (total > 0) & (share[concept] >= theta * total)
            np.testing.assert_array_equal(contains(points, low, high)[:, 0], [*expected, False, False])
            bounds = np.concatenate([low, high])
            assert np.isin(bounds[np.isfinite(bounds)], edges).all()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=40),
    st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    st.integers(1, 20),
)
def test_histograms_are_numpys(first: list[float], second: list[int], bins: int) -> None:
    columns = [np.array(part, dtype=np.float64)[:, None] for part in (first, second)]
    edges, counts = histograms(columns, bins)
    for concept, part in enumerate(columns):
        expected, expected_edges = np.histogram(part, bins, (np.vstack(columns).min(), np.vstack(columns).max()))
        np.testing.assert_array_equal(edges[:, 0], expected_edges)
        np.testing.assert_array_equal(counts[concept, :, 0], expected)


@pytest.mark.parametrize("density", ["gaussian", "mixture", "kde", "histogram"])
def test_constant_neurons_and_concepts_give_no_nan(density: str) -> None:
    rng = np.random.default_rng(0)
    everywhere, here = np.full((40, 1), 2.0), np.full((20, 1), 0.5)
    activations = activation_set(
        np.hstack([everywhere[:20], here]), np.hstack([everywhere[:20], rng.normal(size=(20, 1))]), np.zeros((1, 2))
    )
    with np.errstate(invalid="raise"):
        ranges = PosteriorRange(density=density, theta=0.4).fit(activations)
    assert list(ranges.skipped) == [2]
    assert (ranges.lower[2] == EMPTY[0]).all()
    assert not np.isnan(ranges.lower).any()
    assert not np.isnan(ranges.upper).any()
    assert contains(np.array([[2.0, 0.5]]), ranges.lower[0], ranges.upper[0]).all(), "the constant is the concept's"
    if density in ("gaussian", "kde", "mixture"):
        for concept in (0, 1):
            assert (ranges.lower[concept, 0, 0], ranges.upper[concept, 0, 0]) == WHOLE, (
                "where nothing is told, the prior is"
            )


def test_priors_and_skipped_concepts() -> None:
    rng = np.random.default_rng(0)
    many, few = rng.normal(size=(200, 1)), rng.normal(1, 1, (20, 1))
    by_count = PosteriorRange().fit(activation_set(many, few))
    evenly = PosteriorRange(priors="uniform").fit(activation_set(many, few))
    assert by_count.upper[0].max() > evenly.upper[0][np.isfinite(evenly.upper[0])].max()
    alone = PosteriorRange().fit(activation_set(many, few[:1]))
    assert (alone.lower[0, 0, 0], alone.upper[0, 0, 0]) == WHOLE
    assert "1 sample" in alone.skipped[1]
    nobody = PosteriorRange().fit(activation_set(many[:1], few[:1]))
    assert is_empty(nobody.lower, nobody.upper).all()


@pytest.mark.parametrize("density", ["gaussian", "kde"])
def test_chunks_do_not_change_the_result(density: str, monkeypatch: pytest.MonkeyPatch) -> None:
    activations = three_concepts(5, neurons=7)
    whole = PosteriorRange(density=density, theta=0.4).fit(activations)
    monkeypatch.setattr(crossings, "GRID_ELEMENTS", 4000)
    monkeypatch.setattr(densities, "KERNEL_ELEMENTS", 5000)
    pieces = PosteriorRange(density=density, theta=0.4).fit(activations)
    np.testing.assert_allclose(pieces.lower, whole.lower, rtol=1e-12)
    np.testing.assert_allclose(pieces.upper, whole.upper, rtol=1e-12)


def test_above_one_half_two_concepts_never_hold_the_same_point() -> None:
    activations = three_concepts(6)
    ranges = PosteriorRange(theta=0.51).fit(activations)
    inside = [contains(activations.values, ranges.lower[c], ranges.upper[c]) for c in range(3)]
    assert (np.sum(inside, axis=0) <= 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theta": 0.0}, r"range\.theta"),
        ({"theta": 1.0}, r"range\.theta"),
        ({"theta": float("nan")}, r"range\.theta"),
        ({"density": "gausian"}, "Did you mean 'gaussian'"),
        ({"priors": "flat"}, "Available: empirical, uniform"),
        ({"bandwidth": "scot"}, "Did you mean 'scott'"),
        ({"grid": 1}, r"range\.grid"),
        ({"bins": 0}, r"range\.bins"),
        ({"max_components": 0}, r"range\.max_components"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PosteriorRange(**options)
