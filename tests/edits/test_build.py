"""From ranking, ranges and knobs to the kernel's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from neuronlens.activations.moments import statistics_of
from neuronlens.config.groups import option_names
from neuronlens.config.nodes import part
from neuronlens.config.schema import Config
from neuronlens.edits.base import Affine, Edit, Projection
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.dampening import Aura, Dampen
from neuronlens.edits.detected import DetectedEdit
from neuronlens.edits.fitting import Fitted, other_concept, shuffled_labels
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.edits.transports import GaussianTransport, LinearTransport, MeanShift
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.ranges.gaussian import GaussianRange
from neuronlens.records import ActivationSet, Knobs, Site
from neuronlens.saliency.max import MaxSaliency
from neuronlens.saliency.ranking import NeuronRanking

MIXING = ("leace", "directional_ablation", "splince", "mean_projection", "qleace", "alphasteer")
KNOBS = Knobs(saliency="max", top_fraction=0.5, range="gaussian", tau=1.0, gate="range", edit="zero", strength=1.0)


def activations(values: np.ndarray, labels: np.ndarray, concepts: int = 2) -> ActivationSet:
    names = tuple(f"c{number}" for number in range(concepts))
    ids = tuple(str(row) for row in range(len(labels)))
    values = values.astype(np.float32)
    return ActivationSet(Site(0), values, labels, names, ids, statistics_of(values, labels, concepts), "f")


def fitted(found: ActivationSet, *taus: float) -> Fitted:
    ranges = {("gaussian", tau): GaussianRange(tau=tau).fit(found) for tau in taus}
    return Fitted(found, {"max": MaxSaliency().rank(found)}, ranges)


@pytest.fixture
def built(generator: np.random.Generator) -> tuple[ActivationSet, EditBuilder]:
    labels = np.arange(40) % 2
    found = activations(generator.normal(size=(40, 6)) + labels[:, None], labels)
    shuffled = fitted(shuffled_labels(found, 0), 1.0)
    fits = {"none": fitted(found, 1.0, float("inf")), "shuffled_labels": shuffled}
    return found, EditBuilder(Config(), fits, select=found)


@pytest.mark.parametrize("name", option_names("edit"))
def test_every_edit_gives_the_kind_of_target_that_it_declares(
    name: str, built: tuple[ActivationSet, EditBuilder]
) -> None:
    found, builder = built
    edit: Edit = part(Config(), "edit", name)
    assert isinstance(edit.target(found, 1), Projection if edit.mixes_neurons else Affine)
    assert builder.mixes_neurons((replace(KNOBS, edit=name), 0)) == edit.mixes_neurons
    assert edit.mixes_neurons == (name in MIXING)


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
    builder = EditBuilder(Config(), {"none": fitted(found, float("inf"))})
    infinite = builder.batch([(replace(KNOBS, tau=float("inf"), top_fraction=1.0), 0)])
    neuron = builder.batch([(replace(KNOBS, gate="neuron", top_fraction=1.0), 0)])
    assert (infinite.lower == neuron.lower).all()
    assert (infinite.upper == neuron.upper).all()


def test_trap_10_a_concept_with_one_or_no_sample_is_skipped_with_a_reason(generator: np.random.Generator) -> None:
    labels = np.array([0] * 8 + [1])
    found = activations(generator.normal(size=(9, 4)), labels, concepts=3)
    builder = EditBuilder(Config(), {"none": fitted(found, 1.0)})
    assert builder.skip_reason((KNOBS, 0)) is None
    for concept, count in ((1, 1), (2, 0)):
        for gate in ("range", "neuron"):
            assert f"{count} samples" in str(builder.skip_reason((replace(KNOBS, gate=gate), concept)))


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
    assert ranking.selected(top_count=2).sum() == 2


def _gated(builder: EditBuilder, knobs: Knobs, concept: int = 0) -> GatedEdit:
    edit = builder.batch([(knobs, concept)])
    assert isinstance(edit, GatedEdit)
    return edit


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ("dampen", Dampen(beta=0.125)),
        ("aura", Aura()),
        ("mean_shift", MeanShift()),
        ("gaussian_transport", GaussianTransport()),
        ("linear_transport", LinearTransport()),
    ],
)
def test_trap_8_every_target_reaches_the_kernel(
    edit: str, expected: Edit, built: tuple[ActivationSet, EditBuilder]
) -> None:
    found, builder = built
    batch = _gated(builder, replace(KNOBS, edit=edit), 1)
    target = expected.target(found, 1)
    for ours, theirs in zip((batch.scale[0], batch.shift[0]), (target.scale, target.shift), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert batch.distance is None
    assert _gated(builder, replace(KNOBS, edit="dampen_distance")).distance is not None


def test_the_outside_gate_is_the_complement_on_the_salient_neurons(built: tuple[ActivationSet, EditBuilder]) -> None:
    _, builder = built
    inner, outer = _gated(builder, KNOBS), _gated(builder, replace(KNOBS, gate="outside"))
    values = torch.linspace(-5, 5, 1001)[None, :, None, None].expand(1, 1001, 1, 6).contiguous()
    changed = [
        (GatedEdit(e.lower, e.upper, e.scale, e.shift + 99, e.strength)(values) != values) for e in (inner, outer)
    ]
    salient = torch.from_numpy(builder.selected(KNOBS)[0])
    assert (changed[0] ^ changed[1])[..., salient].all()
    assert not (changed[0] | changed[1])[..., ~salient].any()


def test_the_other_concept_is_drawn_by_seed_and_is_never_the_concept_itself() -> None:
    names = tuple(f"sport.{number}" for number in range(7))
    drawn = {seed: [other_concept(names, concept, seed) for concept in range(7)] for seed in range(200)}
    counts = np.zeros((7, 7))
    for found in drawn.values():
        for concept, other in enumerate(found):
            counts[concept, other] += 1
    assert (np.diag(counts) == 0).all()
    off = counts[~np.eye(7, dtype=bool)]
    assert stats.chisquare(off).pvalue > 1e-3, "every other concept as often: not the neighbour by the alphabet"
    assert drawn[0] == [other_concept(names, concept, 0) for concept in range(7)]
    assert other_concept(("alone",), 0, 0) is None


def test_controls_change_what_they_say_and_nothing_else(built: tuple[ActivationSet, EditBuilder]) -> None:
    found, builder = built
    plain = _gated(builder, KNOBS)
    random = replace(KNOBS, control="random_neurons")
    assert builder.selected(random).sum() == builder.selected(KNOBS).sum()
    assert (builder.selected(random) != builder.selected(KNOBS)).any()
    other = _gated(builder, replace(KNOBS, control="other_concept"))
    salient = builder.selected(KNOBS)[0]
    theirs = GaussianRange(tau=1.0).fit(found)
    np.testing.assert_allclose(other.lower[0, 0, salient], theirs.lower[1, 0, salient], rtol=1e-6)
    np.testing.assert_allclose(plain.lower[0, 0, salient], theirs.lower[0, 0, salient], rtol=1e-6)
    shuffled = _gated(builder, replace(KNOBS, control="shuffled_labels", edit="complement_mean"))
    assert not np.allclose(shuffled.shift, _gated(builder, replace(KNOBS, edit="complement_mean")).shift)
    again = shuffled_labels(found, 0)
    assert np.bincount(again.labels).tolist() == np.bincount(found.labels).tolist()
    assert (again.labels != found.labels).any()


def test_projections_and_joint_gates_are_built(built: tuple[ActivationSet, EditBuilder]) -> None:
    _, builder = built
    free = replace(KNOBS, gate="neuron", range=None, tau=None, saliency=None, top_fraction=None)
    for edit in MIXING:
        assert isinstance(builder.batch([(replace(free, edit=edit), 0)]), ProjectionEdit)
        assert builder.edited_neurons((replace(free, edit=edit), 0)) == 6
    joint = replace(KNOBS, gate="joint", range=None, tau=None)
    both = builder.batch([(joint, 0), (KNOBS, 0)])
    assert isinstance(both, DetectedEdit)
    hidden = torch.randn(1, 50, 1, 6)
    allowed = both.detector(hidden)
    assert allowed[1].all(), "a cell without a joint gate is let through"
    assert not allowed[0].all()


def test_the_scope_of_a_ranking_may_be_all_layers(generator: np.random.Generator) -> None:
    labels = np.arange(40) % 2
    layers = {}
    for layer in (0, 1):
        found = activations(generator.normal(scale=1 + 5 * layer, size=(40, 6)), labels)
        layers[layer] = fitted(replace(found, site=Site(layer)), 1.0)
    counts = [
        EditBuilder(Config(), {"none": layers[at]}, ranked_with={"none": layers}).selected(KNOBS)[0].sum()
        for at in (0, 1)
    ]
    assert counts == [0, 6], "the larger layer's neurons outrank the smaller's"


def test_a_singular_covariance_and_coinciding_means_are_skipped_with_a_reason() -> None:
    found = activations(np.ones((10, 4)), np.arange(10) % 2)
    builder = EditBuilder(Config(), {"none": fitted(found, 1.0)})
    free = replace(KNOBS, gate="neuron", range=None, tau=None)
    assert "rank 0" in str(builder.skip_reason((replace(free, edit="leace"), 0)))
    assert "coincide" in str(builder.skip_reason((replace(free, edit="directional_ablation"), 0)))
    assert "select split" in str(builder.skip_reason((replace(free, gate="joint"), 0)))
    assert builder.skip_reason((free, 0)) is None
