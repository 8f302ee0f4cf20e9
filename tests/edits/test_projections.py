"""The edits that mix neurons: LEACE against what a linear probe can still find, directional ablation, and the call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm
from sklearn.covariance import LedoitWolf, ShrunkCovariance
from sklearn.linear_model import LogisticRegression

from neuronlens.activations.moments import statistics_of
from neuronlens.edits.base import Projection, identity
from neuronlens.edits.leace import Leace, erasure
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.edits.projections import DirectionalAblation
from neuronlens.edits.shrinkage import FIXED, ledoit_wolf, whitened
from neuronlens.errors import ActivationError, ConfigError, ShapeError
from neuronlens.records import ActivationSet, ConceptStatistics, SecondMoments, Site

COVARIANCES = ("empirical", "shrunk", "ledoit_wolf")


def leace(values: np.ndarray, labels: np.ndarray, covariance: str = "empirical", **options: Any) -> Projection:
    """Return the erasure of one labelling, its covariance with the values worked out here."""
    second = SecondMoments.of(values)
    onehot = np.unique(labels)[:, None] == labels
    onehot = onehot - onehot.mean(axis=1, keepdims=True)
    crossed = (onehot @ (values.astype(np.float64) - second.mean)).T / len(labels)
    shrinkage = ledoit_wolf(second) if covariance == "ledoit_wolf" else FIXED[covariance]
    return erasure(whitened(second, shrinkage, **options), crossed, float(np.sqrt(np.mean(onehot**2))))


def made(values: np.ndarray, labels: np.ndarray, concepts: int = 4) -> ActivationSet:
    """Return an activation set of these values."""
    moments = statistics_of(values, labels, concepts)
    names, ids = tuple(f"c{index}" for index in range(concepts)), tuple(map(str, range(len(labels))))
    return ActivationSet(Site(0), values, labels, names, ids, moments, "test")


def mixture(count: int = 400, neurons: int = 12, concepts: int = 4, seed: int = 0):
    """Return correlated activations whose means carry the concepts, and the labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % concepts
    values = random.normal(size=(count, neurons)) @ random.normal(size=(neurons, neurons))
    return (values + 5 * random.normal(size=(concepts, neurons))[labels] + 20).astype(np.float32), labels


def probe_accuracy(values: np.ndarray, labels: np.ndarray) -> float:
    scaled = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    return LogisticRegression(max_iter=2000).fit(scaled, labels).score(scaled, labels)


@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("one_concept", [True, False])
def test_after_leace_a_linear_probe_is_at_chance(covariance, one_concept):
    values, labels = mixture()
    labels = labels == 1 if one_concept else labels
    chance = np.bincount(labels).max() / len(labels)
    assert probe_accuracy(values, labels) > chance + 0.2  # there was something to find
    erased = leace(values, labels, covariance=covariance)(values)
    assert probe_accuracy(erased, labels) <= chance + 0.01
    # The stronger statement that makes it so for every linear probe: no neuron's mean differs between the labels.
    means = np.stack([erased[labels == label].mean(axis=0) for label in np.unique(labels)])
    assert means == pytest.approx(np.broadcast_to(values.astype(np.float64).mean(0), means.shape), abs=1e-6)


def test_leace_erases_one_concept_and_keeps_what_is_left_of_the_others():
    values, labels = mixture()
    erased = leace(values, labels == 0)(values)
    others = labels != 0
    assert probe_accuracy(erased[others], labels[others]) > 0.9


def test_leace_generalises_to_fresh_samples_where_an_unshrunk_covariance_is_estimable():
    values, labels = mixture(8000)
    held_out = slice(4000, None)
    projection = leace(values[:4000], labels[:4000] >= 2)
    erased = projection(values[held_out])
    assert probe_accuracy(values[held_out], labels[held_out] >= 2) > 0.8
    assert probe_accuracy(erased, labels[held_out] >= 2) < 0.55


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_leace_is_its_formula_with_scipys_matrix_root(covariance):
    values, labels = mixture()
    wide = values.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    estimate = {"shrunk": ShrunkCovariance(), "ledoit_wolf": LedoitWolf()}.get(covariance)
    sigma = estimate.fit(wide).covariance_ if estimate else np.cov(wide.T, ddof=0)
    onehot = np.eye(4)[labels] - np.eye(4)[labels].mean(axis=0)
    root = np.real(sqrtm(sigma))
    whitened = np.linalg.inv(root) @ centred.T @ onehot / len(wide)
    projector = root @ whitened @ np.linalg.pinv(whitened, rcond=1e-10) @ np.linalg.inv(root)
    projection = leace(values, labels, covariance=covariance)
    assert projection(wide) == pytest.approx(wide - centred @ projector.T, rel=1e-6, abs=1e-6)
    assert projection.read.shape == (3, 12)  # rank: one less than the labels
    assert projection.write @ projection.read.T == pytest.approx(np.eye(3), abs=1e-9)  # P is idempotent


