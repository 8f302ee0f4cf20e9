"""Quantile ranges against numpy, column by column."""

from __future__ import annotations

import numpy as np
import pytest

from neuronlens.errors import ConfigError
from neuronlens.ranges.intervals import EMPTY, contains
from neuronlens.ranges.quantile import QuantileRange
from tests.ranges.activations import activation_set


@pytest.mark.parametrize("q", [0.0, 0.01, 0.25, 0.49])
def test_bounds_are_numpys_quantiles_and_leave_out_their_share(q: float) -> None:
    rng = np.random.default_rng(0)
    samples = [rng.normal(size=(101, 4)), rng.exponential(size=(57, 4))]
    ranges = QuantileRange(q=q).fit(activation_set(*samples))
    assert ranges.name == "quantile"
    assert ranges.tau is None
    for concept, part in enumerate(samples):
        for neuron in range(4):
            column = part[:, neuron].astype(np.float32).astype(np.float64)
            assert ranges.lower[concept, 0, neuron] == pytest.approx(np.quantile(column, q))
            assert ranges.upper[concept, 0, neuron] == pytest.approx(np.quantile(column, 1 - q))
        share = contains(part.astype(np.float32), ranges.lower[concept], ranges.upper[concept]).mean(axis=0)
        assert (np.abs(share - (1 - 2 * q)) <= 2 / len(part)).all()


def test_a_concept_with_one_sample_is_skipped_with_a_reason_and_a_constant_is_a_point() -> None:
    ranges = QuantileRange().fit(activation_set([[1.0, 2.0]], [[3.0, 0.0], [3.0, 1.0]]))
    assert list(ranges.skipped) == [0]
    assert "1 sample" in ranges.skipped[0]
    assert (ranges.lower[0, 0, 0], ranges.upper[0, 0, 0]) == EMPTY
    assert ranges.lower[1, 0, 0] == ranges.upper[1, 0, 0] == 3.0
    assert np.isnan(ranges.law["skewness"][1, 0])


@pytest.mark.parametrize("q", [-0.01, 0.5, 1.0, float("nan")])
def test_a_share_outside_its_range_is_refused(q: float) -> None:
    with pytest.raises(ConfigError, match=r"range\.q"):
        QuantileRange(q=q)
