"""Max saliency against a loop from the definition."""

from __future__ import annotations

import numpy as np

from neuronlens.activations.moments import statistics_of
from neuronlens.records import ActivationSet, Site
from neuronlens.saliency.max import MaxSaliency


def test_scores_are_mean_magnitudes_over_the_concept(generator: np.random.Generator) -> None:
    values, labels = generator.normal(size=(30, 7)).astype(np.float32), np.arange(30) % 3
    values[:, 2] = -4.0  # a constant neuron, and the sign does not count
    found = ActivationSet(
        Site(0), values, labels, ("a", "b", "c"), tuple(map(str, range(30))), statistics_of(values, labels, 3), ""
    )
    ranking = MaxSaliency().rank(found)
    for concept in range(3):
        for neuron in range(7):
            direct = np.mean([abs(float(values[row, neuron])) for row in range(30) if labels[row] == concept])
            assert np.isclose(ranking.scores[concept, neuron], direct, rtol=1e-12)
    assert (ranking.order[:, 0] == 2).all()