def test_no_other_erasure_that_works_changes_less():
    values, labels = mixture()
    wide = values.astype(np.float64)
    cost = ((leace(values, labels == 1)(wide) - wide) ** 2).sum()
    blunt = DirectionalAblation().target(made(values, (labels == 1).astype(np.int64), 2), 1)
    direction = blunt.read[0]
    orthogonal = np.outer((wide - wide.mean(0)) @ direction, direction)
    left = wide - orthogonal  # the orthogonal projection about the mean erases as well, and costs more
    assert left[labels == 1].mean(0) == pytest.approx(left[labels != 1].mean(0))
    assert cost < 0.9 * (orthogonal**2).sum()


def test_singular_covariance_leaves_its_null_space_alone():
    values, labels = mixture(60)
    doubled = np.concatenate([values, values[:, :3], np.full((60, 1), 0.1, np.float32)], axis=1)
    projection = leace(doubled, labels)
    assert np.isfinite(projection.read).all()
    assert probe_accuracy(doubled, labels) > 0.6
    erased = projection(doubled)
    assert probe_accuracy(erased, labels) <= 0.26
    assert erased[:, 15] == pytest.approx(doubled[:, 15], abs=1e-9)
    assert erased[:, :3] == pytest.approx(erased[:, 12:15], abs=1e-6)
    wide = mixture(10, neurons=40)  # fewer samples than neurons: erased on the samples fitted, all the same
    means = leace(*wide)(wide[0])
    assert means[wide[1] == 0].mean(0) == pytest.approx(means[wide[1] == 1].mean(0), abs=1e-6)


def test_what_cannot_be_erased_is_the_identity_with_a_reason_or_an_error():
    values, labels = mixture(40)
    assert "nothing to erase" in leace(values, np.zeros(40, dtype=int)).reason
    mirrored = np.concatenate([values, values])
    nothing = leace(mirrored, np.repeat([0, 1], 40))
    assert "no neuron's mean differs" in nothing.reason
    assert np.array_equal(nothing(values), values)
    assert leace(values, labels).reason is None
    with pytest.raises(ActivationError, match="rank 0"):
        whitened(SecondMoments.of(np.full((5, 3), 0.1, dtype=np.float32)), 0.0)
    with pytest.raises(ActivationError, match="1 samples"):
        whitened(SecondMoments.of(values[:1]), 0.0)
    with pytest.raises(ActivationError, match="0 of the others"):
        Leace().target(made(values, np.zeros(40, dtype=int)), 0)
    with pytest.raises(ConfigError, match="tolerance"):
        whitened(SecondMoments.of(values), 0.0, tolerance=-1)


def test_the_edit_erases_one_concept_of_the_activations_it_is_given_and_whitens_them_once(monkeypatch):
    fits = []
    monkeypatch.setattr("neuronlens.edits.leace.whitened", _counted(whitened, fits))
    values, labels = mixture(60)
    first, second = made(values, labels), made(values + 1, labels)
    edit = Leace(covariance="shrunk")
    for activations, concept in ((first, 0), (first, 3), (second, 1), (second, 0)):
        expected = leace(activations.values, labels == concept, covariance="shrunk")
        assert edit.target(activations, concept)(values) == pytest.approx(expected(values), rel=1e-9)
    assert len(fits) == 2, "one for each set of activations"
    with pytest.raises(ConfigError, match="Did you mean 'ledoit_wolf'"):
        Leace(covariance="ledoit")


