"""Ranges from a Gaussian mixture per (concept, neuron), its components counted by BIC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from neuronlens.config.containers import Nullable
from neuronlens.config.rules import SEED, TAU, Holding, OneOf, at_least, between, more_than
from neuronlens.errors import ConfigError
from neuronlens.ranges.base import WidthEstimator
from neuronlens.ranges.diagnostics.normality import describe
from neuronlens.ranges.intervals import EMPTY, WHOLE, merge
from neuronlens.ranges.mixture.settings import BACKENDS, INITS, MixtureSettings
from neuronlens.records import ActivationRanges, ActivationSet

JOBS = Holding(lambda count: count == -1 or 1 <= count <= 1024, "1 to 1,024, or -1 for all cores")


class MixtureRange(WidthEstimator):
    """The union over a mixture's components of [mu_k - tau sigma_k, mu_k + tau sigma_k], overlaps merged.

    Components lighter than `w_min` are left out. The mixture is chosen by BIC among 1 to `max_components` components; see
    `MixtureSettings` for how it is fitted. tau = inf is the whole neuron, and nothing is fitted for it.
    """

    def __init__(
        self,
        *,
        tau: Annotated[float, TAU] = 2.5,
        max_components: Annotated[int, at_least(1, most=100)] = 3,
        w_min: Annotated[float, between(0, 1, "[)", noun="a weight")] = 0.05,
        backend: Annotated[str, OneOf(BACKENDS)] = "batched",
        init: Annotated[str, OneOf(INITS)] = "quantile",
        restarts: Annotated[int, at_least(0, most=1000)] = 2,
        finalists: Annotated[int | None, Nullable(at_least(1, most=1000), "all starts")] = 1,
        variance_floor: Annotated[float, more_than(0, noun="a number")] = 1e-6,
        tol: Annotated[float, at_least(0, noun="a number")] = 1e-4,
        max_iter: Annotated[int, at_least(1, most=1_000_000)] = 200,
        seed: Annotated[int, SEED] = 0,
        n_jobs: Annotated[int, JOBS] = 1,
        device: str = "cpu",
    ) -> None:
        """Fit ranges of half-width `tau` standard deviations around each component of weight `w_min` or more.

        Raises:
            ConfigError: an unknown name, or a number out of its range.
        """
        if not tau >= 0:
            raise ConfigError(f"range.tau is {tau}, expected a number >= 0 (inf is the whole neuron).")
        if not 0 <= w_min < 1:
            raise ConfigError(f"range.w_min is {w_min}, expected a weight in [0, 1).")
        self.tau, self.w_min = float(tau), float(w_min)
        self.mixture = MixtureSettings(
            max_components=max_components,
            backend=backend,
            init=init,
            restarts=restarts,
            finalists=finalists,
            variance_floor=variance_floor,
            tol=tol,
            max_iter=max_iter,
            seed=seed,
            n_jobs=n_jobs,
            device=device,
        )

    def fit_widths(self, activations: ActivationSet, taus: Sequence[float]) -> list[ActivationRanges]:
        """Return up to `max_components` disjoint intervals per (concept, neuron) and width.

        A concept with fewer than two samples per component is skipped: its ranges are empty.
        """
        statistics, concepts = activations.statistics, len(activations.concepts)
        skipped = self.mixture.skipped(statistics.count)
        laws = None
        if not all(math.isinf(tau) for tau in taus):
            from neuronlens.ranges.mixture.fitter import MixtureFitter  # torch, which checking a config does without

            laws = MixtureFitter.of(self.mixture).fit(activations.values, activations.labels, concepts)
        law = {} if laws is None else describe(activations, laws.cdf)
        components = {} if laws is None else laws.parts
        fitted = []
        for tau in taus:
            if laws is None or math.isinf(tau):
                lower, upper = (np.full((concepts, 1, activations.values.shape[1]), bound) for bound in WHOLE)
                for concept in skipped:
                    lower[concept], upper[concept] = EMPTY
            else:
                half = tau * np.sqrt(laws.variances)
                heavy = (laws.weights >= self.w_min) & (laws.weights > 0)
                lower, upper = merge(
                    np.where(heavy, laws.means - half, EMPTY[0]), np.where(heavy, laws.means + half, EMPTY[1])
                )
            bounds = lower, upper
            fitted.append(
                ActivationRanges(
                    "mixture", float(tau), *bounds, activations.concepts, statistics, skipped, law, components
                )
            )
        return fitted
