"""Ranges between two quantiles of a concept's samples."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import between
from neuronlens.errors import ConfigError
from neuronlens.ranges.base import RangeEstimator
from neuronlens.ranges.diagnostics.normality import describe, normal_cdf
from neuronlens.ranges.intervals import EMPTY
from neuronlens.records import ActivationRanges, ActivationSet

MIN_SAMPLES = 2


class QuantileRange(RangeEstimator):
    """The range is [Q(q), Q(1 - q)], Q the quantile of a concept's samples, interpolated linearly (numpy's default).

    It holds a share 1 - 2 q of the samples it was fitted on, whatever their law; q = 0 is their full span.
    """

    def __init__(self, *, q: Annotated[float, between(0, 0.5, "[)", noun="a share")] = 0.01) -> None:
        """Fit ranges that leave out a share `q` of the samples at either end.

        Raises:
            ConfigError: q is outside [0, 0.5) or not a number.
        """
        if not 0 <= q < 0.5:
            raise ConfigError(f"range.q is {q}, expected a share in [0, 0.5).")
        self.q = float(q)

    def fit(self, activations: ActivationSet) -> ActivationRanges:
        """Return one interval per (concept, neuron); a concept with fewer than two samples is skipped."""
        shape = (len(activations.concepts), 1, activations.values.shape[1])
        lower, upper = np.full(shape, EMPTY[0]), np.full(shape, EMPTY[1])
        skipped = {}
        for concept in range(len(activations.concepts)):
            values = activations.values[activations.labels == concept].astype(np.float64)
            if len(values) < MIN_SAMPLES:
                skipped[concept] = f"{len(values)} samples to fit a range on, expected at least {MIN_SAMPLES}"
                continue
            lower[concept, 0], upper[concept, 0] = np.quantile(values, [self.q, 1 - self.q], axis=0)
        return ActivationRanges(
            name="quantile",
            tau=None,
            lower=lower,
            upper=upper,
            concepts=activations.concepts,
            statistics=activations.statistics,
            skipped=skipped,
            law=describe(activations, normal_cdf(activations.statistics)),
        )
