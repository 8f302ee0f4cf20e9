"""How means get their intervals: one record, made from the config, that every table and figure asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from neuronlens.config.schema import Config
from neuronlens.records import FloatArray

ENDS = ("", "_low", "_high")
"""What the columns of an estimate end in: the mean, and the two bounds of its interval."""


class Estimate(NamedTuple):
    """A mean and the bounds of its interval; NaN bounds where there is none."""

    mean: float
    low: float
    high: float

    def columns(self, name: str) -> dict[str, float]:
        """Return the estimate as columns of a table: `name`, `name_low` and `name_high`.

        >>> Estimate(0.2, 0.1, 0.3).columns("drop")
        {'drop': 0.2, 'drop_low': 0.1, 'drop_high': 0.3}
        """
        return {name + end: value for end, value in zip(ENDS, self, strict=True)}


NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Bootstrap:
    """Percentile bootstrap intervals.

    Attributes:
        level: share of such intervals that hold the true mean, in (0, 1).
        resamples: number of draws; 0 makes no interval, and every bound is NaN.
        seed: of the draws; equal settings give equal draws.
    """

    level: float
    resamples: int
    seed: int

    @classmethod
    def of(cls, config: Config) -> Bootstrap:
        """Return the settings of a config."""
        return cls(config.evaluation.level, config.evaluation.bootstrap, config.seed)

    @property
    def percent(self) -> str:
        """The level in words, empty where no interval is made.

        >>> Bootstrap(0.95, 1000, 0).percent, Bootstrap(0.999, 1000, 0).percent, Bootstrap(0.95, 0, 0).percent
        ('95 %', '99.9 %', '')
        """
        return f"{100 * self.level:g} %" if self.resamples else ""

    def heading(self, text: str) -> str:
        """Return a heading that names the level, or the plain text where no interval is made.

        >>> Bootstrap(0.9, 1000, 0).heading("difference"), Bootstrap(0.9, 0, 0).heading("difference")
        ('difference [90 %]', 'difference')
        """
        return f"{text} [{self.percent}]" if self.resamples else text

    def off(self) -> Bootstrap:
        """Return settings that make no interval."""
        return replace(self, resamples=0)

    def counts(self, samples: int) -> FloatArray:
        """Return how often each draw takes each sample `[resample, sample]`, float32; the same for equal arguments."""
        if not samples:
            return np.zeros((self.resamples, 0), dtype=np.float32)
        generator = np.random.default_rng([self.seed, samples, self.resamples])
        return generator.multinomial(samples, np.full(samples, 1.0 / samples), size=self.resamples).astype(np.float32)

    def bounds(self, draws: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the lower and upper bound over the first axis of `draws`; NaN where there is no draw."""
        if not len(draws):
            nothing = np.full(draws.shape[1:], np.nan)
            return nothing, nothing
        tail = 50.0 * (1.0 - self.level)
        low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
        return low, high

    def of_mean(self, values: FloatArray) -> Estimate:
        """Return the mean of independent values `[value]` with its interval; NaN for no value."""
        values = np.asarray(values)
        if not len(values):
            return NOTHING
        low, high = self.of_means(values)
        return Estimate(float(np.mean(values)), float(low), float(high))

    def of_concepts(self, values: FloatArray) -> Estimate:
        """Return the mean of one value per concept with its interval; no interval over fewer than two concepts.

        The bootstrap of a single value would be an interval of no width, which looks like certainty.
        """
        values = np.asarray(values, dtype=np.float64)
        return self.of_mean(values) if len(values) > 1 else self.off().of_mean(values)

    def of_means(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the bounds of the mean over the first axis of `values`: of one mean, or of each column's `[column]`."""
        draws = self.counts(len(values)) @ np.asarray(values, dtype=np.float64) / max(len(values), 1)
        return self.bounds(draws)

    def of_pairs(self, square: FloatArray) -> Estimate:
        """Return the mean over pairs of different concepts with its interval, concepts (not pairs) being resampled.

        Pairs that share a concept are not independent, so each draw takes concepts with replacement and means over the
        pairs among them; a concept drawn twice makes no pair with itself. There is no interval over fewer than three.

        Args:
            square: symmetric `[concept, concept]`; the diagonal is not read.
        """
        concepts = len(square)
        if concepts < 2:
            return NOTHING
        apart = np.where(np.eye(concepts, dtype=bool), 0.0, square)
        mean = float(apart.sum() / (concepts * (concepts - 1)))
        if concepts < 3 or not self.resamples:
            return Estimate(mean, float("nan"), float("nan"))
        drawn = self.counts(concepts).astype(np.float64)
        pairs = drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)
        sums = np.einsum("ri,ij,rj->r", drawn, apart, drawn)
        low, high = self.bounds(sums[pairs > 0] / pairs[pairs > 0])
        return Estimate(mean, float(low), float(high))
