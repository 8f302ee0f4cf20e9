"""Ranges from one Gaussian per (concept, neuron): mu +/- tau sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from neuronlens.config.rules import TAU
from neuronlens.errors import ConfigError
from neuronlens.ranges.base import WidthEstimator
from neuronlens.ranges.diagnostics.normality import describe, normal_cdf
from neuronlens.ranges.intervals import EMPTY, WHOLE
from neuronlens.records import ActivationRanges, ActivationSet


class GaussianRange(WidthEstimator):
    """Fits mu and sigma (ddof 0) over a concept's samples; the range is [mu - tau sigma, mu + tau sigma].

    tau = 2.5 covers 98.76 % of a normal law; tau = inf is the whole neuron whatever sigma (TRAPS 6); sigma = 0 is the
    point [mu, mu].
    """

    def __init__(self, *, tau: Annotated[float, TAU] = 2.5) -> None:
        """Fit ranges of half-width `tau` standard deviations.

        Raises:
            ConfigError: tau is negative or not a number.
        """
        if not tau >= 0:
            raise ConfigError(f"range.tau is {tau}, expected a number >= 0 (inf is the whole neuron).")
        self.tau = float(tau)

    def fit_widths(self, activations: ActivationSet, taus: Sequence[float]) -> list[ActivationRanges]:
        """Return one interval per (concept, neuron) and width; a concept with fewer than two samples is skipped."""
        statistics = activations.statistics
        skipped = {
            int(concept): f"{count} samples to fit a range on, expected at least 2"
            for concept, count in enumerate(statistics.count)
            if count < 2
        }
        law = describe(activations, normal_cdf(statistics))
        fitted = []
        for tau in taus:
            if math.isinf(tau):
                lower, upper = (np.full_like(statistics.mean, bound) for bound in WHOLE)
            else:
                lower, upper = statistics.mean - tau * statistics.std, statistics.mean + tau * statistics.std
            for concept in skipped:
                lower[concept], upper[concept] = EMPTY
            bounds = lower[:, None], upper[:, None]
            fitted.append(
                ActivationRanges("gaussian", float(tau), *bounds, activations.concepts, statistics, skipped, law)
            )
        return fitted
