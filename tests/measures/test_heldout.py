"""Diagnostics of held-out samples: what exact Gaussians give, and which neurons they are over."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.config.compose import compose
from neuronlens.edits.fitting import fit_site
from neuronlens.measures.heldout import diagnose
from tests.conftest import MakeActivations

NEURONS = 600
FIT = ["saliency=max", "range=gaussian", "sweep=single"]


@pytest.mark.parametrize("n", [10, 50, 500])
def test_trap_50_exact_gaussians_pass_95_percent_whatever_the_number_of_samples(
    n: int, make_activations: MakeActivations, generator: np.random.Generator
) -> None:
    labels = np.arange(2 * n) % 2
    fit, test = (make_activations(generator.normal(3, 2, (2 * n, NEURONS)), labels, 2) for _ in range(2))
    table, _ = diagnose({fit.site: fit_site(compose(FIT), fit)}, {fit.site: test}, top_fraction=1.0)
    assert len(table) == 2 * NEURONS
    assert (table["n"] == n).all()
    assert (table["n_fit"] == n).all()
    passed = int((table["ks_p"] >= 0.05).sum())
    assert stats.binomtest(passed, len(table), 0.95).pvalue > 0.005
    tabled = stats.kstwo.sf(table["ks_statistic"].to_numpy(), n)
    assert np.mean(tabled >= 0.05) < 0.90, "positive control: the tabled law rejects exact Gaussians too often"
    skewed, again = (make_activations(generator.exponential(1, (2 * n, NEURONS)), labels, 2) for _ in range(2))
    other, _ = diagnose({fit.site: fit_site(compose(FIT), skewed)}, {fit.site: again}, top_fraction=1.0)
    if n > 10:  # ten samples show little
        assert np.mean(other["ks_p"] >= 0.05) < 0.8
