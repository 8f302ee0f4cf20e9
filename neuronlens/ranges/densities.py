"""Class-conditional densities of every (concept, neuron), evaluated in log space at any point of any neuron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from neuronlens.errors import ConfigError, unknown
from neuronlens.records import FloatArray, IntArray

BANDWIDTHS = ("scott", "silverman")
# A concept that is constant in a neuron that is not becomes a spike of this many of the neuron's standard deviations.
STD_FLOOR = 1e-3
# Points at which a law's shape is likely to turn, in standard deviations around each of its centres.
LANDMARKS = np.arange(-3.0, 4.0)
LANDMARK_QUANTILES = np.linspace(0, 1, 9)
# Kernel values held at a time, float64.
KERNEL_ELEMENTS = 2_000_000


class Density(Protocol):
    """What a posterior is made of; concepts are counted among those fitted."""

    def log_density(self, points: FloatArray, neurons: IntArray) -> FloatArray:
        """Return log p(point given concept) `[concept, point]` at `points [point]`, each of its neuron `[point]`."""

    def landmarks(self, neurons: IntArray) -> FloatArray:
        """Return points `[landmark, neuron]` that a grid should not miss."""


class GaussianMixtures(NamedTuple):
    """Gaussian mixtures `[concept, component, neuron]`, float64: weights that sum to 1, means, standard deviations > 0."""

    weights: FloatArray
    means: FloatArray
    std: FloatArray

    def log_density(self, points: FloatArray, neurons: IntArray) -> FloatArray:
        """Return log p(point given concept) `[concept, point]`."""
        weights, means, std = (part[..., neurons] for part in self)
        with np.errstate(divide="ignore"):
            terms = np.log(weights / (std * np.sqrt(2 * np.pi))) - 0.5 * ((points - means) / std) ** 2
        return log_sum_exp(terms, axis=1)

    def landmarks(self, neurons: IntArray) -> FloatArray:
        """Return each component's mean and its first three standard deviations `[landmark, neuron]`."""
        means, std = self.means[..., neurons], self.std[..., neurons]
        return (means + LANDMARKS[:, None, None, None] * std).reshape(-1, len(neurons))


class Kernels(NamedTuple):
    """Kernel density estimates with Gaussian kernels.

    Attributes:
        samples: of each concept `[sample, neuron]`.
        bandwidths: `[concept, neuron]`, above 0.
    """

    samples: Sequence[FloatArray]
    bandwidths: FloatArray

    def log_density(self, points: FloatArray, neurons: IntArray) -> FloatArray:
        """Return log p(point given concept) `[concept, point]`, the mean of the kernels around the concept's samples."""
        result = np.empty((len(self.samples), len(points)))
        for concept, samples in enumerate(self.samples):
            room = max(KERNEL_ELEMENTS // len(samples), 1)
            for begin in range(0, len(points), room):
                part = slice(begin, begin + room)
                bandwidth = self.bandwidths[concept, neurons[part]]
                terms = (points[part] - samples[:, neurons[part]]) / bandwidth
                terms *= -0.5 * terms
                scale = len(samples) * bandwidth * np.sqrt(2 * np.pi)
                result[concept, part] = log_sum_exp(terms, axis=0) - np.log(scale)
        return result

    def landmarks(self, neurons: IntArray) -> FloatArray:
        """Return quantiles of every concept's samples `[landmark, neuron]`."""
        return np.concatenate([np.quantile(part[:, neurons], LANDMARK_QUANTILES, axis=0) for part in self.samples])


def fit_gaussians(samples: Sequence[FloatArray]) -> GaussianMixtures:
    """Return one Gaussian (mean, standard deviation with ddof 0) per concept's `samples [sample, neuron]` and neuron."""
    means = np.stack([part.mean(axis=0) for part in samples])
    std = floored(np.stack([part.std(axis=0) for part in samples]), samples)
    return GaussianMixtures(np.ones_like(means)[:, None], means[:, None], std[:, None])


def fit_kernels(samples: Sequence[FloatArray], bandwidth: str = "scott") -> Kernels:
    """Return kernel density estimates of every concept's `samples [sample, neuron]`, as `scipy.stats.gaussian_kde`.

    The bandwidth is the standard deviation (ddof 1) times n^(-1/5) (`scott`) or (3 n / 4)^(-1/5) (`silverman`).

    Raises:
        ConfigError: the bandwidth's name is unknown.
    """
    if bandwidth not in BANDWIDTHS:
        raise ConfigError(unknown("range.bandwidth", bandwidth, BANDWIDTHS))
    counts = np.array([len(part) for part in samples])
    factor = (counts * (0.75 if bandwidth == "silverman" else 1.0)) ** -0.2
    std = floored(np.stack([part.std(axis=0, ddof=1) for part in samples]), samples)
    return Kernels(samples, factor[:, None] * std)


def histograms(samples: Sequence[FloatArray], bins: int) -> tuple[FloatArray, IntArray]:
    """Return edges `[bin + 1, neuron]`, shared by all concepts, and counts `[concept, bin, neuron]`.

    The bins are of equal width over the span of all samples; each holds its lower edge, the last one both, and a neuron
    that is constant gets a span of 1 around it: `numpy.histogram`.
    """
    low = np.min([part.min(axis=0) for part in samples], axis=0)
    high = np.max([part.max(axis=0) for part in samples], axis=0)
    flat = low == high
    low, high = np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high)
    edges = np.linspace(low, high, bins + 1, axis=0)
    neurons = low.shape[0]
    counts = np.empty((len(samples), bins, neurons), dtype=np.int64)
    for concept, part in enumerate(samples):
        place = np.clip(((part - low) / (high - low) * bins).astype(np.int64), 0, bins - 1)
        # The division rounds; the edges decide.
        place -= part < np.take_along_axis(edges, place, axis=0)
        place += (part >= np.take_along_axis(edges, place + 1, axis=0)) & (place < bins - 1)
        flat_place = (place * neurons + np.arange(neurons)).ravel()
        counts[concept] = np.bincount(flat_place, minlength=bins * neurons).reshape(bins, neurons)
    return edges, counts


def floored(std: FloatArray, samples: Sequence[FloatArray]) -> FloatArray:
    """Return standard deviations `[concept, neuron]` of at least `STD_FLOOR` of the neuron's own over all samples.

    In a neuron that is constant over everything they are 1: no concept differs from another there, whatever the value.
    """
    everything = np.concatenate(list(samples))
    constant = np.ptp(everything, axis=0) == 0
    return np.where(constant, 1.0, np.maximum(std, STD_FLOOR * everything.std(axis=0)))


def log_sum_exp(terms: FloatArray, axis: int) -> FloatArray:
    """Return log sum exp of `terms` along an axis where each has a finite largest term; `terms` is used up."""
    top = terms.max(axis=axis, keepdims=True)
    terms -= top
    return np.asarray(np.log(np.exp(terms, out=terms).sum(axis=axis)) + top.squeeze(axis))
