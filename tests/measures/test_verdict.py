"""When a difference is called shown: with an interval on one side, over enough concepts, and rarely where nothing is there."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.verdict import FEWEST_CONCEPTS, TOO_FEW, shown_side, without_intervals

SETTINGS = Bootstrap(0.95, 1000, 0)


@pytest.mark.parametrize("concepts", [FEWEST_CONCEPTS, 8, 20])
def test_trap_43_a_difference_is_rarely_shown_where_there_is_none(concepts: int) -> None:
    generator = np.random.default_rng(concepts)
    drawn = generator.normal(size=(4000, concepts))
    _, low, high = SETTINGS.of_mean(drawn)
    sides = [shown_side(*ends, concepts) for ends in zip(low, high, strict=True)]
    assert sides.count("below") <= 0.03 * 4000
    assert sides.count("above") <= 0.03 * 4000
    weights = SETTINGS.counts(concepts) / concepts
    before = np.percentile(drawn[:1000] @ weights.T, 97.5, axis=1)
    assert np.mean(before < 0) > 0.03, "the percentile bootstrap showed it more often than it should"


@pytest.mark.parametrize("concepts", range(1, FEWEST_CONCEPTS))
def test_trap_41_nothing_is_shown_over_too_few_concepts(concepts: int) -> None:
    assert shown_side(0.1, 0.2, concepts) == TOO_FEW == "too few concepts to say"
    assert shown_side(float("nan"), float("nan"), concepts) == TOO_FEW
    assert without_intervals(float("nan"), concepts) == (concepts > 1), "a mean of one has none in any run"


def test_nothing_is_shown_without_an_interval() -> None:
    assert shown_side(float("nan"), float("nan"), 20) == "not shown"
    assert without_intervals(float("nan"), 20)
    assert not without_intervals(-0.1, 20)


def test_the_bound_itself_is_on_no_side() -> None:
    assert shown_side(0.2, 0.4, 9, 0.2) == "not shown"
    assert shown_side(0.21, 0.4, 9, 0.2) == "above"
    assert shown_side(0.1, 0.19, 9, 0.2) == "below"
