"""From ranking, ranges and knobs to the kernel's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuronlens.activations import statistics_of
from neuronlens.edits.build import TARGETS, EditBuilder, Knobs
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.records import ActivationSet, NeuronRanking, Site
from neuronlens.saliency.max import MaxSaliency
from neuronlens.schema import EDITS

KNOBS = Knobs(top_fraction=0.5, top_count=None, range="gaussian", tau=1.0, gate="range", edit="zero", strength=1.0)


def activations(values: np.ndarray, labels: np.ndarray, concepts: int = 2) -> ActivationSet:
    names = tuple(f"c{number}" for number in range(concepts))
    ids = tuple(str(row) for row in range(len(labels)))
    values = values.astype(np.float32)
    return ActivationSet(Site(0), values, labels, names, ids, statistics_of(values, labels, concepts), "f")


@pytest.fixture
def built(generator: np.random.Generator) -> tuple[ActivationSet, EditBuilder]:
    labels = np.arange(40) % 2
    found = activations(generator.normal(size=(40, 6)) + labels[:, None], labels)
    ranges = {tau: GaussianRange(tau=tau).fit(found) for tau in (1.0, float("inf"))}
    return found, EditBuilder(MaxSaliency().rank(found), ranges)


def test_every_named_edit_has_a_target() -> None:
    assert set(TARGETS) == set(EDITS)


def test_trap_8_every_replacement_is_used(built: tuple[ActivationSet, EditBuilder]) -> None:
    found, builder = built
    batch = builder.batch([(replace(KNOBS, edit=edit), 1) for edit in ("zero", "mean", "complement_mean")])
    assert (batch.scale == 0).all()
    np.testing.assert_array_equal(batch.shift[0], 0)
    np.testing.assert_allclose(batch.shift[1], found.values.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batch.shift[2], found.values[found.labels == 0].mean(0), rtol=1e-5, atol=1e-6)


def test_only_salient_neurons_are_touched_and_the_rest_have_the_empty_interval(
    built: tuple[ActivationSet, EditBuilder],
) -> None:
    found, builder = built
    batch = builder.batch([(KNOBS, 0), (replace(KNOBS, gate="neuron", tau=None, range=None), 0)])
    salient = set(np.argsort(-np.abs(found.values[found.labels == 0]).mean(0))[:3].tolist())
    for cell in range(2):
        touched = {j for j in range(6) if batch.lower[cell, 0, j] <= batch.upper[cell, 0, j]}
        assert touched == salient
        for neuron in set(range(6)) - salient:
            assert (batch.lower[cell, 0, neuron], batch.upper[cell, 0, neuron]) == (np.inf, -np.inf)


@pytest.mark.parametrize("fraction", [0.0, 0.34, 0.5, 0.99, 1.0])
def test_top_fraction_takes_the_floor(fraction: float, built: tuple[ActivationSet, EditBuilder]) -> None:
    _, builder = built
    assert builder.selected(replace(KNOBS, top_fraction=fraction)).sum(1).tolist() == [int(fraction * 6)] * 2


def test_trap_6_infinite_tau_with_a_dead_neuron_is_the_neuron_mask() -> None:
    values, labels = np.zeros((10, 3)), np.arange(10) % 2
    found = activations(values, labels)
    whole = GaussianRange(tau=float("inf")).fit(found)
    assert np.isneginf(whole.lower).all()
    assert np.isposinf(whole.upper).all()
    point = GaussianRange(tau=2.0).fit(found)
    assert (point.lower == 0).all()
    assert (point.upper == 0).all()
    builder = EditBuilder(MaxSaliency().rank(found), {float("inf"): whole})
    infinite = builder.batch([(replace(KNOBS, tau=float("inf"), top_fraction=1.0), 0)])
    neuron = builder.batch([(replace(KNOBS, gate="neuron", top_fraction=1.0), 0)])
    assert (infinite.lower == neuron.lower).all()
    assert (infinite.upper == neuron.upper).all()


def test_trap_10_a_concept_with_one_or_no_sample_is_skipped_with_a_reason(generator: np.random.Generator) -> None:
    labels = np.array([0] * 8 + [1])
    found = activations(generator.normal(size=(9, 4)), labels, concepts=3)
    builder = EditBuilder(MaxSaliency().rank(found), {1.0: GaussianRange(tau=1.0).fit(found)})
    assert builder.skip_reason(KNOBS, 0) is None
    for concept, count in ((1, 1), (2, 0)):
        for gate in ("range", "neuron"):
            assert f"{count} samples" in str(builder.skip_reason(replace(KNOBS, gate=gate), concept))


def test_trap_9_nan_and_infinity_are_refused_with_neuron_and_sample_named() -> None:
    values, labels = np.zeros((4, 3)), np.arange(4) % 2
    for bad in (np.nan, np.inf):
        values[2, 1] = bad
        with pytest.raises(ActivationError, match="neuron 1, sample '2'"):
            activations(values, labels)


def test_unknown_gates_and_edits_are_refused(built: tuple[ActivationSet, EditBuilder]) -> None:
    _, builder = built
    with pytest.raises(ConfigError, match="Did you mean 'range'"):
        builder.batch([(replace(KNOBS, gate="rang"), 0)])
    with pytest.raises(ConfigError, match="Did you mean 'zero'"):
        builder.batch([(replace(KNOBS, edit="zeros"), 0)])


def test_selection_refuses_what_cannot_be_selected() -> None:
    ranking = NeuronRanking("max", np.ones((1, 4)), ("a",))
    with pytest.raises(ActivationError, match="expected 0 to 4"):
        ranking.selected(top_count=5)
    with pytest.raises(ActivationError, match="one of"):
        ranking.selected()
    assert ranking.selected(top_count=2)[0].tolist() == [True, True, False, False]  # ties by neuron index
