"""Mixture ranges: the number of components, the intervals, and the two backends."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.mixture import GaussianMixture

from neuronlens.errors import ConfigError
from neuronlens.ranges.intervals import EMPTY, WHOLE, contains, is_empty
from neuronlens.ranges.mixture import fitter as mixture_module
from neuronlens.ranges.mixture.estimator import MixtureRange
from neuronlens.ranges.mixture.fitter import MixtureFitter
from neuronlens.records import ActivationSet, FloatArray
from tests.ranges.activations import activation_set


def peaks(seed: int, samples: int, neurons: int) -> FloatArray:
    """Return columns of one, two and three well separated peaks in turn `[sample, neuron]`."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, 1 + np.arange(neurons) % 3, (samples, neurons))
    return np.asarray(6.0 * owner + rng.normal(size=(samples, neurons)) * rng.uniform(0.3, 0.8, neurons))


def mixed(seed: int, neurons: int = 60) -> ActivationSet:
    """Return three concepts of different sample counts, of peaks, heavy tails and skew."""
    rng = np.random.default_rng(seed)
    return activation_set(
        peaks(seed, 150, neurons),
        rng.laplace(size=(90, neurons)),
        rng.exponential(size=(61, neurons)) + (rng.random((61, neurons)) < 0.4) * 2.5,
    )


def test_separated_peaks_are_counted_and_each_gets_its_interval() -> None:
    activations = activation_set(peaks(0, 300, 30), peaks(1, 200, 30))
    ranges = MixtureRange(tau=2.0).fit(activations)
    assert ranges.lower.shape == (2, 3, 30)
    places = (~is_empty(ranges.lower, ranges.upper)).sum(axis=1)
    assert (places == 1 + np.arange(30) % 3).mean() > 0.95
    inside = contains(activations.values[:300], ranges.lower[0], ranges.upper[0])
    assert np.allclose(inside.mean(axis=0), math.erf(2 / math.sqrt(2)), atol=0.03)


@pytest.mark.parametrize("backend", ["batched", "sklearn"])
def test_bic_and_the_choice_are_scikit_learns(backend: str) -> None:
    activations = mixed(1, neurons=6)
    laws = MixtureFitter(backend=backend, tol=1e-6, max_iter=1000).fit(activations.values, activations.labels, 3)
    for concept in range(3):
        for neuron in range(6):
            column = activations.values[activations.labels == concept, neuron].astype(np.float64)[:, None]
            count = laws.components[concept, neuron]
            assert count == 1 + np.argmin(laws.bic[concept, :, neuron])
            model = GaussianMixture(count)
            parts = (part[concept, :count, neuron] for part in (laws.weights, laws.means, laws.variances))
            model.weights_, means, variances = parts
            model.means_, model.covariances_ = means[:, None], variances[:, None, None]
            model.precisions_cholesky_ = 1 / np.sqrt(model.covariances_)
            assert laws.bic[concept, count - 1, neuron] == pytest.approx(model.bic(column), abs=1e-6)
            assert laws.log_likelihood[concept, neuron] == pytest.approx(model.score(column), abs=1e-9)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = [GaussianMixture(k, n_init=5, random_state=0).fit(column).bic(column) for k in (1, 2, 3)]
            assert laws.bic[concept, :, neuron].min() <= min(theirs) + 2 * len(column) * 1e-3
            assert laws.weights[concept, count:, neuron].sum() == 0


@pytest.mark.parametrize("init", ["quantile", "kmeans++"])
def test_the_backends_agree(init: str) -> None:
    activations = mixed(2)
    laws = [
        MixtureFitter(backend=backend, init=init, n_jobs=1).fit(activations.values, activations.labels, 3)
        for backend in ("batched", "sklearn")
    ]
    assert (laws[0].components == laws[1].components).mean() >= 0.99
    same = (laws[0].components == laws[1].components)[:, None]
    for name in ("weights", "means", "variances"):
        ours, theirs = (np.where(same, getattr(law, name), 0) for law in laws)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("backend", ["batched", "sklearn"])
