"""The discriminant gate against NumPy's own formula, its thresholds, and LEACE behind it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from neuronlens.config.compose import compose
from neuronlens.config.plan import grid
from neuronlens.config.schema import Config
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.detected import DetectedEdit
from neuronlens.edits.fitting import Fitted, other_concept
from neuronlens.edits.gates.base import Evidence
from neuronlens.edits.gates.discriminant import THETAS, DiscriminantGate
from neuronlens.edits.gates.joint import best_threshold
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.records import ActivationSet, Knobs
from neuronlens.saliency.max import MaxSaliency

NEURONS = 6
LEACE = Knobs(gate="neuron", edit="leace", strength=1.0)
BEHIND = replace(LEACE, gate="discriminant")


@pytest.fixture(scope="module")
def splits(make_activations) -> tuple[ActivationSet, ActivationSet]:
    """Fit and select: three concepts of correlated neurons, means far from 0."""
    generator = np.random.default_rng(5)
    mixing, means = generator.normal(size=(NEURONS, NEURONS)), generator.normal(size=(3, NEURONS))

    def split(samples: int) -> ActivationSet:
        labels = generator.permutation(np.arange(samples) % 3)
        return make_activations(means[labels] + generator.normal(size=(samples, NEURONS)) @ mixing / 2 + 20, labels, 3)

    return split(300), split(150)


@pytest.fixture(scope="module")
def hidden(splits: tuple[ActivationSet, ActivationSet]) -> torch.Tensor:
    """States `[1, sample, position, neuron]` like those that were fitted on."""
    return torch.from_numpy(splits[0].values[:240]).view(1, 60, 4, NEURONS)


def by_hand(activations: ActivationSet, concept: int) -> tuple[np.ndarray, np.ndarray]:
    """Return z of the activations and delta, from the covariance as it is."""
    wide, own = activations.values.astype(np.float64), activations.labels == concept
    delta = wide[own].mean(0) - wide[~own].mean(0)
    towards = np.linalg.inv(np.cov(wide.T, ddof=0)) @ delta
    return (wide - wide.mean(0)) @ towards / (delta @ towards), delta


def opened(gate: DiscriminantGate, splits: tuple[ActivationSet, ActivationSet], concept: int) -> np.ndarray:
    """Return where the gate is open on the fit split."""
    fit, select = splits
    score = gate.opening(Evidence(fit, concept, np.ones(NEURONS, dtype=bool), select=select))
    found = score(fit.values)
    return (found > 0) & (found <= score.ceiling)


def builder_of(splits: tuple[ActivationSet, ActivationSet], overrides: list[str] | None = None) -> EditBuilder:
    """Return a builder on the two splits."""
    config = compose([*overrides, "sweep.gate=[discriminant,neuron]"]) if overrides else Config()
    fits = {"none": Fitted(splits[0], {"max": MaxSaliency().rank(splits[0])}, {})}
    return EditBuilder(config, fits, select=splits[1])


@pytest.mark.parametrize("concept", range(3))
def test_the_coordinate_is_the_formula_and_scikit_learns_direction(splits, concept: int) -> None:
    fit = splits[0]
    z = DiscriminantGate(covariance="empirical").coordinate(fit, concept)
    expected, delta = by_hand(fit, concept)
    np.testing.assert_allclose(z(fit.values), expected, rtol=1e-6, atol=1e-8)
    assert z.linear @ delta == pytest.approx(1), "a step along delta is a step of 1"
    lda = LinearDiscriminantAnalysis(solver="eigen").fit(fit.values, fit.labels == concept)
    cosine = lda.coef_[0] @ z.linear / np.linalg.norm(lda.coef_) / np.linalg.norm(z.linear)
    assert cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("theta", THETAS)
def test_every_rule_opens_where_its_own_sentence_says(splits, theta: str) -> None:
    fit, select = splits
    gate = DiscriminantGate(theta=theta, tau=1.5, alpha=0.1, covariance="empirical")
    z, _ = by_hand(fit, 1)
    member = fit.labels == 1
    chosen = gate.coordinate(fit, 1)(select.values)
    others = select.labels != 1
    low = {
        "youden": best_threshold(chosen, ~others),
        "tau": z[member].mean() - 1.5 * z[member].std(),
        "false_alarm": np.quantile(chosen[others], 0.9),
        "zero": 0.0,
        "two_sided": z[member].mean() - 1.5 * z[member].std(),
    }[theta]
    high = z[member].mean() + 1.5 * z[member].std() if theta == "two_sided" else np.inf
    found = opened(gate, splits, 1)
    np.testing.assert_array_equal(found, (z > low) & (z <= high))
    assert found[member].mean() > found[~member].mean() + 0.2, "the positive control"
    if theta == "false_alarm":
        assert (chosen[others] > low).mean() == pytest.approx(0.1, abs=0.01)


def test_theta_minus_infinity_is_leace_bit_by_bit(splits, hidden: torch.Tensor) -> None:
    builder = builder_of(splits, ["++gate.discriminant.theta=tau", "++gate.discriminant.tau=inf"])
    cells = [(replace(BEHIND, strength=strength), concept) for strength in (1.0, 4.0) for concept in range(3)]
    gated = builder.batch(cells)
    assert isinstance(gated, DetectedEdit)
    plain = builder.batch([(replace(knobs, gate="neuron"), concept) for knobs, concept in cells])
    assert torch.equal(gated(hidden), plain(hidden))
    assert not torch.equal(gated(hidden), hidden.expand(6, -1, -1, -1))


def test_leace_behind_the_gate_is_its_formula_and_leaves_the_rest_its_bits(splits, hidden: torch.Tensor) -> None:
    builder = builder_of(splits, ["++gate.discriminant.theta=zero", "intervention.covariance=empirical"])
    mask = torch.ones(60, 4, dtype=torch.bool)
    mask[:7, 2:] = False
    found = builder.batch([(replace(BEHIND, strength=3.0), 2)])(hidden, mask)[0]
    z, delta = by_hand(splits[0], 2)
    z = torch.from_numpy(z[:240]).view(60, 4)
    moved = (z > 0) & mask
    expected = hidden[0].double() - 3 * z[..., None] * torch.from_numpy(delta)
    torch.testing.assert_close(found[moved].double(), expected[moved], rtol=1e-5, atol=1e-4)
    assert torch.equal(found[~moved], hidden[0][~moved]), "closed positions and padding keep their bits"
    assert moved.any()
    assert (mask & ~moved).any()


def test_strength_0_is_the_identity_and_single_hidden_states_decide_as_shared_ones(splits, hidden) -> None:
    builder = builder_of(splits)
    cells = [(replace(BEHIND, strength=strength), 0) for strength in (0.0, 2.0)]
    batch = builder.batch(cells)
    found = batch(hidden)
    assert torch.equal(found[0].view(torch.int32), hidden[0].view(torch.int32))
    assert not torch.equal(found[1], hidden[0])
    torch.testing.assert_close(batch(hidden.expand(2, -1, -1, -1)), found)


@pytest.mark.parametrize("edit", ["zero", "complement_mean", "gaussian_transport", "directional_ablation"])
def test_the_gate_stands_in_front_of_every_edit(splits, hidden: torch.Tensor, edit: str) -> None:
    builder = builder_of(splits)
    knobs = replace(BEHIND, edit=edit, saliency="max", top_fraction=0.5)
    found = builder.batch([(knobs, 1)])(hidden)[0]
    whole = builder.batch([(replace(knobs, gate="neuron"), 1)])(hidden)[0]
    z = DiscriminantGate().opening(Evidence(splits[0], 1, np.ones(NEURONS, dtype=bool), select=splits[1]))
    inside = torch.from_numpy(z(splits[0].values[:240]) > 0).view(60, 4)
    assert torch.equal(found, torch.where(inside[..., None], whole, hidden[0]))
    assert 0 < inside.float().mean() < 1


def test_another_concepts_coordinate_and_a_random_direction_change_what_they_say_alone(splits, hidden) -> None:
    builder = builder_of(splits)
    plain, other, random = (
        builder.batch([(replace(BEHIND, control=control), 0)])
        for control in (None, "other_concept", "random_direction")
    )
    theirs = other_concept(builder.concepts, 0, 0)
    assert torch.equal(other.detector.linear, builder.batch([(BEHIND, theirs)]).detector.linear)
    assert torch.equal(other.edit.write, plain.edit.write)
    assert torch.equal(random.detector.linear, plain.detector.linear)
    assert torch.equal(random.edit.read, plain.edit.read)
    torch.testing.assert_close(random.edit.write.norm(), plain.edit.write.norm())
    cosine = torch.cosine_similarity(random.edit.write[0], plain.edit.write[0])
    assert abs(float(cosine)) < 0.99
    again = builder_of(splits).batch([(replace(BEHIND, control="random_direction"), 0)])
    assert torch.equal(again.edit.write, random.edit.write)


def test_what_gives_no_coordinate_is_skipped_with_a_reason(splits, make_activations) -> None:
    fit, select = splits
    alone = EditBuilder(Config(), {"none": Fitted(fit, {}, {})})
    assert "select split" in str(alone.skip_reason((BEHIND, 0)))
    one = replace(select, labels=np.zeros_like(select.labels))
    assert "all or in none" in str(EditBuilder(Config(), alone.fits, select=one).skip_reason((BEHIND, 0)))
    same = make_activations(np.tile(fit.values[:30], (2, 1)), np.repeat([0, 1], 30), 2)
    with pytest.raises(ActivationError, match="no coordinate"):
        DiscriminantGate().coordinate(same, 0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["++gate.discriminant.theta=yuden"], "Did you mean '?youden"),
        (["++gate.discriminant.theta=two_sided"], "tau is 0.0, expected a number above 0"),
        (["++gate.discriminant.alpha=1"], "alpha"),
        (["++gate.discriminant.covariance=lw"], "covariance"),
        (["dataset.samples_per_concept.select=0"], "select split"),
        (
            [
                "++gate.discriminant.theta=zero",
                "intervention.covariance=selected",
                "dataset.samples_per_concept.select=0",
            ],
            "select split",
        ),
    ],
)
def test_bad_settings_are_refused_before_anything_is_loaded(overrides: list[str], message: str) -> None:
    shared: list[str] = ["sweep=single", "intervention.gate=discriminant", "intervention.edit=leace"]
    with pytest.raises(ConfigError, match=message):
        compose([*shared, *overrides])


def test_rules_enter_cells_and_fingerprints_by_themselves() -> None:
    found: set[Any] = set()
    for settings in ([], ["theta=zero"], ["theta=tau"], ["theta=tau", "tau=1"], ["alpha=0.1"]):
        overrides = [f"++gate.discriminant.{setting}" for setting in settings]
        shared = ["sweep=single", "intervention.gate=discriminant", "intervention.edit=zero"]
        (knobs,) = grid(compose([*shared, *overrides]))
        assert all(setting.split("=")[0] in str(knobs.parameters) for setting in settings)
        found.add((knobs.parameters, knobs.made_of))
    assert len(found) == 5
    compose(["sweep=single", "intervention.gate=discriminant", "++gate.discriminant.theta=zero",
             "dataset.samples_per_concept.select=0"])  # fmt: skip
