"""Batched EM against scikit-learn's GaussianMixture, begun at the same start."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture

from neuronlens.errors import ConfigError, ShapeError
from neuronlens.ranges.mixture.cuts import sort_samples
from neuronlens.ranges.mixture.em import fit_em, mean_log_density
from neuronlens.ranges.mixture.problems import Mixture, MixtureFit, Problems
from neuronlens.ranges.mixture.starts import quantile_start


def draw_samples(seed: int, problems: int, longest: int, scale: float = 1.0, centre: float = 0.0) -> Problems:
    """Return random mixtures of up to three Gaussians, of different sample counts, padded with zeros."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(max(longest // 5, 6), longest + 1, problems)
    owner = rng.integers(0, rng.integers(1, 4, problems)[:, None], (problems, longest))
    means, std = rng.normal(size=(problems, 3)) * 3, rng.uniform(0.1, 1.5, (problems, 3))
    values = np.take_along_axis(means, owner, 1) + np.take_along_axis(std, owner, 1) * rng.normal(size=owner.shape)
    values = centre + scale * values
    values[np.arange(longest) >= counts[:, None]] = 0
    return Problems(torch.as_tensor(values), torch.as_tensor(counts))


def sklearn_fit(samples: np.ndarray, start: Mixture, row: int, kind: str, **options: float) -> GaussianMixture:
    weights, means, variances = (part[row].numpy() for part in start)
    precisions = 1 / variances
    model = GaussianMixture(
        len(means),
        covariance_type=kind,
        weights_init=weights,
        means_init=means[:, None],
        precisions_init=precisions[:, None, None] if kind == "full" else precisions,
        random_state=0,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(samples[:, None])


def assert_same(fit: MixtureFit, row: int, model: GaussianMixture, samples: np.ndarray) -> None:
    scale = max(samples.std(), 1e-3)
    weights, means, variances = (part[row].numpy() for part in fit.mixture)
    np.testing.assert_allclose(weights, model.weights_, atol=1e-6)
    np.testing.assert_allclose(means, model.means_[:, 0], rtol=1e-9, atol=1e-6 * scale)
    np.testing.assert_allclose(variances, model.covariances_.reshape(-1), rtol=1e-6, atol=1e-6 * scale**2)
    assert fit.iterations[row] == model.n_iter_
    assert bool(fit.converged[row]) == model.converged_
    assert fit.lower_bound[row].item() == pytest.approx(model.lower_bound_, abs=1e-6)
    assert fit.log_likelihood[row].item() == pytest.approx(model.score(samples[:, None]), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    components=st.integers(1, 4),
    kind=st.sampled_from(["full", "spherical"]),
    tol=st.sampled_from([1e-2, 1e-3, 1e-5]),
    floor=st.sampled_from([1e-6, 1e-3, 0.5]),
    scale=st.sampled_from([1e-2, 1.0, 30.0]),
    centre=st.sampled_from([0.0, 7.0]),
)
def test_one_start_gives_scikit_learns_parameters(
    seed: int, components: int, kind: str, tol: float, floor: float, scale: float, centre: float
) -> None:
    problems = draw_samples(seed, problems=6, longest=80, scale=scale, centre=centre)
    start = quantile_start(sort_samples(problems), components, floor)
    fit = fit_em(problems, start, tol=tol, max_iter=60, variance_floor=floor)
    for row, count in enumerate(problems.counts.tolist()):
        samples = problems.samples[row, :count].numpy()
        model = sklearn_fit(samples, start, row, kind, tol=tol, max_iter=60, reg_covar=floor)
        assert_same(fit, row, model, samples)


def test_problems_do_not_influence_each_other_nor_does_their_number() -> None:
    problems = draw_samples(3, problems=700, longest=90)
    start = quantile_start(sort_samples(problems), 3, 1e-6)
    together = fit_em(problems, start, tol=1e-5)
    assert together.iterations.min() < together.iterations.max(), "slots must have changed hands"
    for row in range(0, 700, 97):
        part = slice(row, row + 1)
        alone = fit_em(problems.rows(part), Mixture(*(value[part] for value in start)), tol=1e-5)
        for one, many in zip(alone.mixture, together.mixture, strict=True):
            torch.testing.assert_close(one[0], many[row], rtol=1e-12, atol=1e-14)
        assert alone.iterations[0] == together.iterations[row]


def test_padding_is_not_looked_at() -> None:
    problems = draw_samples(5, problems=40, longest=70)
    start = quantile_start(sort_samples(problems), 2, 1e-6)
    padding = torch.arange(70) >= problems.counts[:, None]
    strange = problems._replace(samples=problems.samples.masked_fill(padding, 1e9))
    for one, other in zip(fit_em(problems, start).mixture, fit_em(strange, start).mixture, strict=True):
        torch.testing.assert_close(one, other)


def test_a_value_that_stands_for_three_samples_is_three_samples() -> None:
    problems = draw_samples(7, problems=5, longest=50)
    counts = torch.full_like(problems.counts, 10)
    short = Problems(problems.samples[:, :10], counts, torch.full((5, 10), 3.0, dtype=torch.float64))
    long = Problems(problems.samples[:, :10].repeat(1, 3), counts * 3)
    start = quantile_start(sort_samples(long), 2, 1e-6)
    one, other = fit_em(short, start), fit_em(long, start)
    for left, right in zip(one.mixture, other.mixture, strict=True):
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(one.log_likelihood, other.log_likelihood)


def test_an_empty_component_and_constant_samples_give_numbers_as_in_scikit_learn() -> None:
    constant, spread = np.full(30, 2.5), np.random.default_rng(0).normal(size=30)
    problems = Problems(torch.as_tensor(np.stack([constant, spread])), torch.tensor([30, 30]))
    start = Mixture(
        torch.tensor([[0.5, 0.5], [0.5, 0.5]], dtype=torch.float64),
        torch.tensor([[2.5, 2.5], [0.0, 1e6]], dtype=torch.float64),
        torch.full((2, 2), 1e-4, dtype=torch.float64),
    )
    fit = fit_em(problems, start)
    for row, samples in enumerate((constant, spread)):
        assert_same(fit, row, sklearn_fit(samples, start, row, "full"), samples)
        assert all(bool(torch.isfinite(part[row]).all()) for part in fit.mixture)
    assert fit.mixture.weights[1, 1] < 1e-12


def test_likelihood_never_falls_and_the_score_is_that_of_the_last_parameters() -> None:
    problems = draw_samples(11, problems=50, longest=60)
    start = quantile_start(sort_samples(problems), 3, 1e-9)
    scores = [mean_log_density(problems, start)]
    for steps in (1, 2, 5, 20):
        fit = fit_em(problems, start, tol=0.0, max_iter=steps, variance_floor=1e-12)
        torch.testing.assert_close(mean_log_density(problems, fit.mixture), fit.log_likelihood)
        assert (fit.iterations == steps).all()
        assert not fit.converged.any()
        scores.append(fit.log_likelihood)
    for before, after in pairwise(scores):
        assert (after >= before - 1e-9).all()


def test_arguments_that_disagree_are_refused() -> None:
    problems = draw_samples(0, problems=3, longest=20)
    start = quantile_start(sort_samples(problems), 2, 1e-6)
    with pytest.raises(ShapeError, match="starts"):
        fit_em(problems, Mixture(*(part[:2] for part in start)))
    with pytest.raises(ConfigError, match="max_iter"):
        fit_em(problems, start, max_iter=0)
