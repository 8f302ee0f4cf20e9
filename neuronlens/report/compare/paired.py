"""Means over concepts with bootstrap intervals, for whatever holds runs, methods or claims against each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuronlens.config.schema import Config
from neuronlens.measures.intervals import interval, mean_interval, resample_counts
from neuronlens.records import FloatArray

ENDS = ("", "_low", "_high")
Estimate = tuple[float, float, float]
"""A mean and the bounds of its interval; NaN bounds where there is none."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals over concepts are made: their level, the number of resamples (0 for none) and the seed."""

    level: float
    resamples: int
    seed: int

    @classmethod
    def of(cls, config: Config) -> Bootstrap:
        """Return the choices of a run's config."""
        return cls(config.evaluation.level, config.evaluation.bootstrap, config.seed)

    def over(self, values: FloatArray) -> Estimate:
        """Return the mean of one value per concept and its interval; no interval over fewer than two concepts.

        The bootstrap of a single value would be an interval of no width, which looks like certainty.
        """
        values = np.asarray(values, dtype=np.float64)
        resamples = self.resamples if len(values) > 1 else 0
        return mean_interval(values, level=self.level, resamples=resamples, seed=self.seed)

    def over_pairs(self, square: FloatArray) -> Estimate:
        """Return the mean over pairs of different concepts and its interval, concepts (not pairs) being resampled.

        Pairs that share a concept are not independent, so each draw takes concepts with replacement and means over the
        pairs among them; a concept drawn twice makes no pair with itself.

        Args:
            square: symmetric `[concept, concept]`; the diagonal is not read.
        """
        concepts = len(square)
        if concepts < 2:
            return float("nan"), float("nan"), float("nan")
        apart = np.where(np.eye(concepts, dtype=bool), 0.0, square)
        mean = float(apart.sum() / (concepts * (concepts - 1)))
        if concepts < 3 or not self.resamples:
            return mean, float("nan"), float("nan")
        drawn = resample_counts(concepts, self.resamples, self.seed).astype(np.float64)
        pairs = drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)
        sums = np.einsum("ri,ij,rj->r", drawn, apart, drawn)
        low, high = interval(sums[pairs > 0] / pairs[pairs > 0], self.level)
        return mean, float(low), float(high)
