"""The joint gate against SciPy's densities and a threshold found by trying every one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from neuronlens.activations.moments import statistics_of
from neuronlens.edits.base import Projection
from neuronlens.edits.detected import DetectedEdit, Detector
from neuronlens.edits.gates.joint import VARIANCE_FLOOR, best_threshold, likelihood_ratio
from neuronlens.edits.projected import ProjectionEdit


def test_the_ratio_is_the_sum_of_the_salient_neurons_log_densities(generator: np.random.Generator) -> None:
    values, labels = generator.normal(size=(90, 5)).astype(np.float32), np.arange(90) % 3
    values[labels == 1] += [1, 0, -2, 0, 0.5]
    values[:, 3] = 2.0  # constant: the floor gives it a law, equal for both
    salient = np.array([True, False, True, True, False])
    statistics = statistics_of(values, labels, 3)
    own, others = values[labels == 1].astype(np.float64), values[labels != 1].astype(np.float64)
    expected = np.zeros(90)
    for neuron in np.flatnonzero(salient):
        here, there = (np.sqrt(part[:, neuron].var() + VARIANCE_FLOOR) for part in (own, others))
        expected += norm.logpdf(values[:, neuron], own[:, neuron].mean(), here)
        expected -= norm.logpdf(values[:, neuron], others[:, neuron].mean(), there)
    ratio = likelihood_ratio(statistics, 1, salient)
    np.testing.assert_allclose(ratio(values), expected, rtol=1e-7, atol=1e-7)
    detector = Detector.of([replace(ratio, constant=ratio.constant - 0.5), None], 5)
    for hidden in (
        torch.from_numpy(values)[None, :, None],
        torch.from_numpy(values)[None, :, None].expand(2, -1, -1, -1),
    ):
        found = detector(hidden)
        np.testing.assert_array_equal(found[0, :, 0].numpy(), expected > 0.5)
        assert found[1].all()
    assert (expected > 0.5)[labels == 1].mean() > 0.5 + (expected > 0.5)[labels != 1].mean(), "the positive control"


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=30))
def test_no_threshold_separates_better_than_the_chosen_one(samples: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in samples], dtype=float)
    member = np.array([m for _, m in samples])
    if member.all() or not member.any():
        return

    def quality(threshold: float) -> float:
        above = scores > threshold
        return above[member].mean() - above[~member].mean()

    chosen = quality(best_threshold(scores, member))
    assert all(chosen >= quality(cut) - 1e-12 for cut in np.arange(-6, 6.5, 0.5))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
def test_trap_42_of_equally_good_thresholds_the_highest_is_found(members: int, others: int, seed: int) -> None:
    member = np.arange(members + others) < members
    scores = np.random.default_rng(seed).integers(0, 12, members + others).astype(float)

    def quality(threshold: float) -> Fraction:
        above = scores > threshold
        return Fraction(int(above[member].sum()), members) - Fraction(int(above[~member].sum()), others)

    middles = np.unique(scores)
    cuts = [-np.inf, *((middles[1:] + middles[:-1]) / 2), np.inf]
    best = max(map(quality, cuts))
    assert best_threshold(scores, member) == max(cut for cut in cuts if quality(cut) == best)


def test_undetected_positions_keep_their_bits_behind_an_edit_that_mixes_neurons() -> None:
    hidden = torch.randn(1, 20, 3, 4)
    direction = np.array([[1.0, 0.0, 0.0, 0.0]])
    eraser = ProjectionEdit.of([Projection(np.zeros(4), direction, direction)], [1.0])
    linear = torch.zeros(1, 4, dtype=torch.float64)
    linear[0, 1] = 1.0
    none = torch.zeros(1, dtype=torch.float64)
    detector = Detector(torch.zeros(1, 4, dtype=torch.float64), linear, none, none + torch.inf)
    mask = torch.ones(20, 3, dtype=torch.bool)
    mask[5] = False
    found = DetectedEdit(eraser, detector)(hidden, mask)
    opened = (hidden[0, ..., 1] > 0) & mask
    assert torch.equal(found[0][~opened], hidden[0][~opened])
    assert (found[0][opened][:, 0] == 0).all()
    assert opened.any()
    assert (~opened).any()
