"""Starts against numpy and scikit-learn, and the race against scikit-learn's own fit."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from neuronlens.errors import ConfigError
from neuronlens.ranges.mixture import starts
from neuronlens.ranges.mixture.cuts import _places, best_cuts, gap_cuts, sort_samples
from neuronlens.ranges.mixture.em import fit_em
from neuronlens.ranges.mixture.fitter import MixtureFitter
from neuronlens.ranges.mixture.problems import Problems
from neuronlens.ranges.mixture.starts import (
    core_start,
    kmeans_start,
    outlier_starts,
    quantile_start,
    race,
    spread_centres,
)
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


@pytest.mark.parametrize("components", [1, 2, 3, 4])
def test_the_best_cuts_are_those_of_trying_them_all(components: int) -> None:
    rng = np.random.default_rng(components)
    columns = [rng.normal(size=n) * 10.0**place for place, n in enumerate((8, 13, 20, 23))]
    tightest, likeliest = best_cuts(sort_samples(pack(*columns)), components, 1e-6)
    for row, values in enumerate(columns):
        ordered = np.sort(values)

        def squares(cuts: tuple[int, ...], ordered: FloatArray = ordered) -> float:
            return sum(len(block) * block.var() for block in np.split(ordered, cuts))

        def likelihood(cuts: tuple[int, ...], ordered: FloatArray = ordered) -> float:
            blocks = np.split(ordered, cuts)
            if min(map(len, blocks)) < 2:
                return -np.inf
            laws = [scipy.stats.norm(block.mean(), np.sqrt(block.var() + 1e-6)) for block in blocks]
            shares = [len(block) / len(ordered) for block in blocks]
            # A Gaussian at its own moments: the mean squared z is 1, but for the floor.
            return sum(
                len(block) * (np.log(share) - np.log(law.std()) - 0.5 * np.log(2 * np.pi) - 0.5)
                for block, law, share in zip(blocks, laws, shares, strict=True)
            )

        every = list(itertools.combinations(range(1, len(values)), components - 1))
        assert squares(tuple(tightest[row].tolist())) == pytest.approx(min(map(squares, every)), rel=1e-4)
        assert likelihood(tuple(likeliest[row].tolist())) == pytest.approx(max(map(likelihood, every)), abs=1e-3)


def test_the_places_of_cuts_reach_from_single_outliers_to_all_and_ascend() -> None:
    counts = torch.tensor([2, 7, 31, 32, 33, 400, 5000])
    for count, row in zip(counts.tolist(), _places(counts).tolist(), strict=True):
        assert row[0] == 0
        assert row[-1] == count
        assert row == sorted(row)
        if count > 40:
            assert {1, 2, count - 1, count - 2} <= set(row)


def test_the_widest_gaps_are_cut() -> None:
    values = np.array([0.0, 1.0, 10.0, 11.0, 12.0, 40.0, 41.0])
    data = sort_samples(pack(np.random.default_rng(0).permutation(values), np.array([3.0, 9.0, 1.0])))
    assert gap_cuts(data, 3).tolist() == [[2, 5], [1, 2]]
    assert gap_cuts(data, 2).tolist() == [[5], [2]]


def test_an_outlier_gets_a_component_of_its_own_beside_the_mixture_before() -> None:
    columns = [np.array([-50.0, *np.random.default_rng(0).normal(size=30)]), np.arange(9.0)]
    data = sort_samples(pack(*columns))
    before = quantile_start(data, 2, 1e-3)
    for start, sample in zip(outlier_starts(data, before, 1e-3), (np.min, np.max), strict=True):
        np.testing.assert_allclose(start.weights.sum(dim=1), 1)
        np.testing.assert_allclose(start.weights[:, 2], [1 / 31, 1 / 9])
        np.testing.assert_array_equal(start.means[:, 2], [sample(values) for values in columns])
        np.testing.assert_array_equal(start.means[:, :2], before.means)
        np.testing.assert_array_equal(start.variances[:, 2], 1e-3)


def test_the_race_gives_as_many_finalists_as_asked_the_first_the_only_one_of_a_race_for_one() -> None:
    problems = pack(*[column(seed) for seed in range(30)])
    data = sort_samples(problems)
    options: dict[str, Any] = {"init": "kmeans++", "restarts": 4, "seed": 0, "variance_floor": 1e-6}
    (alone,), three, everything = (race(problems, data, 3, finalists=n, **options) for n in (1, 3, None))
    assert (len(three), len(everything)) == (3, 6 + 4)
    for one, other in zip(alone, three[0], strict=True):
        assert torch.equal(one, other)
    scores = [fit_em(problems, start, tol=1e-5, max_iter=500).log_likelihood for start in (three[0], *everything)]
    assert (scores[0] > torch.stack(scores[1:]).amin(dim=0)).float().mean() > 0.9
    assert (scores[0] > torch.stack(scores[1:]).amax(dim=0) - 1e-3).float().mean() > 0.8
    with_fewer = race(problems, data, 3, finalists=None, fewer=quantile_start(data, 2, 1e-6), **options)
    assert len(with_fewer) == 6 + 4 + 2


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


def shortfall(columns: list[FloatArray], components: int, **options: Any) -> FloatArray:
    """Return how far the batched fit stays below scikit-learn's own, nats per sample `[column]`; negative is above."""
    counts = np.array([len(values) for values in columns])
    fitter = MixtureFitter(max_components=components, max_iter=500, **options)
    # Every column is a concept of its own, of one neuron.
    laws = fitter.fit(np.concatenate(columns)[:, None], np.repeat(np.arange(len(columns)), counts), len(columns))
    ours = ((3 * components - 1) * np.log(counts) - laws.bic[:, -1, 0]) / (2 * counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        floor = fitter.variance_floor * np.concatenate(columns).var()
        models = [
            GaussianMixture(components, reg_covar=floor, random_state=0).fit(values[:, None]) for values in columns
        ]
    theirs = [model.score(values[:, None]) for model, values in zip(models, columns, strict=True)]
    return np.array(theirs) - ours


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), components=st.integers(1, 3))
def test_every_start_run_to_its_end_is_never_behind_scikit_learns_own_fit(seed: int, components: int) -> None:
    assert shortfall([column(seed)], components, init="kmeans++", restarts=8, finalists=None).max() <= 1e-3


# EM climbs to a local optimum, and a race drops starts before they are at theirs: in the default, which is the fast one,
# scikit-learn's single start is ahead now and then. How rarely, and how much more often it is behind, is measured here.
@pytest.mark.slow
@pytest.mark.parametrize(("options", "share"), [({}, 0.01), ({"init": "kmeans++", "finalists": 3}, 0.005)])
def test_a_race_is_rarely_behind_scikit_learns_own_fit_and_far_ahead_as_often(
    options: dict[str, Any], share: float
) -> None:
    columns = [column(seed) for seed in range(400)]
    for components in (2, 3):
        behind = shortfall(columns, components, **options)
        assert (behind > 1e-3).mean() <= share
        assert (behind < -1e-3).mean() > 50 * (behind > 1e-3).mean()
