"""Ranges where a concept is likely given the activation: {x : p(c given x) >= theta}."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import SEED, OneOf, at_least, between
from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.base import RangeEstimator
from neuronlens.ranges.crossings import likely_intervals
from neuronlens.ranges.densities import (
    BANDWIDTHS,
    Density,
    GaussianMixtures,
    fit_gaussians,
    fit_kernels,
    histograms,
)
from neuronlens.ranges.diagnostics.normality import Cdf, describe, normal_cdf
from neuronlens.ranges.intervals import EMPTY, Intervals, merge
from neuronlens.ranges.mixture.settings import MixtureSettings
from neuronlens.records import ActivationRanges, ActivationSet, FloatArray, IntArray

DENSITIES = ("gaussian", "mixture", "kde", "histogram")
PRIORS = ("empirical", "uniform")
MIN_SAMPLES = 2


class PosteriorRange(RangeEstimator):
    """The range is {x : p(c given x) >= theta}, p(c given x) = prior_c p(x given c) / sum over concepts of the same.

    The densities are a Gaussian, a Gaussian mixture (`MixtureFitter`), a kernel estimate or a histogram per concept. For
    all but the histogram, the set is found on a grid and each crossing refined by bisection, to float64, in log space. The
    grid has `grid` even steps over the span of the data and as much on either side, points around every component, and
    growing steps from there out to a million spans, so crossings far out in the tails are found; an interval that still
    holds there is infinite. So a tail belongs to whom the densities give it: for Gaussians, to the largest variance.
    Between grid points, turning points of the posterior near theta are searched for; only what turns twice between two
    grid points can be missed.

    A histogram's posterior is constant between edges and its crossings are edges; where no concept has a sample, no
    concept's range is. Bounds are included, so an edge between two concepts belongs to both.
    """

    def __init__(
        self,
        *,
        theta: Annotated[float, between(0, 1, "()", noun="a probability")] = 0.5,
        density: Annotated[str, OneOf(DENSITIES)] = "gaussian",
        priors: Annotated[str, OneOf(PRIORS)] = "empirical",
        grid: Annotated[int, at_least(2, most=1_000_000)] = 512,
        bandwidth: Annotated[str, OneOf(BANDWIDTHS)] = "scott",
        bins: Annotated[int, at_least(1, most=1_000_000)] = 32,
        max_components: Annotated[int, at_least(1, most=100)] = 3,
        seed: Annotated[int, SEED] = 0,
    ) -> None:
        """Fit ranges in which the posterior is `theta` or more.

        Args:
            theta: in (0, 1); above 0.5 the ranges of two concepts share at most a bound.
            density: `gaussian`, `mixture`, `kde` or `histogram`.
            priors: `empirical` (a concept's share of the samples) or `uniform`.
            grid: points of the even part of the grid.
            bandwidth: of `kde`, `scott` or `silverman`.
            bins: of `histogram`, over the span of all concepts.
            max_components, seed: of `mixture`.

        Raises:
            ConfigError: an unknown name, or a number out of its range.
        """
        for kind, name, known in (
            ("range.density", density, DENSITIES),
            ("range.priors", priors, PRIORS),
            ("range.bandwidth", bandwidth, BANDWIDTHS),
        ):
            if name not in known:
                raise ConfigError(unknown(kind, name, known))
        if not 0 < theta < 1:
            raise ConfigError(f"range.theta is {theta}, expected a probability in (0, 1).")
        for kind, number, least in (("grid", grid, 2), ("bins", bins, 1)):
            if number < least:
                raise ConfigError(f"range.{kind} is {number}, expected at least {least}.")
        self.theta, self.density, self.priors = float(theta), density, priors
        self.grid, self.bandwidth, self.bins = grid, bandwidth, bins
        self.mixture = MixtureSettings(max_components=max_components, seed=seed)

    def fit(self, activations: ActivationSet) -> ActivationRanges:
        """Return disjoint intervals per (concept, neuron), as many as the posterior has runs above theta.

        A concept with too few samples for its density (two, or two per mixture component) is skipped: its range is empty,
        and it takes no part in the others' posteriors.
        """
        counts = np.bincount(activations.labels, minlength=len(activations.concepts))
        least = self.mixture.min_samples if self.density == "mixture" else MIN_SAMPLES
        fitted = np.flatnonzero(counts >= least)
        skipped = {
            int(concept): f"{counts[concept]} samples to fit a density on, expected at least {least}"
            for concept in np.flatnonzero(counts < least)
        }
        shape = (len(counts), 1, activations.values.shape[1])
        lower, upper = np.full(shape, EMPTY[0]), np.full(shape, EMPTY[1])
        cdf = normal_cdf(activations.statistics)
        components: dict[str, FloatArray] = {}
        if len(fitted):
            prior = counts[fitted] if self.priors == "empirical" else np.ones(len(fitted))
            (low, high), cdf, components = self._solve(activations, fitted, np.log(prior / prior.sum()), cdf)
            lower, upper = (np.repeat(bound, low.shape[1], axis=1) for bound in (lower, upper))
            lower[fitted], upper[fitted] = low, high
        return ActivationRanges(
            name="posterior",
            tau=None,
            lower=lower,
            upper=upper,
            concepts=activations.concepts,
            statistics=activations.statistics,
            skipped=skipped,
            law=describe(activations, cdf),
            components=components,
        )

    def _solve(
        self, activations: ActivationSet, fitted: IntArray, log_prior: FloatArray, gaussian_cdf: Cdf
    ) -> tuple[Intervals, Cdf, dict[str, FloatArray]]:
        """Return the fitted concepts' intervals, the law that goodness of fit is measured against, a mixture's components.

        A kernel estimate and a histogram assume no law: theirs is the Gaussian.
        """
        samples = [activations.values[activations.labels == concept].astype(np.float64) for concept in fitted]
        if self.density == "histogram":
            edges, counts = histograms(samples, self.bins)
            return likely_bins(edges, counts, log_prior, self.theta), gaussian_cdf, {}
        density: Density
        components: dict[str, FloatArray] = {}
        if self.density == "mixture":
            from neuronlens.ranges.mixture.fitter import MixtureFitter  # torch, which checking a config does without

            laws = MixtureFitter.of(self.mixture).fit(activations.values, activations.labels, len(activations.concepts))
            density = GaussianMixtures(laws.weights[fitted], laws.means[fitted], np.sqrt(laws.variances[fitted]))
            gaussian_cdf, components = laws.cdf, laws.parts
        elif self.density == "kde":
            density = fit_kernels(samples, self.bandwidth)
        else:
            density = fit_gaussians(samples)
        return likely_intervals(density, samples, log_prior, self.theta, self.grid), gaussian_cdf, components


def likely_bins(edges: FloatArray, counts: IntArray, log_prior: FloatArray, theta: float) -> Intervals:
    """Return the merged bins in which the posterior is `theta` or more `[concept, interval, neuron]`.

    Args:
        edges: `[bin + 1, neuron]`.
        counts: `[concept, bin, neuron]`.
    """
    joint = np.exp(log_prior)[:, None, None] * counts / counts.sum(axis=1, keepdims=True)
    total = joint.sum(axis=0)
    inside = (total > 0) & (joint >= theta * total)
    return merge(np.where(inside, edges[:-1], EMPTY[0]), np.where(inside, edges[1:], EMPTY[1]))
