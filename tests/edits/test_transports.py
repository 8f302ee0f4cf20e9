"""Every target against its formula, and what it does to the samples it was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from neuronlens.edits import transports
from neuronlens.edits.contrast import missing_samples
from neuronlens.edits.dampening import Aura
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.transports import GaussianTransport, LinearTransport, MeanShift
from neuronlens.errors import ActivationError
from neuronlens.records import ActivationSet

CONTRASTS = {
    "mean_shift": MeanShift(),
    "gaussian_transport": GaussianTransport(),
    "linear_transport": LinearTransport(),
    "aura": Aura(),
}


def numbers(edit: Any, activations: ActivationSet, concept: int) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and shift of an edit's target, which is the same in every interval."""
    target = edit.target(activations, concept)
    assert not target.by_distance
    return target.scale, target.shift


def sides(activations: ActivationSet, concept: int):
    wide = activations.values.astype(np.float64)
    return wide[activations.labels == concept], wide[activations.labels != concept]


@pytest.mark.parametrize("concept", [0, 1, 2])
def test_mean_shift_and_gaussian_transport_are_their_formulas(skewed, concept):
    here, there = sides(skewed, concept)
    scale, shift = numbers(MeanShift(), skewed, concept)
    assert here * scale + shift == pytest.approx(here - (here.mean(0) - there.mean(0)), rel=1e-9)
    scale, shift = numbers(GaussianTransport(), skewed, concept)
    expected = there.std(0)[:4] / here.std(0)[:4] * (here - here.mean(0))[:, :4] + there.mean(0)[:4]
    assert (here * scale + shift)[:, :4] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert (scale[4], shift[4]) == (1, 0)


def test_a_deviation_below_the_floor_on_either_side_is_the_identity(make_activations):
    labels = np.repeat([0, 1], 10)
    wave = np.tile([-1.0, 1.0], 5)
    values = np.stack(
        [np.r_[wave * 9e-5, wave], np.r_[wave, wave * 9e-5], np.r_[wave * 1.1e-4, wave], np.r_[wave, wave * 1.1e-4]], 1
    )
    activations = make_activations(values, labels, 2)
    scale, shift = numbers(GaussianTransport(), activations, 0)
    assert scale[:2].tolist() == [1, 1]
    assert shift[:2].tolist() == [0, 0]
    assert scale[2:] == pytest.approx([1 / 1.1e-4, 1.1e-4], rel=1e-5)
    # The linear map has no division by the target's deviation: only a constant source is left alone.
    assert numbers(LinearTransport(), activations, 0)[0] == pytest.approx([1, 9e-5, 1 / 1.1e-4, 1.1e-4], rel=1e-5)


def test_linear_transport_is_least_squares_on_sorted_pairs_for_equal_counts(make_activations):
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    activations = make_activations(random.gamma(1.5, size=(60, 4)) + labels[:, None], labels, 2)
    scale, shift = numbers(LinearTransport(), activations, 0)
    here, there = (np.sort(side, axis=0) for side in sides(activations, 0))
    for neuron in range(4):
        fit = LinearRegression().fit(here[:, [neuron]], there[:, neuron])
        assert scale[neuron] == pytest.approx(fit.coef_[0], rel=1e-9)
        assert shift[neuron] == pytest.approx(fit.intercept_, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("concept", [0, 1, 2])
def test_linear_transport_of_unequal_counts_is_least_squares_on_repeated_samples(skewed, concept, monkeypatch):
    scale, shift = numbers(LinearTransport(), skewed, concept)
    here, there = sides(skewed, concept)
    # Every sample repeated until both sides have the same number is the same coupling, made of equal pieces.
    paired = [np.sort(side, 0).repeat(np.lcm(len(here), len(there)) // len(side), axis=0) for side in (here, there)]
    for neuron in range(4):
        fit = LinearRegression().fit(paired[0][:, [neuron]], paired[1][:, neuron])
        assert scale[neuron] == pytest.approx(fit.coef_[0], rel=1e-9)
        assert shift[neuron] == pytest.approx(fit.intercept_, rel=1e-9, abs=1e-9)
    assert (scale[4], shift[4]) == (1, 0)
    monkeypatch.setattr(transports, "CHUNK_VALUES", 300)  # one neuron at a time
    assert numbers(LinearTransport(), skewed, concept)[0] == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("edit", ["mean_shift", "gaussian_transport", "linear_transport"])
@pytest.mark.parametrize("concept", [0, 2])
def test_transports_move_fresh_samples_to_the_others_moments(make_activations, edit, concept):
    random = np.random.default_rng(11)
    centre, spread = np.array([[-2.0], [0.0], [3.0]]), np.array([[0.5], [1.0], [2.0]])

    def draw(count: int):
        labels = np.repeat([0, 1, 2], count)
        return make_activations(random.normal(size=(3 * count, 6)) * spread[labels] + centre[labels], labels, 3)

    scale, shift = numbers(CONTRASTS[edit], draw(2000), concept)
    here, there = sides(draw(2000), concept)
    moved = here * scale + shift
    # Five standard errors of both samples' means, and a generous one of their deviations.
    error = 5 * np.sqrt((moved.var(0) + there.var(0)) / 2000)
    assert (abs(here.mean(0) - there.mean(0)) > 3 * error).all()  # there was a distance to go
    assert (abs(moved.mean(0) - there.mean(0)) < error).all()
    if edit == "gaussian_transport":
        assert moved.std(0) == pytest.approx(there.std(0), rel=0.1)
    elif edit == "mean_shift":
        assert moved.std(0) == pytest.approx(here.std(0), rel=1e-9)
    else:  # least squares on two laws of different shape falls short of the deviation, by their correlation
        assert (moved.std(0) < there.std(0) * 1.05).all()
        assert (moved.std(0) > there.std(0) * 0.85).all()


@pytest.mark.parametrize("edit", CONTRASTS)
def test_no_samples_on_either_side_is_an_error_with_the_counts(make_activations, edit):
    one_sided = make_activations(np.random.default_rng(0).normal(size=(6, 3)), np.ones(6, dtype=int), 3)
    for concept, text in ((1, "6 samples of the concept and 0 of the others"), (0, "0 samples of the concept")):
        assert text in missing_samples(one_sided.statistics, concept)
        with pytest.raises(ActivationError, match=text):
            numbers(CONTRASTS[edit], one_sided, concept)


@pytest.mark.parametrize("edit", CONTRASTS)
@pytest.mark.parametrize("size", [1e-30, 1e-4, 1.0, 1e30])
def test_targets_are_finite_and_edit_finitely_whatever_the_activations_size(make_activations, edit, size):
    random = np.random.default_rng(5)
    labels = np.array([0, 1, 1, 2, 2, 2])
    values = random.normal(size=(6, 4)) * size
    values[:, 0] = size
    activations = make_activations(values, labels, 3)
    for concept in range(3):
        scale, shift = numbers(CONTRASTS[edit], activations, concept)
        assert np.isfinite(scale).all()
        assert np.isfinite(shift).all()
        bound = torch.full((1, 1, 4), torch.inf)
        parts = (torch.from_numpy(number.astype(np.float32))[None] for number in (scale, shift))
        result = GatedEdit(-bound, bound, *parts, torch.ones(1))(torch.from_numpy(activations.values)[None, :, None])
        assert torch.isfinite(result).all()
        expected = activations.values * scale + shift
        assert result[0, :, 0].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5 * size)
