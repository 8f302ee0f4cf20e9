"""Diagnostics of held-out samples: what exact Gaussians give, and which neurons they are over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from neuronlens.config.compose import compose
from neuronlens.config.plan import grid, headline_selection
from neuronlens.edits.fitting import fit_site
from neuronlens.measures.heldout import diagnose
from neuronlens.records import Site
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


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], {"top_fraction": 0.3}),
        (["sweep.top_fraction=[0.1,0.3,0.5]"], {"top_fraction": 0.3}),
        (["sweep.top_fraction=[0.05,0.1,0.8]"], {"top_fraction": 0.1}),
        (["sweep.top_fraction=[0.25,0.35]"], {"top_fraction": 0.25}),
        (["intervention.top_count=7"], {"top_count": 7}),
    ],
)
def test_one_selection_that_was_swept_stands_for_a_run(overrides: list[str], wanted: dict[str, float]) -> None:
    config = compose(["sweep=single", *overrides])
    assert headline_selection(config) == wanted
    assert {(knobs.top_fraction, knobs.top_count) for knobs in grid(config)} >= {
        (wanted.get("top_fraction"), wanted.get("top_count"))
    }


@pytest.mark.parametrize(
    ("selection", "salient"), [({"top_count": 7}, 7), ({"top_fraction": 0.5}, 20), ({"top_count": 0}, 0)]
)
def test_diagnostics_are_over_the_neurons_that_were_edited(
    selection: dict[str, float], salient: int, make_activations: MakeActivations, generator: np.random.Generator
) -> None:
    found = make_activations(generator.normal(size=(60, 40)) * generator.uniform(1, 9, 40), np.arange(60) % 3, 3)
    fitted = fit_site(compose(FIT), found)
    table, overlap = diagnose({found.site: fitted}, {found.site: found}, **selection)
    assert (overlap["salient"] == salient).all()
    assert len(table) == 3 * salient
    largest = np.argsort(-np.abs(found.values[found.labels == 1]).mean(axis=0))[:salient]
    if salient:
        assert set(table.loc[table["concept"] == "c1", "neuron"]) == set(largest)


def test_layers_ranked_as_one_are_diagnosed_as_one(
    make_activations: MakeActivations, generator: np.random.Generator
) -> None:
    quiet, loud = (
        make_activations(scale * generator.normal(size=(60, 10)), np.arange(60) % 3, 3) for scale in (1.0, 5.0)
    )
    loud = replace(loud, site=Site(2))
    sets = {found.site: found for found in (quiet, loud)}
    fits = {site: fit_site(compose(FIT), found) for site, found in sets.items()}
    _, each = diagnose(fits, sets, top_fraction=0.5)
    _, together = diagnose(fits, sets, top_fraction=0.5, scope="model")
    sizes = {name: own.groupby("site")["salient"].first().tolist() for name, own in (("each", each), ("one", together))}
    assert sizes == {"each": [5, 5], "one": [0, 10]}, "the loud layer holds all of the salient half"
