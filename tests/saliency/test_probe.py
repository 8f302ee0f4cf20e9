"""The probe against the conditions that only the minimum of its stated loss meets."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from neuronlens.errors import ConfigError
from neuronlens.saliency.probe import ProbeSaliency, probe_weights, standardised


def problem(concepts: int, seed: int = 0):
    """Return standardised values and labels with one strong, three weak and two idle neurons."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(120) % concepts)
    strength = np.array([2.0, 0.5, 0.5, 0.5, 0.0, 0.0])
    values = random.normal(size=(120, 6)) + strength * random.normal(size=(concepts, 6))[labels]
    return standardised(values)[0], labels


@pytest.mark.parametrize("concepts", [2, 3, 5])
@pytest.mark.parametrize(("l1", "l2"), [(0.01, 0.02), (0.03, 0.0), (0.0, 0.05)])
def test_the_weights_minimise_the_stated_loss(concepts, l1, l2):
    values, labels = problem(concepts)
    weights = probe_weights(values, labels, concepts=concepts, l1=l1, l2=l2, max_iter=5000, tol=1e-8, seed=0)
    # The best intercept for these weights is found apart from scikit-learn; at the minimum, 0 is a subgradient.
    onehot = np.eye(concepts)[labels]
    logits = values @ weights.T
    bias = minimize(lambda b: -(onehot * log_softmax(logits + b, axis=1)).sum() / len(labels), np.zeros(concepts)).x
    slope = (softmax(logits + bias, axis=1) - onehot).T @ values / len(labels) + l2 * weights
    chosen = np.abs(weights) > 1e-9
    assert slope[chosen] == pytest.approx(-l1 * np.sign(weights[chosen]), abs=1e-4)
    assert np.abs(slope[~chosen]).max(initial=0) <= l1 + 1e-4
    assert chosen.any()
    assert (not chosen.all()) == (l1 > 0)  # the l1 penalty really drops neurons, and the l2 penalty does not


@pytest.mark.parametrize("concepts", [2, 4])
def test_without_an_l1_penalty_lbfgs_finds_the_minimum_that_saga_creeps_towards(concepts):
    values, labels = problem(concepts, seed=3)
    exact = probe_weights(values, labels, concepts=concepts, l1=0.0, l2=1e-3, max_iter=200, tol=1e-3, seed=0)
    slow = probe_weights(values, labels, concepts=concepts, l1=1e-12, l2=1e-3, max_iter=20000, tol=1e-8, seed=0)
    assert exact == pytest.approx(slow, abs=1e-3 * np.abs(slow).max())
    assert (exact != 0).all()


def test_two_concepts_mirror_each_other():
    values, labels = problem(2)
    weights = probe_weights(values, labels, concepts=2, l1=0.001, l2=0.01, max_iter=1000, tol=1e-6, seed=0)
    assert np.array_equal(weights[0], -weights[1])
    # Concept 1's row is the one whose logit is high where concept 1 is.
    logit = values @ weights[1]
    assert logit[labels == 1].mean() > 0.3 > -0.3 > logit[labels == 0].mean()


def test_a_missing_concept_changes_nothing_for_the_others():
    values, labels = problem(3)
    options = {"l1": 0.001, "l2": 0.01, "max_iter": 1000, "tol": 1e-6, "seed": 0}
    whole = probe_weights(values, labels, concepts=3, **options)
    gap = probe_weights(values, np.array([0, 2, 5])[labels], concepts=6, **options)
    assert np.array_equal(gap[[0, 2, 5]], whole)
    assert np.isnan(gap[[1, 3, 4]]).all()


def test_standardised_has_unit_deviation_and_leaves_its_input_alone():
    values = np.random.default_rng(0).normal(3, 5, size=(49, 3))
    values[:, 1] = 0.1
    assert values[:, 1].std() > 0  # a rounding error of the mean, which must not be blown up to unit deviation
    before = values.copy()
    scaled, sigma = standardised(values)
    assert np.array_equal(values, before)
    assert scaled.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert scaled.std(axis=0) == pytest.approx([1, 0, 1])
    assert sigma == pytest.approx(values.std(axis=0), abs=1e-12)
    assert sigma[1] == 0


def test_every_argument_plays_its_part(make_activations):
    random = np.random.default_rng(1)
    labels = np.arange(90) % 3
    values = random.normal(size=(90, 10)) * np.linspace(0.1, 5, 10) + random.normal(size=(3, 10))[labels]
    activations = make_activations(values, labels, 3)
    base = {"l1": 0.001, "l2": 0.001, "max_iter": 50, "tol": 1e-4, "seed": 0}
    scores = ProbeSaliency(**base).rank(activations).scores
    assert np.array_equal(ProbeSaliency(**base).rank(activations).scores, scores)
    for other in ({"l1": 0.1}, {"l2": 0.1}, {"max_iter": 3}, {"tol": 0.1}, {"seed": 1}, {"l1": 0, "l2": 0}):
        assert not np.array_equal(ProbeSaliency(**base | other).rank(activations).scores, scores), other
    scaled = ProbeSaliency(**base, scaled_by_std=True).rank(activations).scores
    assert scaled == pytest.approx(scores * activations.values.std(axis=0), rel=1e-5)


def test_a_probe_that_has_not_converged_says_so_in_the_log_alone(make_activations, caplog):
    values, labels = problem(3)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        ProbeSaliency(l1=0.001, max_iter=1).rank(make_activations(values, labels, 3))
        assert "stopped after 1 iterations" in caplog.text
        caplog.clear()
        ProbeSaliency(l1=0.1, max_iter=500).rank(make_activations(values, labels, 3))
        assert not caplog.records


@pytest.mark.parametrize("wrong", [{"l1": -1.0}, {"l2": float("inf")}, {"max_iter": 0}, {"tol": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ProbeSaliency(**wrong)
