"""Starts against numpy and scikit-learn, and the race against scikit-learn's own fit."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from neuronlens.errors import ConfigError
from neuronlens.ranges import starts
from neuronlens.ranges.cuts import sort_samples
from neuronlens.ranges.em import Problems, fit_em
from neuronlens.ranges.starts import core_start, kmeans_start, quantile_start, race, spread_centres
from neuronlens.records import FloatArray


def pack(*columns: FloatArray) -> Problems:
    """Return problems of the columns' own lengths, padded with zeros."""
    longest = max(len(column) for column in columns)
    samples = np.stack([np.pad(column, (0, longest - len(column))) for column in columns])
    return Problems(torch.as_tensor(samples), torch.tensor([len(column) for column in columns]))


def column(seed: int) -> FloatArray:
    """Return 40 to 300 draws from a mixture, a heavy-tailed, a skewed or a uniform law."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(40, 300))
    laws = {
        "mixture": rng.normal(size=4)[rng.integers(0, 4, n)] * 3 + rng.normal(size=n) * rng.uniform(0.1, 1.5),
        "laplace": rng.laplace(size=n),
        "exponential": rng.exponential(size=n),
        "uniform": rng.uniform(size=n),
    }
    return laws[rng.choice(list(laws))]


def test_quantile_blocks_have_numpys_moments() -> None:
    columns = [np.random.default_rng(seed).normal(3, 2, size=n) for seed, n in enumerate((30, 17, 9))]
    weights, means, variances = quantile_start(sort_samples(pack(*columns)), 3, 1e-3)
    for row, values in enumerate(columns):
        cuts = [len(values) * part // 3 for part in (1, 2)]
        blocks = np.split(np.sort(values), cuts)
        np.testing.assert_allclose(weights[row], [len(block) / len(values) for block in blocks])
        np.testing.assert_allclose(means[row], [block.mean() for block in blocks])
        np.testing.assert_allclose(variances[row], [block.var() + 1e-3 for block in blocks])


def test_lloyds_clusters_are_scikit_learns_from_the_same_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "LLOYD_STEPS", 500)
    # Seeds in which no cluster runs empty: there scikit-learn moves a centre to the farthest sample.
    columns = [column(seed) for seed in range(11)]
    data = sort_samples(pack(*columns))
    centres = quantile_start(data, 3, 1e-6).means
    _, means, _ = kmeans_start(data, centres, 1e-6)
    for row, values in enumerate(columns):
        model = KMeans(3, init=centres[row].numpy()[:, None], n_init=1, max_iter=500, tol=0).fit(values[:, None])
        np.testing.assert_allclose(np.sort(means[row]), np.sort(model.cluster_centers_[:, 0]), atol=1e-9)


@pytest.mark.parametrize("components", [2, 3, 4])
def test_core_and_tails_weigh_one_and_have_the_samples_mean(components: int) -> None:
    columns = [column(seed) for seed in range(5)]
    weights, means, variances = core_start(sort_samples(pack(*columns)), components, 1e-6)
    np.testing.assert_allclose(weights.sum(dim=1), 1)
    np.testing.assert_allclose((weights * means).sum(dim=1), [values.mean() for values in columns], atol=1e-12)
    spread = (weights * (variances + means**2)).sum(dim=1) - (weights * means).sum(dim=1) ** 2
    np.testing.assert_allclose(spread, [values.var() for values in columns], rtol=1e-4)


def test_spread_centres_are_samples_favour_far_ones_and_follow_the_seed() -> None:
    columns = [np.concatenate([np.random.default_rng(seed).normal(size=50), [100.0]]) for seed in range(40)]
    data = sort_samples(pack(*columns))

    def draw(seed: int) -> FloatArray:
        return spread_centres(data, 2, torch.Generator().manual_seed(seed)).numpy()

    assert all(np.isin(row, values).all() for row, values in zip(draw(0), columns, strict=True))
    assert (draw(0) == 100.0).any(axis=1).mean() > 0.9
    np.testing.assert_array_equal(draw(0), draw(0))
    assert (draw(0) != draw(1)).any()


def test_constant_samples_start_and_end_as_numbers() -> None:
    problems = pack(np.full(20, 4.0), np.array([1.0, 1.0, 1.0, 1.0, 1.0, 9.0]))
    data = sort_samples(problems)
    for components in (2, 3):
        (start,) = race(problems, data, components, init="kmeans++", restarts=2, seed=0, variance_floor=1e-6)
        fit = fit_em(problems, start)
        assert all(bool(torch.isfinite(part).all()) for part in (*start, *fit.mixture, fit.log_likelihood))


def test_an_unknown_init_is_refused_with_the_nearest() -> None:
    problems = pack(np.arange(9.0))
    with pytest.raises(ConfigError, match=r"Did you mean 'kmeans\+\+'"):
        race(problems, sort_samples(problems), 2, init="kmeans", restarts=0, seed=0, variance_floor=1e-6)


def shortfall(columns: list[FloatArray], components: int, init: str, restarts: int) -> FloatArray:
    """Return how far the raced fit stays below scikit-learn's own, nats per sample `[column]`; negative is above."""
    problems = pack(*columns)
    data = sort_samples(problems)
    (start,) = race(problems, data, components, init=init, restarts=restarts, seed=0, variance_floor=1e-6)
    ours = fit_em(problems, start, tol=1e-4, max_iter=500).log_likelihood.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = [GaussianMixture(components, random_state=0).fit(values[:, None]) for values in columns]
    theirs = [model.score(values[:, None]) for model, values in zip(models, columns, strict=True)]
    return np.array(theirs) - ours


# EM climbs to a local optimum, and no finite set of starts holds the best one for all data: scikit-learn's single k-means
# start is ahead now and then. So the draws here are fixed, and the share of such cases is bounded in the test below.
@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), components=st.integers(1, 3))
def test_many_starts_are_never_behind_scikit_learns_own_fit(seed: int, components: int) -> None:
    assert shortfall([column(seed)], components, "kmeans++", 10).max() <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("init", "restarts", "share"), [("quantile", 0, 0.02), ("kmeans++", 10, 0.005)])
def test_few_starts_are_rarely_behind_scikit_learns_own_fit_and_far_ahead_as_often(
    init: str, restarts: int, share: float
) -> None:
    columns = [column(seed) for seed in range(400)]
    for components in (2, 3):
        behind = shortfall(columns, components, init, restarts)
        assert (behind > 1e-3).mean() <= share
        assert (behind < -1e-3).mean() > 5 * (behind > 1e-3).mean()
