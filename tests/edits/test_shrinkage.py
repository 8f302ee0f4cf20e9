"""The shrinkage of a covariance against scikit-learn's, and its choice on the select split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage, shrunk_covariance

from neuronlens.edits.shrinkage import RIDGES, ledoit_wolf, selected, shrinkage_of, whitened
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.records import SecondMoments


def drawn(samples: int, neurons: int, seed: int = 0) -> np.ndarray:
    """Return correlated values of very different scales."""
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(samples, neurons)) * np.logspace(-2, 1, neurons)) @ generator.normal(
        size=(neurons, neurons)
    )


@pytest.mark.parametrize(("samples", "neurons"), [(500, 8), (30, 8), (12, 40)])
def test_ledoit_wolf_by_moments_is_scikit_learns(samples: int, neurons: int) -> None:
    values = drawn(samples, neurons)
    assert ledoit_wolf(SecondMoments.of(values)) == pytest.approx(ledoit_wolf_shrinkage(values), rel=1e-9)


@pytest.mark.parametrize("amount", RIDGES[1:])
def test_a_shrunk_covariance_is_solved_as_numpy_solves_it(amount: float) -> None:
    values, vector = drawn(60, 8), np.arange(1.0, 9.0)
    sigma = shrunk_covariance(np.cov(values.T, ddof=0), shrinkage=amount)
    fitted = whitened(SecondMoments.of(values), amount)
    np.testing.assert_allclose(fitted.solve(vector), np.linalg.solve(sigma, vector), rtol=1e-7)
    np.testing.assert_allclose(fitted.solve(np.stack([vector, -vector], 1))[:, 1], -fitted.solve(vector))


def test_the_selected_amount_is_the_best_of_all_on_select_by_a_plain_loop(make_activations) -> None:
    generator = np.random.default_rng(1)
    means = generator.normal(size=(3, 30))

    def split(samples: int):
        labels = np.arange(samples) % 3
        return make_activations(means[labels] + 3 * generator.normal(size=(samples, 30)), labels, 3)

    fit, select = split(45), split(300)
    quality = {}
    for amount in sorted({*RIDGES, ledoit_wolf(fit.second)}):
        wide = fit.values.astype(np.float64)
        sigma = shrunk_covariance(np.cov(wide.T, ddof=0), shrinkage=amount)
        found = []
        for concept in range(3):
            own = fit.labels == concept
            read = np.linalg.solve(sigma, wide[own].mean(0) - wide[~own].mean(0))
            found.append(np.corrcoef(select.values @ read, select.labels == concept)[0, 1])
        quality[amount] = np.mean(found)
    best = max(quality, key=lambda amount: quality[amount])
    assert shrinkage_of(replace(fit, select=select), "selected") == best
    assert quality[best] > quality[0.0] + 0.05, "the positive control: unshrunk, 45 samples say little of 30 neurons"


def test_without_a_select_split_nothing_is_chosen(make_activations) -> None:
    labels = np.arange(20) % 2
    fit = make_activations(drawn(20, 4), labels, 2)
    with pytest.raises(ActivationError, match="not recorded"):
        selected(fit)
    with pytest.raises(ActivationError, match="no concept beside another"):
        selected(replace(fit, select=make_activations(drawn(20, 4), np.zeros(20, dtype=int), 2)))
    with pytest.raises(ConfigError, match="Did you mean 'ledoit_wolf'"):
        shrinkage_of(fit, "ledoit")