def _counted(function, calls):
    def counted(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return counted


def test_labels_may_bear_any_numbers_and_the_tolerance_drops_directions():
    values, labels = mixture()
    whole = leace(values, labels)(values)
    assert leace(values, np.array([7, -2, 4, 0])[labels])(values) == pytest.approx(whole)
    assert leace(values, labels == 1)(values) == pytest.approx(leace(values, labels != 1)(values))
    coarse = leace(values, labels, tolerance=0.5)
    assert not np.allclose(coarse(values), whole)


def test_directional_ablation_removes_the_component_through_the_origin():
    values, labels = mixture()
    activations = made(values, labels)
    wide = values.astype(np.float64)
    for concept in range(4):
        direction = wide[labels == concept].mean(0) - wide[labels != concept].mean(0)
        direction /= np.linalg.norm(direction)
        projection = DirectionalAblation().target(activations, concept)
        assert projection(wide) == pytest.approx(wide - np.outer(wide @ direction, direction), abs=1e-8)
        assert projection(wide) @ direction == pytest.approx(np.zeros(len(wide)), abs=1e-8)


def test_no_direction_is_the_identity_with_a_reason_and_no_samples_an_error():
    values, _ = mixture(10)
    mean = values[:2].astype(np.float64)
    mean[1] = mean[0] * (1 + 1e-14)  # apart by a rounding error, which is no direction
    statistics = ConceptStatistics(np.array([5, 5]), mean, np.ones_like(mean), np.abs(mean))
    found = DirectionalAblation().target(replace(made(values, np.arange(10) % 2, 2), statistics=statistics), 0)
    assert "coincide" in found.reason
    assert np.array_equal(found(values), values)
    with pytest.raises(ActivationError, match="0 of the others"):
        DirectionalAblation().target(made(values, np.zeros(10, dtype=int), 2), 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_batched_edit_is_its_formula_per_cell(dtype):
    values, labels = mixture(60)
    projections = [
        leace(values, labels),
        DirectionalAblation().target(made(values, labels), 2),
        identity(12, "for the test"),
        leace(values, labels == 1),
        leace(values, labels),
    ]
    strengths = [1.0, 0.5, 1.0, 1.5, 0.0]
    edit = ProjectionEdit.of(projections, strengths).to("cpu")
    hidden = torch.from_numpy(values).view(1, 20, 3, 12).to(dtype)
    mask = torch.rand(20, 3) < 0.7
    allowed = torch.rand(5, 20, 3) < 0.7
    result = edit(hidden, mask, allowed=allowed)
    assert result.dtype == dtype
    precision = max(torch.finfo(dtype).eps, 1e-6)
    wide = hidden.double().numpy()[0]
    for cell, (projection, strength) in enumerate(zip(projections, strengths, strict=True)):
        changed = wide + strength * (projection(wide.reshape(60, 12)).reshape(20, 3, 12) - wide)
        expected = np.where((mask & allowed[cell]).numpy()[..., None], changed, wide)
        assert result[cell].double().numpy() == pytest.approx(expected, abs=200 * precision)
    untouched = ~(mask & allowed)
    untouched[[2, 4]] = True
    spread = hidden.expand(5, -1, -1, -1)
    assert torch.equal(result[untouched].view(torch.uint8), spread[untouched].view(torch.uint8))
    assert not torch.equal(result[0], hidden[0])
    free = edit(hidden)
    assert torch.equal(result, torch.where((mask & allowed)[..., None], free, hidden))
    per_cell = edit(hidden.expand(5, -1, -1, -1))
    assert torch.equal(per_cell, free)


@settings(deadline=None, max_examples=100)
@given(
    arrays(np.float32, (1, 2, 2, 12), elements=st.floats(-(2.0**100), 2.0**100, width=32) | st.just(-0.0)),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.floats(0, 1, width=32),
)
def test_finite_in_finite_out_and_strength_0_keeps_every_bit(array, dtype, strength):
    values, labels = mixture(60)
    projections = [leace(values, labels), DirectionalAblation().target(made(values, labels), 0)]
    limit = torch.finfo(dtype).max
    hidden = torch.from_numpy(array).clamp(-limit, limit).to(dtype)
    before = hidden.clone()
    result = ProjectionEdit.of(projections, [strength, 0.0])(hidden)
    assert torch.isfinite(result).all()
    assert torch.equal(hidden.view(torch.uint8), before.view(torch.uint8))
    assert torch.equal(result[1].view(torch.uint8), hidden[0].view(torch.uint8))


def test_what_is_left_alone_keeps_its_bits_even_where_the_sums_overflow():
    values, labels = mixture(60)
    edit = ProjectionEdit.of([leace(values, labels), identity(12, "for the test")], [0.0, 1.0])
    hidden = torch.full((1, 1, 2, 12), 3e38)
    hidden[0, 0, 1, 3] = torch.inf
    hidden[0, 0, 1, 4] = -0.0
    assert torch.equal(edit(hidden).view(torch.int32), hidden.expand(2, -1, -1, -1).view(torch.int32))


def test_batches_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="0 projections"):
        ProjectionEdit.of([], [])
    with pytest.raises(ShapeError, match=r"\[2, 3\] neurons"):
        ProjectionEdit.of([identity(2, "a"), identity(3, "b")], [1.0, 1.0])
    with pytest.raises(ShapeError, match="1 strengths"):
        ProjectionEdit.of([identity(2, "a"), identity(2, "b")], [1.0])
    edit = ProjectionEdit.of([identity(2, "a")], [1.0])
    with pytest.raises(ShapeError, match="1 cells and 2 neurons"):
        edit(torch.zeros(1, 1, 1, 3))
