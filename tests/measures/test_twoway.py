"""Concepts and samples drawn together: wider than concepts alone where samples matter, and true as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuronlens.measures.intervals import Bootstrap
from neuronlens.measures.twoway import two_way

SETTINGS = Bootstrap(0.95, 400, 0)


def drawn(generator: np.random.Generator, concepts: int, samples: int) -> np.ndarray:
    """Return values whose concepts differ, whose samples differ more, and a concept's own samples left out."""
    rows, columns = (
        generator.normal(size=(concepts, 1)),
        2 * generator.normal(size=samples) * np.sqrt(samples / concepts),
    )
    values = rows + columns + generator.normal(size=(concepts, samples))
    values[np.arange(samples) % concepts == np.arange(concepts)[:, None]] = np.nan
    return values


def test_the_mean_is_over_concepts_of_their_means_over_samples(generator: np.random.Generator) -> None:
    values = drawn(generator, 6, 30)
    assert two_way(values, SETTINGS).value == pytest.approx(np.nanmean(values, axis=1).mean())


def test_without_sample_effects_it_is_students_interval_over_concepts(generator: np.random.Generator) -> None:
    rows = generator.normal(size=12)
    found = two_way(np.repeat(rows[:, None], 500, axis=1), Bootstrap(0.95, 20_000, 0))
    expected = stats.t.interval(0.95, 11, loc=rows.mean(), scale=stats.sem(rows))
    assert (found.low, found.high) == pytest.approx(expected, abs=0.02)


def test_it_covers_where_an_interval_over_concepts_alone_does_not() -> None:
    generator, held, alone = np.random.default_rng(1), 0, 0
    for _ in range(300):
        values = drawn(generator, 10, 60)
        _, low, high = two_way(values, SETTINGS)
        held += low <= 0 <= high
        _, low, high = SETTINGS.of_mean(np.nanmean(values, axis=1))
        alone += low <= 0 <= high
    assert held >= 0.93 * 300
    assert alone <= 0.8 * 300


def test_equal_settings_give_equal_bounds_and_a_square_table_is_drawn_on_both_sides(
    generator: np.random.Generator,
) -> None:
    values = generator.normal(size=(8, 8))
    assert two_way(values, SETTINGS) == two_way(values, SETTINGS)
    assert two_way(values, SETTINGS) != two_way(values, Bootstrap(0.95, 400, 7))
    weights = SETTINGS.counts(8)
    tied = ((weights @ values) * weights).sum(axis=1) / 64
    found = two_way(values, SETTINGS)
    assert found.high - found.value != pytest.approx(2.3646 * tied.std(ddof=1) * np.sqrt(8 / 7), rel=1e-3)


def test_no_interval_over_one_concept_or_one_sample_or_where_none_is_wanted() -> None:
    for values, settings in (
        (np.ones((1, 5)), SETTINGS),
        (np.arange(5.0)[:, None], SETTINGS),
        (np.arange(6.0).reshape(2, 3), SETTINGS.off()),
    ):
        found = two_way(values, settings)
        assert found.value == values.mean()
        assert np.isnan([found.low, found.high]).all()
