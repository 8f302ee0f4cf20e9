"""Selection over several layers as one."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.errors import ActivationError, ShapeError
from neuronlens.saliency.ranking import NeuronRanking
from neuronlens.saliency.scope import rank_together

CONCEPTS = ("a", "b")


def rankings(seed: int = 0, widths: dict[int, int] | None = None) -> dict[int, NeuronRanking]:
    random = np.random.default_rng(seed)
    shapes = widths or {5: 6, 2: 10, 11: 4}
    return {
        layer: NeuronRanking("max", random.integers(0, 5, (2, width)) / 2, CONCEPTS, random.random((2, width)))
        for layer, width in shapes.items()
    }


@pytest.mark.parametrize("seed", range(20))
def test_it_takes_the_best_of_all_layers_with_ties_by_the_second_score(seed):
    chosen = rank_together(given := rankings(seed), top_fraction=0.34)
    assert list(chosen) == [2, 5, 11]
    for concept in range(2):
        everything = sorted(
            (-given[layer].scores[concept, neuron], -given[layer].second[concept, neuron], layer, neuron)
            for layer in given
            for neuron in range(given[layer].scores.shape[1])
        )
        expected = {place[2:] for place in everything[:6]}  # floor(0.34 * 20)
        found = {(layer, int(neuron)) for layer, mask in chosen.items() for neuron in np.flatnonzero(mask[concept])}
        assert found == expected


def test_one_layer_is_the_ranking_itself_and_a_count_counts_over_all():
    given = rankings()
    assert np.array_equal(rank_together({5: given[5]}, top_count=2)[5], given[5].selected(top_count=2))
    together = rank_together(given, top_count=7)
    assert sum(mask.sum(axis=1) for mask in together.values()).tolist() == [7, 7]
    assert {layer: mask.shape for layer, mask in together.items()} == {2: (2, 10), 5: (2, 6), 11: (2, 4)}
    assert sum(mask.sum() for mask in rank_together(given, top_fraction=1.0).values()) == 40
    assert sum(mask.sum() for mask in rank_together(given, top_fraction=0.0).values()) == 0


def test_bad_input_is_refused():
    given = rankings()
    with pytest.raises(ActivationError, match="at least one layer"):
        rank_together({}, top_count=1)
    with pytest.raises(ActivationError, match="one of top_fraction and top_count"):
        rank_together(given)
    with pytest.raises(ActivationError, match="expected 0 to 20"):
        rank_together(given, top_count=21)
    with pytest.raises(ShapeError, match="Layer 5 ranks concepts"):
        rank_together({2: given[2], 5: NeuronRanking("max", given[5].scores, ("b", "a"))}, top_count=1)
