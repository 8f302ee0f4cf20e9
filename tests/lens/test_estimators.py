"""scikit-learn's own checks of the estimators; they fit what a run fits, and work in a Pipeline and a GridSearchCV."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from neuronlens.config.compose import compose
from neuronlens.edits.fitting import fit_site
from neuronlens.edits.leace import Leace
from neuronlens.errors import ConfigError
from neuronlens.lens.estimators import ConceptEraser, GateScores, RangeMembership, SaliencySelector
from neuronlens.records import ActivationSet, FloatArray
from tests.conftest import MakeActivations

EVERY = [
    SaliencySelector(),
    RangeMembership(),
    GateScores(),
    GateScores(gate="range"),
    ConceptEraser(),
    ConceptEraser(edit="mean", gate="range"),
]


def expected_failures(estimator: Any) -> dict[str, str]:
    """Return the checks that an estimator is not meant to pass, with the reason of each: none so far."""
    return {}


@parametrize_with_checks(EVERY, expected_failed_checks=expected_failures)
def test_scikit_learn_finds_nothing_wrong(estimator: Any, check: Any) -> None:
    check(estimator)


NAMES = np.array(["apple", "bridge", "cloud"])


@pytest.fixture(scope="module")
def data() -> tuple[FloatArray, Any]:
    """90 samples of 6 neurons; the first three tell the concepts apart, each its own."""
    random = np.random.default_rng(3)
    number = np.repeat([0, 1, 2], 30)
    values = random.normal(size=(90, 6)).astype(np.float32)
    values[np.arange(90), number] += 4.0
    return values, NAMES[number]


@pytest.fixture(scope="module")
def activations(data: tuple[FloatArray, Any], make_activations: MakeActivations) -> ActivationSet:
    """The same as a run has them."""
    values, labels = data
    return make_activations(values, np.searchsorted(NAMES, labels), 3)


def test_they_fit_what_a_run_fits(data: tuple[FloatArray, Any], activations: ActivationSet) -> None:
    values, labels = data
    for saliency, name in (("probeless", "mixture"), ("auroc", "gaussian")):
        fitted = fit_site(compose([f"saliency={saliency}", f"range={name}", "sweep=single"]), activations)
        selector = SaliencySelector(saliency=saliency, top_count=2, concept="cloud").fit(values, labels)
        np.testing.assert_array_equal(selector.scores_, fitted.rankings[saliency].scores)
        best = fitted.rankings[saliency].order[2, :2]
        assert selector.get_support(indices=True).tolist() == sorted(best)
        assert selector.get_feature_names_out().tolist() == [f"x{neuron}" for neuron in sorted(best)]
        member = RangeMembership(range=name).fit(values, labels)
        (wanted,) = fitted.ranges.values()
        np.testing.assert_array_equal(member.lower_, wanted.lower)
        inside = (values[:, None, None] >= wanted.lower) & (values[:, None, None] <= wanted.upper)
        np.testing.assert_array_equal(member.transform(values), inside.any(axis=2).reshape(90, -1))
        assert member.get_feature_names_out()[:7].tolist() == [*(f"apple_x{n}" for n in range(6)), "bridge_x0"]


def test_erasing_leaves_a_linear_classifier_nothing(data: tuple[FloatArray, Any], activations: ActivationSet) -> None:
    values, labels = data
    probe = LogisticRegression()
    assert probe.fit(values, labels).score(values, labels) > 0.9
    erased = ConceptEraser().fit_transform(values, labels)
    assert probe.fit(erased, labels).score(erased, labels) < 0.45
    one = ConceptEraser(concept="bridge").fit(values, labels)
    own = Leace(covariance="ledoit_wolf").target(activations, 1)
    np.testing.assert_allclose(one.transform(values), own(values), atol=1e-5)
    assert values.dtype == one.transform(values).dtype == np.float32
    wide = ConceptEraser(edit="zero", gate="range", top_count=1, concept="apple").fit(values, labels)
    changed = wide.transform(values) != values
    assert changed[:, 0].sum() > 25
    assert not changed[:, 1:].any()


def test_a_gate_is_open_for_its_own_concept(data: tuple[FloatArray, Any]) -> None:
    values, labels = data
    scores = GateScores(saliency="dprime", top_count=3).fit(values, labels).transform(values)
    own = NAMES[:, None] == labels
    assert (scores.T[own] > 0).mean() > 0.85
    assert (scores.T[~own] > 0).mean() < 0.15
    shares = GateScores(gate="range", saliency="dprime", top_count=1).fit(values, labels).transform(values)
    outside = GateScores(gate="outside", saliency="dprime", top_count=1).fit(values, labels).transform(values)
    np.testing.assert_array_equal(shares + outside, 1.0)


def test_they_work_in_a_pipeline_and_a_search(data: tuple[FloatArray, Any]) -> None:
    values, labels = data
    search = GridSearchCV(
        make_pipeline(SaliencySelector(saliency="dprime"), RangeMembership(), LogisticRegression()),
        {"saliencyselector__top_count": [1, 3], "rangemembership__tau": [1.0, 2.5]},
        cv=3,
    ).fit(values, labels)
    assert search.best_score_ > 0.9
    assert set(search.best_params_) == {"saliencyselector__top_count", "rangemembership__tau"}
    frame = RangeMembership().set_output(transform="pandas").fit(values, labels).transform(values)
    assert frame.columns[0] == "apple_x0"
    copied = clone(ConceptEraser(edit="mean", gate="range", top_count=2))
    assert copied.get_params()["top_count"] == 2
    assert "edit='mean'" in repr(copied)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (SaliencySelector(saliency="maxx"), "Did you mean 'max'"),
        (RangeMembership(range="gausian"), "Did you mean 'gaussian'"),
        (RangeMembership(tau=-1.0), "tau is -1.0, expected a number >= 0"),
        (SaliencySelector(concept="aple"), r"Unknown concept 'aple'. Did you mean 'apple'"),
        (ConceptEraser(edit="leace", gate="range"), "Edit 'leace' mixes neurons"),
        (ConceptEraser(tau=1.0), "tau=1.0 plays no part"),
        (GateScores(gate="jiont"), "Did you mean 'joint'"),
    ],
    ids=str,
)
def test_wrong_options_are_named(estimator: Any, message: str, data: tuple[FloatArray, Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        estimator.fit(*data)


def test_one_label_is_refused(data: tuple[FloatArray, Any]) -> None:
    with pytest.raises(ValueError, match="y holds 1 class, 'apple', expected 2 or more"):
        RangeMembership().fit(data[0], np.repeat(["apple"], 90))
