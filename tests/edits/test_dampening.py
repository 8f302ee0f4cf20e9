"""Dampening against its formulas and scikit-learn's AUROC."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from neuronlens.edits.dampening import Aura, Dampen, DampenDistance
from neuronlens.errors import ConfigError


@pytest.mark.parametrize("concept", [0, 1, 2])
def test_aura_is_its_formula_with_scikit_learns_auroc(skewed, concept):
    target = Aura().target(skewed, concept)
    scale, shift = target.scale, target.shift
    area = np.array([roc_auc_score(skewed.labels == concept, column) for column in skewed.values.T])
    assert scale == pytest.approx(np.where(area > 0.5, 1 - 2 * (area - 0.5), 1), abs=1e-12)
    assert not shift.any()
    assert (scale >= 0).all()
    assert (scale <= 1).all()


def test_aura_dampens_experts_and_leaves_the_others(make_activations):
    labels = np.repeat([0, 1], 50)
    values = np.random.default_rng(0).normal(size=(100, 1)) + 3 * labels[:, None]
    activations = make_activations(values, labels, 2)
    assert Aura().target(activations, 1).scale[0] < 0.1
    assert Aura().target(activations, 0).scale[0] == 1


def test_dampen_is_beta_x_and_refuses_a_beta_that_does_nothing(skewed):
    target = Dampen().target(skewed, 0)
    assert [target.scale.tolist(), target.shift.tolist(), target.by_distance] == [[0.125] * 5, [0.0] * 5, False]
    assert Dampen(beta=0.0).target(skewed, 0).scale.tolist() == [0.0] * 5
    assert DampenDistance(beta=0.25).target(skewed, 0).by_distance
    for beta in (1.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="beta is"):
            Dampen(beta=beta)
