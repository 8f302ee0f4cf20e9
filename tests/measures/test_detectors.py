"""What a gate's score does on held-out positions, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from neuronlens.edits.gates.base import Score
from neuronlens.measures.detectors import quality


@pytest.mark.parametrize(("constant", "ceiling"), [(0.2, np.inf), (0.2, 1.5), (np.inf, np.inf)])
def test_auc_and_rates_are_scikit_learns_and_the_gates_own(make_activations, constant: float, ceiling: float) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    test = make_activations(generator.normal(size=(90, 4)) + labels[:, None] / 2, labels, 3)
    linear = generator.normal(size=4) + 1
    found = quality(Score(np.zeros(4), linear, constant, ceiling), test, 2)
    order, member = test.values.astype(np.float64) @ linear, labels == 2
    assert found["auc"] == pytest.approx(roc_auc_score(member, order))
    assert found["auc"] > 0.6, "the positive control"
    opened = (order + constant > 0) & (order + constant <= ceiling)
    assert found["hit_rate"] == opened[member].mean()
    assert found["false_alarm_rate"] == opened[~member].mean()
    assert (found["n"], found["n_rest"]) == (30, 60)


def test_a_concept_without_positions_has_no_figures(make_activations) -> None:
    test = make_activations(np.ones((4, 2)), np.zeros(4, dtype=int), 2)
    found = quality(Score(np.zeros(2), np.ones(2), 0.0), test, 1)
    assert np.isnan(found["auc"])
    assert np.isnan(found["hit_rate"])
    assert found["false_alarm_rate"] == 1
