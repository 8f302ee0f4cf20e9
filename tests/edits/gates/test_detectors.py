"""Gates that detect a concept, each against scikit-learn or a loop from its definition, and how they stand before an edit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from neuronlens.edits.base import Projection
from neuronlens.edits.decided import DecidedEdit, stacked
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.gates.base import Evidence
from neuronlens.edits.gates.cast import CastGate, best_f1, condition_direction
from neuronlens.edits.gates.decisions import Cosine, LogOdds, Quadratic
from neuronlens.edits.gates.dsas import DsasGate
from neuronlens.edits.gates.joint import JointGate, best_threshold
from neuronlens.edits.gates.lda import LdaGate
from neuronlens.edits.gates.logistic import LogisticGate
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.errors import ActivationError, ConfigError, ShapeError
from neuronlens.hooks.tokens import Tokens


@pytest.fixture(scope="module")
def evidence(make_activations) -> Evidence:
    """Three concepts in six correlated neurons, a fit split of 150 samples and a select split of 90."""
    random = np.random.default_rng(0)
    turn, means = random.normal(size=(6, 6)), 2 * random.normal(size=(3, 6))

    def drawn(count: int) -> Any:
        labels = random.permutation(np.arange(count) % 3)
        values = random.normal(size=(count, 6)) @ turn + means[labels] + 1
        return make_activations(values.astype(np.float32), labels, 3)

    fit, select = drawn(150), drawn(90)
    return Evidence(fit, 1, np.ones(6, dtype=bool), None, select)


def opened(decision: Any, evidence: Evidence) -> np.ndarray:
    return decision.scores(evidence.select.values) > 0


@pytest.mark.parametrize("covariance", ["empirical", "shrunk", "ledoit_wolf"])
def test_lda_is_scikit_learns_posterior_past_the_best_threshold(evidence, covariance):
    fit, select = evidence.activations, evidence.select
    wide = fit.values.astype(np.float64)
    shrinkage = {"empirical": None, "shrunk": 0.1}
    if covariance in shrinkage:
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage[covariance]).fit(wide, fit.labels)
        log_p = model.predict_log_proba(select.values.astype(np.float64))
    else:
        centres = np.stack([wide[fit.labels == c].mean(0) for c in range(3)])
        precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(wide - centres[fit.labels]).covariance_)
        apart = select.values[:, None].astype(np.float64) - centres
        log_p = -np.einsum("scn,nm,scm->sc", apart, precision, apart) / 2  # three concepts of equal size
        log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    odds = log_p[:, 1] - np.logaddexp(log_p[:, 0], log_p[:, 2])
    expected = odds - best_threshold(odds, select.labels == 1)
    found = LdaGate(covariance=covariance).opening(evidence)
    np.testing.assert_allclose(found.scores(select.values), expected, rtol=1e-4, atol=1e-4)
    assert found.over is None
    assert LdaGate(grain="sample").opening(evidence).over == "so_far"
    open_at = opened(found, evidence)
    assert open_at[select.labels == 1].mean() > 0.5 + open_at[select.labels != 1].mean(), "the positive control"


def test_logistic_minimises_the_balanced_penalised_loss(evidence):
    fit = evidence.activations
    wide, member = fit.values.astype(np.float64), fit.labels == 1
    scaled = (wide - wide.mean(0)) / wide.std(0)
    share = np.where(member, 0.5 / member.mean(), 0.5 / (~member).mean())
    sign = np.where(member, 1.0, -1.0)

    def loss(theta: np.ndarray) -> float:
        return float(
            theta[:-1] @ theta[:-1] / 2 + 0.1 * share @ np.logaddexp(0, -sign * (scaled @ theta[:-1] + theta[-1]))
        )

    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-9}).x
    fresh = (evidence.select.values.astype(np.float64) - wide.mean(0)) / wide.std(0)
    odds = fresh @ best[:-1] + best[-1]
    score = LogisticGate(c=0.1).opening(evidence)
    expected = odds - best_threshold(odds, evidence.select.labels == 1)
    np.testing.assert_allclose(score(evidence.select.values), expected, atol=2e-3)
    of_samples = LogisticGate(c=0.1, grain="sample").opening(evidence)
    np.testing.assert_allclose(of_samples.scores(evidence.select.values), score(evidence.select.values))
    assert not np.allclose(LogisticGate(c=0.001).opening(evidence)(evidence.select.values), expected, atol=0.1)


def test_dsas_is_open_by_the_probability_of_a_pipeline(evidence):
    fit = evidence.activations
    for components in (2, 32):
        pipeline = make_pipeline(PCA(min(components, 6)), LogisticRegression(C=1.0, max_iter=2000))
        pipeline.fit(fit.values.astype(np.float64), fit.labels == 1)
        decision = DsasGate(components=components).opening(evidence)
        hidden = torch.from_numpy(evidence.select.values).view(30, 3, 6)
        share = pipeline.predict_proba(evidence.select.values.astype(np.float64))[:, 1].reshape(30, 3)
        np.testing.assert_allclose(decision.opened(hidden.double(), None, 0).numpy(), share, atol=1e-4)
        shift = GatedEdit(*_whole(6), torch.ones(1, 6), torch.full((1, 6), 2.0), torch.tensor([0.5]))
        edited = DecidedEdit(shift, (decision,))(hidden[None])[0]
        np.testing.assert_allclose(edited.numpy(), hidden.numpy() + share[..., None], atol=1e-4)


def _whole(neurons: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1, 1, neurons), -torch.inf), torch.full((1, 1, neurons), torch.inf)


def test_cast_is_its_definition_and_its_threshold_the_best_of_the_grid(evidence):
    fit, select = evidence.activations, evidence.select
    wide, member = fit.values.astype(np.float64), fit.labels == 1
    own, rest = wide[member], wide[~member]
    middle = (own.mean(0) + rest.mean(0)) / 2
    scatter = (own - middle).T @ (own - middle) / len(own) + (rest - middle).T @ (rest - middle) / len(rest)
    first = np.linalg.eigh(scatter)[1][:, -1]
    first *= np.sign(first @ (own.mean(0) - rest.mean(0)))
    np.testing.assert_allclose(condition_direction(fit.values, member), first, atol=1e-8)
    projector = np.outer(first, first) / (first @ first)
    cosines = []
    for h in select.values.astype(np.float64):
        image = np.tanh(projector @ h)
        cosines.append(h @ image / (np.linalg.norm(h) * np.linalg.norm(image)))
    found = CastGate(steps=200).opening(evidence)
    expected = np.array(cosines) > found.threshold if found.above else np.array(cosines) < found.threshold
    np.testing.assert_array_equal(opened(found, evidence), expected)
    assert found.over == "prompt"
    truth = select.labels == 1
    grid = np.linspace(min(cosines), max(cosines), 200)
    best = max(f1_score(truth, side) for cut in grid for side in (cosines > cut, cosines < cut))
    assert f1_score(truth, expected) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_of_the_grid_has_a_higher_f1(seed):
    random = np.random.default_rng(seed)
    scores, member = random.integers(0, 6, 30).astype(float), random.random(30) < 0.4
    threshold, above = best_f1(scores, member, 11)

    def quality(cut: float, over: bool) -> float:
        return f1_score(member, scores > cut if over else scores < cut)

    grid = np.linspace(scores.min(), scores.max(), 11)
    assert quality(threshold, above) == max(quality(cut, over) for cut in grid for over in (True, False))


def test_joint_at_the_grain_of_samples_has_the_same_score(evidence):
    position, sample = JointGate().opening(evidence), JointGate(grain="sample").opening(evidence)
    np.testing.assert_allclose(sample.scores(evidence.select.values), position(evidence.select.values))
    with pytest.raises(ConfigError, match="Did you mean 'sample'"):
        JointGate(grain="samples")


@pytest.mark.parametrize(
    "gate", [LdaGate(), LogisticGate(), CastGate(), JointGate()], ids=lambda gate: type(gate).__name__
)
def test_a_select_split_without_both_classes_is_refused(evidence, gate):
    alone = replace(evidence.select, labels=np.ones(90, dtype=int))
    with pytest.raises(ActivationError, match="all or in none"):
        gate.opening(replace(evidence, select=alone))


def decisions() -> tuple[Any, ...]:
    random = np.random.default_rng(1)
    linear = torch.from_numpy(random.normal(size=6))
    pooled = Quadratic(torch.zeros(6, dtype=torch.float64), linear, 0.0, over="so_far")
    classes = LogOdds(torch.from_numpy(random.normal(size=(3, 6))), torch.zeros(3, dtype=torch.float64), 1, -0.5)
    return pooled, classes, Cosine(linear, 0.2, True, over="prompt"), None


@pytest.mark.parametrize("causal", [True, False])
def test_cells_behind_every_kind_of_decision_share_a_batch(causal):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 5, 7, 6, generator=generator)
    attended = torch.ones(5, 7, dtype=torch.bool)
    attended[2:, -2:] = False
    tokens, every = Tokens(attended, attended, causal), decisions()
    unit = np.eye(6)[:1]
    eraser = ProjectionEdit.of([Projection(np.zeros(6), unit, unit)] * 4, [1.0, 2.0, 0.0, 0.5])
    batch = DecidedEdit(eraser, every)
    edited, opened = batch(hidden, attended, tokens=tokens), batch.opened(hidden, tokens)
    for place in range(4):
        alone = DecidedEdit(
            ProjectionEdit(*(getattr(eraser, name)[place : place + 1] for name in FIELDS)), every[place : place + 1]
        )
        assert torch.equal(alone(hidden[place : place + 1], attended, tokens=tokens)[0], edited[place])
        closed = (opened[place] == 0) | ~attended
        assert torch.equal(edited[place][closed], hidden[place][closed]), "closed gates and pads keep their bits"
        if place != 2:
            assert (edited[place] != hidden[place]).any(-1).sum() == (~closed).sum()
    assert torch.equal(edited[2], hidden[2]), "strength 0 is the identity"
    assert 0 < (opened[0] > 0).sum() < opened[0].numel()
    parts = [DecidedEdit(ProjectionEdit(*(getattr(eraser, n)[:3] for n in FIELDS)), every[:3])]
    parts.append(ProjectionEdit(*(getattr(eraser, n)[3:] for n in FIELDS)))
    joined = stacked(parts)
    assert joined.cells == 4
    assert torch.equal(joined.to("cpu")(hidden, attended, tokens=tokens), edited)
    with pytest.raises(ShapeError, match="tokens="):
        batch(hidden, attended)
    allowed = torch.zeros(4, 5, 7, dtype=torch.bool)
    assert torch.equal(batch(hidden, attended, allowed=allowed, tokens=tokens), hidden)


FIELDS = ("bias", "read", "write", "strength")
