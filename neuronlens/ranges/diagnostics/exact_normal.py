"""What an exactly Gaussian neuron gives: its Kolmogorov-Smirnov statistic, skewness and kurtosis by chance alone.

The Gaussian is fitted on some samples and tested on others, so the error of the fit adds to that of the test, and the
tabled law of the statistic (`ks_p`) rejects too often. Both are free of mean and deviation, so a simulation of the
standard normal with the same two counts gives the law for every neuron.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from neuronlens.ranges.diagnostics.normality import ks_statistic, skewness_and_kurtosis
from neuronlens.records import FloatArray

DRAWS = 10_000
VALUES_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class ExactNormal:
    """Simulated statistics of an exactly Gaussian neuron, one per draw.

    Attributes:
        ks_statistics: ascending `[draw]`.
        skewness, excess_kurtosis: the means of their absolute values.
    """

    ks_statistics: FloatArray
    skewness: float
    excess_kurtosis: float

    def p(self, statistic: FloatArray) -> FloatArray:
        """Return the chance of a statistic at least as large, (1 + as large) / (1 + draws), so never 0; NaN for NaN."""
        below = np.searchsorted(self.ks_statistics, statistic, side="left")
        p = (1.0 + len(self.ks_statistics) - below) / (1.0 + len(self.ks_statistics))
        return np.where(np.isnan(statistic), np.nan, p)


@lru_cache(maxsize=256)
def exact_normal(n_fit: int, n_test: int, *, draws: int = DRAWS, seed: int = 0) -> ExactNormal:
    """Return what a Gaussian gives that is fitted (ddof 0) on `n_fit` samples and tested on `n_test` others.

    Args:
        n_fit, n_test: two or more each.
    """
    generator = np.random.default_rng([seed, n_fit, n_test])
    found: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    left = draws
    while left:
        part = min(left, max(VALUES_AT_ONCE // n_test, 1))
        mean = generator.standard_normal(part) / np.sqrt(n_fit)
        std = np.sqrt(generator.chisquare(n_fit - 1, part) / n_fit)
        values = generator.standard_normal((n_test, part))
        skewness, kurtosis = skewness_and_kurtosis(values)
        found.append((ks_statistic(values, _normal(mean, std)), np.abs(skewness), np.abs(kurtosis)))
        left -= part
    statistics, skewness, kurtosis = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return ExactNormal(np.sort(statistics), float(skewness.mean()), float(kurtosis.mean()))


def _normal(mean: FloatArray, std: FloatArray) -> Callable[[FloatArray], FloatArray]:
    return lambda values: np.asarray(ndtr((values - mean) / std))
