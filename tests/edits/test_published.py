"""Published edits that mix neurons, each against its formula written here with other functions than the package's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import null_space, orth, sqrtm
from sklearn.covariance import LedoitWolf

from neuronlens.config.compose import compose
from neuronlens.config.plan import grid
from neuronlens.edits.alphasteer import AlphaSteer
from neuronlens.edits.base import Projection
from neuronlens.edits.leace import Leace
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.edits.projections import DirectionalAblation, MeanProjection
from neuronlens.edits.qleace import Qleace, gaussian_map
from neuronlens.edits.splince import Splince
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.records import ActivationSet


def drawn(make_activations, count: int = 400, neurons: int = 12, concepts: int = 5, seed: int = 0) -> ActivationSet:
    """Return correlated activations whose means carry the concepts, float32."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % concepts)
    values = random.normal(size=(count, neurons)) @ random.normal(size=(neurons, neurons))
    values = values + 5 * random.normal(size=(concepts, neurons))[labels] + 20
    return make_activations(values.astype(np.float32), labels, concepts)


def means(values: np.ndarray, labels: np.ndarray, concepts: int) -> np.ndarray:
    return np.stack([values[labels == concept].mean(axis=0) for concept in range(concepts)])


@pytest.mark.parametrize("covariance", ["empirical", "shrunk", "ledoit_wolf"])
def test_splince_erases_the_concept_and_keeps_the_others_mean_differences(make_activations, covariance):
    found = drawn(make_activations)
    wide, member = found.values.astype(np.float64), found.labels == 2
    others = [0, 1, 3, 4]
    before = means(wide, found.labels, 5)[others]

    def kept(edited: np.ndarray) -> float:
        """Return the largest change of a difference between two other concepts' means, relative to the differences."""
        after = means(edited, found.labels, 5)[others]
        change = (after[:, None] - after[None]) - (before[:, None] - before[None])
        return float(np.abs(change).max() / np.abs(before[:, None] - before[None]).max())

    edited = Splince(covariance=covariance).target(found, 2)(wide)
    erased = np.abs((edited - edited.mean(0)).T @ (member - member.mean()) / len(wide)).max()
    assert erased < 1e-6
    assert kept(edited) < 1e-6
    plain = Leace(covariance=covariance).target(found, 2)(wide)
    assert kept(plain) > 1e-3, "the control: LEACE moves the others"


def test_splince_is_its_formula_with_scipys_functions(make_activations):
    found = drawn(make_activations, seed=1)
    wide, member = found.values.astype(np.float64), found.labels == 1
    sigma = LedoitWolf().fit(wide).covariance_
    root = np.real(sqrtm(sigma))
    whitening = np.linalg.inv(root)
    unit = whitening @ (wide - wide.mean(0)).T @ (member - member.mean())
    unit /= np.linalg.norm(unit)
    others = means(wide, found.labels, 5)[[0, 2, 3, 4]] - wide[~member].mean(0)
    basis = orth((others @ whitening).T, rcond=1e-8)
    assert basis.shape[1] == 3
    quiet = np.eye(12) - basis @ basis.T
    reading = (unit @ quiet @ whitening) / (unit @ quiet @ unit)
    expected = wide - np.outer((wide - wide.mean(0)) @ reading, root @ unit)
    projection = Splince().target(found, 1)
    assert projection(wide) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert projection.read.shape == (1, 12)


def test_splince_of_two_concepts_is_leace_and_without_room_it_says_so(make_activations):
    two = drawn(make_activations, concepts=2)
    wide = two.values.astype(np.float64)
    assert Splince().target(two, 0)(wide) == pytest.approx(Leace().target(two, 0)(wide), abs=1e-8)
    cramped = drawn(make_activations, neurons=3, concepts=5)  # four means span three neurons
    found = Splince().target(cramped, 0)
    assert "span" in str(found.reason)
    assert np.array_equal(found(cramped.values), cramped.values)
    with pytest.raises(ConfigError, match="ledoit_wolf"):
        Splince(covariance="ledoit")


def test_mean_projection_makes_the_means_equal_and_ablation_takes_away_as_much_more_for_everyone(make_activations):
    found = drawn(make_activations)
    wide, member = found.values.astype(np.float64), found.labels == 3
    projection, ablation = MeanProjection().target(found, 3), DirectionalAblation().target(found, 3)
    edited = projection(wide)
    direction = wide[member].mean(0) - wide[~member].mean(0)
    direction /= np.linalg.norm(direction)
    plane = null_space(direction[None])  # what is orthogonal to the direction stays, and the rest is the mean's
    assert edited @ plane == pytest.approx(wide @ plane, abs=1e-8)
    assert edited @ direction == pytest.approx(np.full(len(wide), wide.mean(0) @ direction), abs=1e-8)
    assert edited[member].mean(0) == pytest.approx(edited[~member].mean(0), abs=1e-8)
    apart = edited - ablation(wide)
    assert apart == pytest.approx(np.broadcast_to(apart[0], apart.shape), abs=1e-8)