@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_trap_55_data_times_a_number_gives_the_same_mixture_times_it(factor: float, backend: str) -> None:
    """A floor of 1e-6 in squared units swallowed the peaks of a neuron whose deviation is 1e-3 or less."""
    activations = activation_set(peaks(0, 300, 9), peaks(1, 200, 9))
    fit = MixtureFitter(backend=backend).fit
    plain = fit(activations.values, activations.labels, 2)
    scaled = fit(activations.values.astype(np.float64) * factor, activations.labels, 2)
    assert set(plain.components.ravel()) == {1, 2, 3}, "positive control: there is something to find"
    assert (scaled.components == plain.components).all()
    np.testing.assert_allclose(scaled.weights, plain.weights, atol=1e-9)
    np.testing.assert_allclose(scaled.means, plain.means * factor, rtol=1e-7, atol=1e-9 * factor)
    used = plain.weights > 0
    np.testing.assert_allclose(scaled.variances[used], plain.variances[used] * factor**2, rtol=1e-7)
    np.testing.assert_allclose(scaled.log_likelihood, plain.log_likelihood - math.log(factor), atol=1e-9)


def test_intervals_are_those_of_the_heavy_components_point_by_point() -> None:
    activations, tau, w_min = mixed(3), 1.5, 0.25
    ranges = MixtureRange(tau=tau, w_min=w_min).fit(activations)
    laws = MixtureFitter().fit(activations.values, activations.labels, 3)
    assert (laws.weights[laws.weights > 0] < w_min).any(), "the case must occur"
    points = np.linspace(-9, 20, 701, dtype=np.float32)
    for concept in range(3):
        for neuron in range(60):
            expected = np.zeros(len(points), dtype=bool)
            for weight, mean, variance in zip(
                *(part[concept, :, neuron] for part in (laws.weights, laws.means, laws.variances)), strict=True
            ):
                expected |= (weight >= w_min) & (np.abs(points - mean) <= tau * math.sqrt(variance))
            found = contains(points[:, None], ranges.lower[concept][:, [neuron]], ranges.upper[concept][:, [neuron]])
            np.testing.assert_array_equal(found[:, 0], expected)
    assert ranges.name == "mixture"
    assert ranges.tau == tau


def test_fit_is_measured_against_the_mixture_itself() -> None:
    activations = mixed(4, neurons=5)
    ranges = MixtureRange().fit(activations)
    laws = MixtureFitter().fit(activations.values, activations.labels, 3)
    for concept in range(3):
        for neuron in range(5):
            column = activations.values[activations.labels == concept, neuron].astype(np.float64)
            weights, means, std = (
                laws.weights[concept, :, neuron],
                laws.means[concept, :, neuron],
                np.sqrt(laws.variances[concept, :, neuron]),
            )

            def cdf(x: FloatArray, w: Any = weights, m: Any = means, s: Any = std) -> FloatArray:
                return np.asarray((w * scipy.stats.norm.cdf(x[:, None], m, s)).sum(axis=1))

            test = scipy.stats.kstest(column, cdf)
            assert ranges.law["ks_statistic"][concept, neuron] == pytest.approx(test.statistic)
            assert ranges.law["ks_p"][concept, neuron] == pytest.approx(test.pvalue)


@pytest.mark.parametrize("backend", ["batched", "sklearn"])
def test_constant_and_two_valued_neurons_get_finite_bounds(backend: str) -> None:
    constant = np.full((20, 1), 0.3)
    two_valued = np.repeat([[0.0], [1.0]], 10, axis=0)
    activations = activation_set(np.hstack([constant, two_valued]), np.hstack([constant, constant]))
    ranges = MixtureRange(backend=backend).fit(activations)
    used = ~is_empty(ranges.lower, ranges.upper)
    assert np.isfinite(ranges.lower[used]).all()
    assert np.isfinite(ranges.upper[used]).all()
    assert used[0, :, 0].sum() == 1
    assert ranges.upper[0, 0, 0] - ranges.lower[0, 0, 0] == pytest.approx(2 * 2.5 * 1e-3)
    assert used[0, :, 1].sum() == 2
    assert contains(activations.values[:20], ranges.lower[0], ranges.upper[0]).all()
    assert np.isnan(ranges.law["ks_statistic"][0, 0])


