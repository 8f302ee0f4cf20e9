"""Every measure from its definition, and intervals that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.measures.columns import MEASURES
from neuronlens.measures.estimates import of_paired_shares
from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.metrics import BaseOutcomes, measure
from neuronlens.sweep.evaluator import Outcomes


@pytest.fixture
def said(generator: np.random.Generator) -> tuple[Outcomes, BaseOutcomes, np.ndarray, dict[str, np.ndarray]]:
    """Return outcomes of two cells over 60 samples and 3 classes, computed with the loops of the definition."""
    labels = np.arange(60) % 3
    base = generator.normal(size=(60, 3)) + 2 * np.eye(3)[labels]
    edited = base[None] + generator.normal(size=(2, 60, 3))
    log = lambda logits: logits - np.log(np.exp(logits).sum(-1, keepdims=True))  # noqa: E731
    base_log, edited_log = log(base), log(edited)
    kl = (np.exp(base_log) * (base_log - edited_log)).sum(-1)
    gold = np.exp(np.take_along_axis(edited_log, np.broadcast_to(labels[None, :, None], (2, 60, 1)), -1))[..., 0]
    outcomes = Outcomes(gold, edited.argmax(-1) == labels, kl, edited.argmax(-1) != base.argmax(-1))
    raw = {"base": base_log, "edited": edited_log, "labels": labels}
    return outcomes, BaseOutcomes.of(base_log, base_log.argmax(1), labels), labels, raw


def test_measures_follow_their_definitions(
    said: tuple[Outcomes, BaseOutcomes, np.ndarray, dict[str, np.ndarray]],
) -> None:
    outcomes, base, labels, raw = said
    found = measure(outcomes, np.array([0, 1]), base, labels == 1, Bootstrap(0.95, 200, 0))
    for cell in range(2):
        sums: dict[str, list[float]] = {"a": [], "c": [], "ca": [], "cc": [], "ba": [], "bca": [], "kl": [], "flip": []}
        for row in range(60):
            edited, plain, gold = raw["edited"][cell, row], raw["base"][row], labels[row]
            right, base_right = float(edited.argmax() == gold), float(plain.argmax() == gold)
            if gold == 1:
                sums["a"].append(right)
                sums["c"].append(float(np.exp(edited[gold])))
                sums["ba"].append(base_right)
            else:
                sums["ca"].append(right)
                sums["cc"].append(float(np.exp(edited[gold])))
                sums["bca"].append(base_right)
                sums["kl"].append(float((np.exp(plain) * (plain - edited)).sum()))
                sums["flip"].append(float(edited.argmax() != plain.argmax()))
        mean = {name: float(np.mean(values)) for name, values in sums.items()}
        expected = {
            "concept_accuracy": mean["a"],
            "concept_confidence": mean["c"],
            "complement_accuracy": mean["ca"],
            "complement_confidence": mean["cc"],
            "base_concept_accuracy": mean["ba"],
            "concept_accuracy_drop": mean["ba"] - mean["a"],
            "complement_accuracy_drop": mean["bca"] - mean["ca"],
            "selectivity": (mean["ba"] - mean["a"]) - (mean["bca"] - mean["ca"]),
            "kl": mean["kl"],
            "flip_rate": mean["flip"],
        }
        for name, value in expected.items():
            assert found[name][cell] == pytest.approx(value, abs=1e-9), name
    for name in MEASURES:
        assert (found[f"{name}_low"] <= found[name] + 1e-6).all(), name
        assert (found[f"{name}_high"] >= found[name] - 1e-6).all(), name


def test_trap_17_confidence_is_the_gold_class_over_all_samples_right_or_wrong() -> None:
    log_probs = np.log(np.array([[0.7, 0.3], [0.6, 0.4]]))
    base = BaseOutcomes.of(log_probs, log_probs.argmax(1), np.array([0, 1]))
    np.testing.assert_allclose(base.gold, [0.7, 0.4])  # not 0.7 and 0.6, nor 0.7 alone
    outcomes = Outcomes(base.gold[None], base.correct[None], np.zeros((1, 2)), np.zeros((1, 2), bool))
    found = measure(outcomes, np.array([0]), base, np.array([True, True]), Bootstrap(0.95, 0, 0))
    assert found["concept_confidence"][0] == pytest.approx(0.55)
    assert found["concept_accuracy"][0] == 0.5
    assert np.isnan(found["complement_accuracy"][0])
    assert np.isnan(found["concept_accuracy_low"][0])


def test_the_unedited_cell_drops_nothing_and_shares_say_how_little_is_known() -> None:
    generator = np.random.default_rng(1)
    gold, correct = generator.random(40), generator.random(40) < 0.6
    base = BaseOutcomes(gold, correct)
    outcomes = Outcomes(gold[None], correct[None], np.zeros((1, 40)), np.zeros((1, 40), bool))
    found = measure(outcomes, np.array([0]), base, np.arange(40) < 15, Bootstrap(0.95, 300, 0))
    for name in ("concept_confidence_drop", "complement_confidence_drop", "kl"):
        assert found[f"{name}_low"][0] == found[f"{name}_high"][0] == found[name][0] == 0, "paired by sample"
    for name in ("concept_accuracy_drop", "complement_accuracy_drop", "selectivity", "flip_rate"):
        assert found[f"{name}_low"][0] <= found[name][0] == 0 < found[f"{name}_high"][0]
    assert found["concept_accuracy_low"][0] < found["concept_accuracy"][0] < found["concept_accuracy_high"][0]


def test_trap_44_no_share_has_an_interval_of_no_width() -> None:
    right = np.ones(20, dtype=bool)
    base, nothing = BaseOutcomes(right.astype(float), right), np.zeros((2, 20))
    correct = np.stack([right, ~right])
    outcomes = Outcomes(correct.astype(float), correct, nothing, nothing.astype(bool))
    found = measure(outcomes, np.array([0, 1]), base, np.arange(20) < 8, Bootstrap(0.95, 200, 0))
    assert found["concept_accuracy"].tolist() == [1, 0]
    assert found["concept_accuracy_drop"].tolist() == [0, 1]
    shares = (
        "concept_accuracy",
        "complement_accuracy",
        "base_concept_accuracy",
        "concept_accuracy_drop",
        "selectivity",
    )
    for name in (*shares, "complement_accuracy_drop", "flip_rate"):
        assert (found[f"{name}_high"] - found[f"{name}_low"] > 0.05).all(), name
    assert found["concept_accuracy_high"][0] == 1
    assert found["concept_accuracy_low"][0] == pytest.approx(8 / (8 + 1.959964**2)), "Wilson at n of n: n / (n + z^2)"


def test_intervals_are_those_of_their_kind_of_measure(
    said: tuple[Outcomes, BaseOutcomes, np.ndarray, dict[str, np.ndarray]],
) -> None:
    outcomes, base, labels, _ = said
    own = labels == 1
    found = measure(outcomes, np.array([1, 0]), base, own, Bootstrap(0.9, 200, 0))
    for place, cell in enumerate((1, 0)):
        for side, chosen in (("concept", own), ("complement", ~own)):
            right, n = int(outcomes.correct[cell][chosen].sum()), int(chosen.sum())
            low, high = stats.binomtest(right, n).proportion_ci(0.9, method="wilson")
            assert (found[f"{side}_accuracy_low"][place], found[f"{side}_accuracy_high"][place]) == pytest.approx(
                (low, high)
            )
            gone = (base.gold - outcomes.gold[cell])[chosen]
            t = stats.t.interval(0.9, n - 1, loc=gone.mean(), scale=stats.sem(gone))
            assert found[f"{side}_confidence_drop_low"][place] <= t[0] + 1e-12
            assert found[f"{side}_confidence_drop_high"][place] >= t[1] - 1e-12
            change = base.correct[chosen].astype(int) - outcomes.correct[cell][chosen]
            bounds = of_paired_shares((change > 0).sum(), (change < 0).sum(), n, 0.9)
            assert found[f"{side}_accuracy_drop_low"][place] == pytest.approx(float(bounds.low))
            assert found[f"{side}_accuracy_drop_high"][place] == pytest.approx(float(bounds.high))
        drops = [found[f"{side}_accuracy_drop"][place] for side in ("concept", "complement")]
        one, other = (
            [found[f"{side}_accuracy_drop_{end}"][place] for side in ("concept", "complement")]
            for end in ("low", "high")
        )
        lower = np.hypot(drops[0] - one[0], other[1] - drops[1])
        assert found["selectivity_low"][place] == pytest.approx(drops[0] - drops[1] - lower)


def test_many_cells_are_measured_in_parts_as_one(
    said: tuple[Outcomes, BaseOutcomes, np.ndarray, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes, base, labels, _ = said
    arguments = (outcomes, np.array([1, 0, 1]), base, labels == 2, Bootstrap(0.9, 200, 0))
    whole = measure(*arguments)
    monkeypatch.setattr("neuronlens.measures.metrics.MOST_VALUES", 60)
    for name, values in measure(*arguments).items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator, covered = np.random.default_rng(2), 0
    for trial in range(200):
        correct = generator.random(80) < 0.7
        base = BaseOutcomes(correct.astype(float), correct)
        outcomes = Outcomes(base.gold[None], correct[None], np.zeros((1, 80)), np.zeros((1, 80), bool))
        found = measure(outcomes, np.array([0]), base, np.ones(80, bool), Bootstrap(0.95, 300, trial))
        covered += bool(found["concept_accuracy_low"][0] <= 0.7 <= found["concept_accuracy_high"][0])
    assert 0.88 <= covered / 200 <= 0.99
