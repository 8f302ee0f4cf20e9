"""How well a law fits a concept's samples: skewness, excess kurtosis, and the Kolmogorov-Smirnov test.

Every function works on all neurons at once, in float64. A neuron whose samples are all equal has no shape: NaN. The
numbers are SciPy's; what SciPy has for one neuron at a time (`ks_1samp`, `kstwo`) is done for all of them here. SciPy is
imported where it is used, because estimators that import this module are built when a config is checked.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np

from neuronlens.records import ActivationSet, ConceptStatistics, FloatArray

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

# (concept, values [sample, neuron]) -> the probability of a value up to each of them, `[sample, neuron]`.
Cdf = Callable[[int, FloatArray], FloatArray]

# Nodes of the spline through log p of the Kolmogorov-Smirnov law, and where they lie in units of statistic * sqrt(n).
SPLINE_NODES, SPLINE_FROM, SPLINE_TO = 200, 0.3, 4.0
# Below this many samples the law has kinks that a spline would smooth; below this many values it does not pay.
SPLINE_MIN_SAMPLES, SPLINE_MIN_VALUES = 30, 32


def describe(activations: ActivationSet, cdf: Cdf) -> dict[str, FloatArray]:
    """Return `skewness`, `excess_kurtosis`, `ks_statistic` and `ks_p`, `[concept, neuron]` each.

    Concepts with fewer than two samples, and neurons that are constant over a concept, are NaN.

    Args:
        activations: not modified.
        cdf: of the law that was fitted to each concept.
    """
    shape = (len(activations.concepts), activations.values.shape[1])
    names = ("skewness", "excess_kurtosis", "ks_statistic", "ks_p")
    law = {name: np.full(shape, np.nan) for name in names}
    for concept in range(shape[0]):
        values = activations.values[activations.labels == concept].astype(np.float64)
        if len(values) < 2:
            continue
        law["skewness"][concept], law["excess_kurtosis"][concept] = skewness_and_kurtosis(values)
        statistic = ks_statistic(values, partial(cdf, concept))
        statistic[np.ptp(values, axis=0) == 0] = np.nan
        law["ks_statistic"][concept], law["ks_p"][concept] = statistic, ks_p(statistic, len(values))
    return law


def normal_cdf(statistics: ConceptStatistics) -> Cdf:
    """Return the distribution functions of Gaussians with the concepts' mean and standard deviation (ddof 0)."""
    from scipy.special import ndtr

    def cdf(concept: int, values: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(ndtr((values - statistics.mean[concept]) / statistics.std[concept]))

    return cdf


def skewness_and_kurtosis(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return m3 / m2^1.5 and m4 / m2^2 - 3 `[neuron]`, m_k the k-th central moment of `values [sample, neuron]`.

    The biased estimators, 0 for a normal law: `scipy.stats.skew` and `kurtosis` by default.
    """
    from scipy.stats import kurtosis, skew

    wide = np.asarray(values, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of neurons that are constant, which are NaN
        return np.asarray(skew(wide)), np.asarray(kurtosis(wide))


def ks_statistic(values: FloatArray, cdf: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """Return the largest distance between the samples' distribution function and `cdf` `[neuron]`.

    Args:
        values: `[sample, neuron]`; not modified.
        cdf: takes and gives `[sample, neuron]`, each neuron's samples ascending.
    """
    below = cdf(np.sort(np.asarray(values, dtype=np.float64), axis=0))
    steps = np.arange(len(values) + 1)[:, None] / len(values)
    return np.asarray(np.maximum((steps[1:] - below).max(axis=0), (below - steps[:-1]).max(axis=0)))


def ks_p(statistic: FloatArray, n: int) -> FloatArray:
    """Return the probability of a statistic at least as large, for `n` samples of the law itself; NaN for NaN.

    The law is `scipy.stats.kstwo`, exact and slow; many values are read off a cubic spline through its logarithm (relative
    error below 2e-5, and 1e-6 away from where SciPy itself changes method). The parameters are taken as given: with a law
    fitted to the same samples p is too large, so read it as a score of fit that can be compared between neurons, not as
    a level of significance.
    """
    from scipy.stats import kstwo

    statistic = np.asarray(statistic, dtype=np.float64)
    scaled = statistic * np.sqrt(n)
    inside = (scaled > SPLINE_FROM) & (scaled < SPLINE_TO)
    if n < SPLINE_MIN_SAMPLES or inside.sum() < SPLINE_MIN_VALUES:
        inside = np.zeros_like(inside)
    p = np.full(statistic.shape, np.nan)
    p[inside] = np.exp(_log_p(n)(scaled[inside]))
    p[~inside] = kstwo.sf(statistic[~inside], n)
    return np.clip(p, 0, 1)


@lru_cache(maxsize=64)
def _log_p(n: int) -> CubicSpline:
    """Return log p as a function of statistic * sqrt(n)."""
    from scipy.interpolate import CubicSpline
    from scipy.stats import kstwo

    scaled = np.linspace(SPLINE_FROM, min(SPLINE_TO, np.sqrt(n)), SPLINE_NODES)
    with np.errstate(divide="ignore"):
        log_p = np.log(np.maximum(kstwo.sf(scaled / np.sqrt(n), n), np.finfo(np.float64).tiny))
    return CubicSpline(scaled, log_p)