def test_too_few_samples_are_skipped_with_a_reason_and_leave_the_others_alone() -> None:
    full, few = peaks(0, 80, 4), peaks(1, 5, 4)
    ranges = MixtureRange().fit(activation_set(few, full))
    alone = MixtureRange().fit(activation_set(full))
    assert list(ranges.skipped) == [0]
    assert "5 samples" in ranges.skipped[0]
    assert "at least 6" in ranges.skipped[0]
    assert (ranges.lower[0] == EMPTY[0]).all()
    assert (ranges.upper[0] == EMPTY[1]).all()
    np.testing.assert_allclose(ranges.lower[1], alone.lower[0])
    nothing = MixtureRange().fit(activation_set(few))
    assert nothing.lower.shape == (1, 1, 4)
    assert (nothing.lower == EMPTY[0]).all()


def test_tau_inf_is_the_whole_neuron_and_tau_zero_the_means() -> None:
    activations = activation_set(peaks(0, 60, 3), peaks(1, 3, 3))
    whole = MixtureRange(tau=np.inf).fit(activations)
    assert (whole.lower[0] == WHOLE[0]).all()
    assert (whole.upper[0] == WHOLE[1]).all()
    assert (whole.lower[1] == EMPTY[0]).all()
    points = MixtureRange(tau=0).fit(activations)
    used = ~is_empty(points.lower, points.upper)
    np.testing.assert_array_equal(points.lower[used], points.upper[used])


def test_blocks_of_neurons_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    activations = mixed(5, neurons=23)
    whole = MixtureRange().fit(activations)
    monkeypatch.setitem(mixture_module.BLOCK_ELEMENTS, "cpu", 3 * 150 * 4)
    pieces = MixtureRange().fit(activations)
    np.testing.assert_allclose(pieces.lower, whole.lower)
    np.testing.assert_allclose(pieces.upper, whole.upper)


def test_threads_change_neither_the_result_nor_torchs_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    activations = mixed(7, neurons=40)
    monkeypatch.setitem(mixture_module.BLOCK_ELEMENTS, "cpu", 301 * 7)
    before = torch.get_num_threads()
    bounds = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            bounds.append(MixtureRange(init="kmeans++").fit(activations).lower)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(bounds[0], bounds[1], rtol=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_ranges() -> None:
    activations = mixed(8)
    here, there = (MixtureRange(device=device).fit(activations) for device in ("cpu", "cuda"))
    same = (is_empty(here.lower, here.upper) == is_empty(there.lower, there.upper)).all(axis=1)
    assert same.mean() >= 0.99
    np.testing.assert_allclose(
        np.where(same[:, None], here.lower, 0), np.where(same[:, None], there.lower, 0), atol=1e-3
    )


def test_the_seed_and_the_number_of_restarts_matter_to_kmeans_plus_plus_alone() -> None:
    activations = mixed(6)

    def log_likelihood(**options: Any) -> FloatArray:
        return MixtureFitter(**options).fit(activations.values, activations.labels, 3).log_likelihood

    np.testing.assert_array_equal(log_likelihood(seed=0), log_likelihood(seed=1))
    random = log_likelihood(init="kmeans++", seed=0)
    np.testing.assert_array_equal(random, log_likelihood(init="kmeans++", seed=0))
    assert (random != log_likelihood(init="kmeans++", seed=1)).any()
    assert (random != log_likelihood(init="kmeans++", seed=0, restarts=6)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": -0.1}, r"range\.tau is -0\.1"),
        ({"tau": math.nan}, r"range\.tau"),
        ({"w_min": 1.0}, r"range\.w_min"),
        ({"w_min": -0.1}, r"range\.w_min"),
        ({"backend": "batch"}, "Did you mean 'batched'"),
        ({"init": "quantil"}, "Did you mean 'quantile'"),
        ({"device": "gpu"}, "Available: cpu, cuda"),
        ({"max_components": 0}, r"range\.max_components"),
        ({"max_iter": 0}, r"range\.max_iter"),
        ({"restarts": -1}, r"range\.restarts"),
        ({"variance_floor": 0.0}, r"range\.variance_floor"),
        ({"tol": -1.0}, r"range\.tol"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixtureRange(**options)