def test_alphasteer_is_ridge_regression_on_the_null_space(make_activations):
    found = drawn(make_activations, seed=2)
    wide, member = found.values.astype(np.float64), found.labels == 0
    own, benign = wide[member], wide[~member]
    directions = np.linalg.svd(benign)[2][-6:]  # the least singular ones, half of twelve
    projector = directions.T @ directions
    move = np.tile(benign.mean(0) - own.mean(0), (len(own), 1))
    reached = own @ projector
    # The ridge as rows of data: sqrt(10) P Delta = 0, and the least-norm solution of least squares.
    rows = np.concatenate([reached, np.sqrt(10.0) * projector])
    delta = np.linalg.lstsq(rows, np.concatenate([move, np.zeros((12, 12))]), rcond=1e-9)[0]
    edited = AlphaSteer(null_share=0.5, ridge=10.0).target(found, 0)(wide)
    assert edited == pytest.approx(wide + wide @ projector @ delta, rel=1e-6, abs=1e-6)
    assert np.abs(edited[member] - own).mean() > 3 * np.abs(edited[~member] - benign).mean()
    assert not np.allclose(edited, AlphaSteer(null_share=0.25).target(found, 0)(wide))
    assert not np.allclose(edited, AlphaSteer(ridge=1000.0).target(found, 0)(wide))


def test_alphasteer_leaves_few_benign_samples_alone_and_refuses_no_direction(make_activations):
    found = drawn(make_activations, count=40, neurons=80, concepts=2)  # 20 benign samples span 20 of 80 directions
    wide = found.values.astype(np.float64)
    edited = AlphaSteer(null_share=0.5).target(found, 0)(wide)
    assert edited[found.labels == 1] == pytest.approx(wide[found.labels == 1], abs=1e-6)
    assert np.abs(edited - wide)[found.labels == 0].mean() > 0.1
    with pytest.raises(ActivationError, match="keeps no direction"):
        AlphaSteer(null_share=0.01).target(found, 0)


def test_qleace_carries_the_concept_to_the_barycentre(make_activations):
    found = drawn(make_activations, count=3000, neurons=4, concepts=3)
    wide, member = found.values.astype(np.float64), found.labels == 1
    share = member.mean()
    sigma, rest = np.cov(wide[member].T, ddof=0), np.cov(wide[~member].T, ddof=0)
    root = np.real(sqrtm(sigma))
    between = np.linalg.inv(root) @ np.real(sqrtm(root @ rest @ root)) @ np.linalg.inv(root)
    half = share * np.eye(4) + (1 - share) * between
    expected = (wide - wide[member].mean(0)) @ half.T + wide.mean(0)
    edited = Qleace(covariance="empirical").target(found, 1)(wide)
    assert edited == pytest.approx(expected, rel=1e-6, abs=1e-6)
    # The barycentre's covariance is the fixed point that Agueh & Carlier 2011 give: sum_k p_k (B^.5 S_k B^.5)^.5 = B.
    centre = np.cov(edited[member].T, ddof=0)
    turn = np.real(sqrtm(centre))
    mixed = share * np.real(sqrtm(turn @ sigma @ turn)) + (1 - share) * np.real(sqrtm(turn @ rest @ turn))
    assert mixed == pytest.approx(centre, rel=1e-5, abs=1e-5)
    assert edited[member].mean(0) == pytest.approx(wide.mean(0), abs=1e-8)


def test_qleace_leaves_directions_without_variance_alone_and_needs_two_samples_of_each(make_activations):
    assert gaussian_map(np.diag([4.0, 0.0]), np.diag([1.0, 1.0])) == pytest.approx(np.diag([0.5, 1.0]))
    with pytest.raises(ActivationError, match="rank 0"):
        gaussian_map(np.zeros((2, 2)), np.eye(2))
    few = make_activations(
        np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.array([0, 1, 1, 1, 1]), 2
    )
    with pytest.raises(ActivationError, match="at least 2"):
        Qleace().target(few, 0)


def test_qleace_without_a_gate_that_detects_is_refused_by_the_config_alone():
    with pytest.raises(ConfigError, match=r"'qleace' is right for the concept's samples alone.*intervention\.gate="):
        grid(compose(["sweep.edit=[qleace]", "sweep.gate=[neuron]"]))
    cells = grid(compose(["sweep.edit=[qleace,zero]", "sweep.gate=[neuron,joint]"]))
    assert {cell.gate for cell in cells if cell.edit == "qleace"} == {"joint"}
    assert {cell.gate for cell in cells if cell.edit == "zero"} == {"joint", "neuron"}


def test_a_batch_makes_the_maps_that_were_fitted_at_any_strength_and_leaves_the_rest_alone(make_activations):
    found = drawn(make_activations)
    edits = (Splince(), MeanProjection(), AlphaSteer(), Qleace(), Leace())
    targets = [edit.target(found, 1) for edit in edits]
    strengths = [1.0, 0.5, 2.0, 1.5, 0.0]
    batches = [ProjectionEdit.of([one], [s]) for one, s in zip(targets, strengths, strict=True)]
    hidden = torch.from_numpy(found.values[:20]).view(1, 5, 4, 12)
    mask = torch.ones(5, 4, dtype=torch.bool)
    mask[:, 0] = False
    for batch in (ProjectionEdit.of(targets, strengths), ProjectionEdit.stack(batches)):
        edited = batch(hidden, mask)
        for place, (target, strength) in enumerate(zip(targets, strengths, strict=True)):
            wide = hidden[0].double().numpy()
            moved = target(wide.reshape(20, 12)).reshape(5, 4, 12)
            expected = np.where(mask[..., None], wide + strength * (moved - wide), wide)
            assert edited[place].numpy() == pytest.approx(expected, rel=1e-3, abs=2e-3)
        assert torch.equal(edited[:, :, 0], hidden[:, :, 0].expand(5, -1, -1))
        assert torch.equal(edited[4], hidden[0])
    pure = replace(Projection(np.zeros(12), np.zeros((0, 12)), np.zeros((0, 12))), shift=np.ones(12))
    assert torch.allclose(ProjectionEdit.of([pure], [2.0])(hidden, mask)[0, :, 1:], hidden[0, :, 1:] + 2)
