"""Ties at the cut: by a second score, then by a lot of each concept's own, never by neuron index, and never in silence."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from neuronlens.config.compose import compose
from neuronlens.edits.fitting import fit_site, rank
from neuronlens.records import ActivationSet, FloatArray
from neuronlens.results.fitted import rankings_of, read_fitted, write_fitted
from neuronlens.saliency.overlap import jaccard
from neuronlens.saliency.probe import ProbeSaliency
from neuronlens.saliency.ranking import NeuronRanking
from tests.conftest import MakeActivations

CONCEPTS = tuple(f"concept {number}" for number in range(8))
CHANCE = 1 / 3
"""Jaccard overlap of two independent random halves, roughly: a quarter shared of three quarters in either."""


@pytest.fixture(scope="module")
def wide(make_activations: MakeActivations) -> ActivationSet:
    """Eight concepts, 96 neurons of which each concept has six strong ones at the far end of the indices."""
    generator = np.random.default_rng(5)
    labels = np.arange(240) % 8
    signal = np.zeros((8, 96))
    for concept in range(8):
        signal[concept, 95 - 6 * concept - np.arange(6)] = 2.0
    return make_activations(generator.normal(size=(240, 96)) + signal[labels], labels, 8)


def overlap(ranking: NeuronRanking, fraction: float = 0.5) -> float:
    shared = jaccard(ranking.selected(top_fraction=fraction))
    return float(shared[np.triu_indices(len(shared), 1)].mean())


def test_trap_40_the_default_probe_leaves_no_weight_at_zero(wide: ActivationSet) -> None:
    assert (ProbeSaliency().rank(wide).scores > 0).all()


def test_trap_40_zero_weights_are_ordered_by_the_second_score(wide: ActivationSet) -> None:
    rankings, _ = rank(compose(["saliency=probe", "saliency.l1=0.02"]), wide)
    found = rankings["probe"]
    assert 0.5 < (found.scores == 0).mean() < 0.99, "positive control: the penalty makes zeros that reach the cut"
    statistics = wide.statistics
    for concept in range(8):
        zero = np.flatnonzero(found.scores[concept] == 0)
        spread = np.sqrt((statistics.variance + statistics.complement_variance)[concept] / 2 + 1e-8)
        second = np.abs(statistics.mean - statistics.complement_mean)[concept] / spread
        expected = zero[np.argsort(-second[zero])]
        assert found.order[concept, -len(zero) :].tolist() == expected.tolist()
    lowest = np.argsort(-found.scores, axis=1, kind="stable")[:, :48]
    by_index = np.zeros((8, 96), dtype=bool)
    np.put_along_axis(by_index, lowest, True, axis=1)
    shared = jaccard(by_index)
    assert shared[np.triu_indices(8, 1)].mean() > 0.6, "by index the sets would be nearly the same for every concept"
    assert overlap(found) < 0.45


@pytest.mark.parametrize("second", [None, np.zeros((8, 96))])
def test_trap_40_what_is_equal_in_every_score_is_drawn_by_lot_for_each_concept(second: FloatArray | None) -> None:
    ranking = NeuronRanking("max", np.zeros((8, 96)), CONCEPTS, second)
    assert overlap(ranking) == pytest.approx(CHANCE, abs=0.05)
    again = NeuronRanking("max", np.zeros((8, 96)), CONCEPTS, second)
    assert (ranking.order == again.order).all()
    assert (np.sort(ranking.order, axis=1) == np.arange(96)).all()
    mean_index = np.array([np.flatnonzero(own).mean() for own in ranking.selected(top_fraction=0.5)])
    assert abs(mean_index.mean() - 47.5) < 6


def test_trap_40_ties_at_the_cut_are_counted_and_named_once(caplog: pytest.LogCaptureFixture) -> None:
    scores = np.array([[3.0, 2.0, 2.0, 2.0, 1.0], [5.0, 4.0, 3.0, 2.0, 1.0], [np.nan] * 5])
    ranking = NeuronRanking("auroc", scores, ("a", "b", "c"))
    assert [ranking.ties_broken(count).tolist() for count in range(6)] == [
        *([0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, 0], [0, 0, 0]),
    ]
    with caplog.at_level(logging.WARNING):
        ranking.selected(top_count=1)
        ranking.selected(top_count=4)
        assert not caplog.records
        ranking.selected(top_count=3)
        ranking.selected(top_count=3)
    (record,) = caplog.records
    assert "'auroc': 1 of 3 concepts have up to 2 of their top 3 neurons (2 in all)" in record.getMessage()


@pytest.mark.parametrize("name", ["max", "auroc", "dprime", "probeless", "probe"])
def test_trap_40_silent_neurons_are_no_ones_first_by_index_under_any_ranker(
    name: str, make_activations: MakeActivations
) -> None:
    """Half the neurons never fire (a ReLU site): every score of theirs is 0, and no score orders them."""
    generator = np.random.default_rng(2)
    values = np.abs(generator.normal(size=(80, 96)))
    values[:, :80] = 0.0
    rankings, _ = rank(compose([f"saliency={name}"]), make_activations(values, np.arange(80) % 8, 8))
    ranking = rankings[name]
    chosen = ranking.selected(top_fraction=0.5)
    assert chosen[:, 80:].all(), "positive control: what fires comes first"
    silent = jaccard(chosen[:, :80])
    assert silent[np.triu_indices(8, 1)].mean() == pytest.approx(0.25, abs=0.06)  # 32 of 80 at random: 12.8 / 51.2
    assert (ranking.ties_broken(48) == 32).all()


def test_the_order_is_the_same_when_a_run_folder_is_read(wide: ActivationSet, tmp_path) -> None:
    fitted = fit_site(compose(["saliency=probe", "saliency.l1=0.02"]), wide)
    write_fitted(tmp_path, {wide.site: fitted})
    restored = rankings_of(read_fitted(tmp_path), str(wide.site))
    assert (restored["probe"].order == fitted.rankings["probe"].order).all()
