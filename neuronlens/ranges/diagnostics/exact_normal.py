"""What exactly Gaussian neurons give, and nearly Gaussian ones: Kolmogorov-Smirnov statistic, skewness and kurtosis.

The Gaussian is fitted on some samples and tested on others, so the error of the fit adds to that of the test, and the
tabled law of the statistic (`normality.ks_p`) rejects too often. Both are free of mean and deviation, so a simulation of
the standard normal with the same two counts gives the law for every neuron.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr

from neuronlens.ranges.diagnostics.normality import ks_statistic, skewness_and_kurtosis
from neuronlens.records import FloatArray, IntArray

DRAWS = 10_000
ALPHA = 0.05
NEAR_SKEWNESS, NEAR_EXCESS_KURTOSIS = 0.5, 1.0
"""How far a distribution may be from a Gaussian and still be near one."""
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


@dataclass(frozen=True)
class NearNormal:
    """What a neuron gives that is as far from a Gaussian as one called near may be, with as many samples.

    Attributes:
        kept: share of such neurons that the test at `ALPHA` does not reject, of a skewed law: a gamma law.
        skewness: mean of their absolute skewness, of the same law.
        excess_kurtosis: mean of their absolute excess kurtosis, of a law with heavy tails: Student's t.
    """

    kept: float
    skewness: float
    excess_kurtosis: float


@lru_cache(maxsize=256)
def near_normal(n_fit: int, n_test: int, *, draws: int = DRAWS, seed: int = 0) -> NearNormal:
    """Return what neurons at the edge of near Gaussian give, so that a bound is one for the number of samples at hand.

    A gamma law of shape k has skewness 2 / sqrt(k), Student's t with v degrees of freedom excess kurtosis 6 / (v - 4).

    Args:
        n_fit, n_test: two or more each.
    """
    generator = np.random.default_rng([seed, n_fit, n_test])
    shape, freedom = (2 / NEAR_SKEWNESS) ** 2, 4 + 6 / NEAR_EXCESS_KURTOSIS
    exact = exact_normal(n_fit, n_test, seed=seed)
    kept, skewed, heavy = [], [], []
    left = draws
    while left:
        part = min(left, max(VALUES_AT_ONCE // max(n_fit, n_test), 1))
        fit, values = (generator.standard_gamma(shape, (n, part)) for n in (n_fit, n_test))
        kept.append(exact.p(ks_statistic(values, _normal(fit.mean(axis=0), fit.std(axis=0)))) >= ALPHA)
        skewed.append(np.abs(skewness_and_kurtosis(values)[0]))
        heavy.append(np.abs(skewness_and_kurtosis(generator.standard_t(freedom, (n_test, part)))[1]))
        left -= part
    return NearNormal(*(float(np.concatenate(found).mean()) for found in (kept, skewed, heavy)))


def fitted_p(statistic: FloatArray, n_fit: IntArray, n_test: IntArray) -> FloatArray:
    """Return the chance of Kolmogorov-Smirnov statistics as large, for exact Gaussians fitted on other samples.

    Args:
        statistic: `[concept, neuron]`.
        n_fit, n_test: samples fitted on and tested `[concept]`; NaN comes back where either is below two.
    """
    p = np.full(statistic.shape, np.nan)
    for concept, (fitted, tested) in enumerate(zip(n_fit, n_test, strict=True)):
        if min(fitted, tested) >= 2:
            p[concept] = exact_normal(int(fitted), int(tested)).p(statistic[concept])
    return p


def _normal(mean: FloatArray, std: FloatArray) -> Callable[[FloatArray], FloatArray]:
    return lambda values: np.asarray(ndtr((values - mean) / std))
