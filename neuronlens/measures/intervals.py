"""Paired bootstrap intervals."""

from __future__ import annotations

import numpy as np

from neuronlens.records import FloatArray


def resample_counts(samples: int, resamples: int, seed: int) -> FloatArray:
    """Return how often each bootstrap draw takes each sample `[resample, sample]`; the same for equal arguments."""
    generator = np.random.default_rng([seed, samples, resamples])
    return generator.multinomial(samples, np.full(samples, 1.0 / samples), size=resamples).astype(np.float32)


def interval(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper percentile bounds over the first axis of `draws`."""
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
    return low, high


def mean_interval(values: FloatArray, *, level: float, resamples: int, seed: int) -> tuple[float, float, float]:
    """Return the mean of a sample and its bootstrap interval; NaN for an empty one, and for bounds without resamples."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    if not resamples:
        return float(np.mean(values)), float("nan"), float("nan")
    draws = resample_counts(len(values), resamples, seed) @ np.asarray(values, dtype=np.float64) / len(values)
    low, high = interval(draws, level)
    return float(np.mean(values)), float(low), float(high)
