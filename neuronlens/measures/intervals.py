"""How estimates get their intervals: one record, made from the config, that every table and figure asks.

Where a formula exists it is used (`measures.estimates`), and nothing is drawn. Documents are resampled for a perplexity,
which is a ratio of sums without one; concepts together with samples in `measures.twoway`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from neuronlens.config.schema import Config
from neuronlens.measures.estimates import Estimate, of_difference, of_mean, of_paired_shares, of_pairs, of_share
from neuronlens.records import FloatArray


@dataclass(frozen=True)
class Bootstrap:
    """How estimates get their intervals.

    Attributes:
        level: share of the intervals that hold the true value, in (0, 1).
        resamples: number of draws where an interval is resampled; 0 makes no interval of any kind, and every bound is NaN.
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

    def of_mean(self, values: ArrayLike) -> Estimate:
        """Return means over the last axis of independent values; no interval below two (`estimates.of_mean`)."""
        return self._made(of_mean(values, self.level))

    def of_pairs(self, square: FloatArray) -> Estimate:
        """Return the mean over pairs of different concepts; no interval below three concepts (`estimates.of_pairs`)."""
        return self._made(of_pairs(square, self.level))

    def of_share(self, hits: ArrayLike, n: ArrayLike) -> Estimate:
        """Return shares of `n` (`estimates.of_share`)."""
        return self._made(of_share(hits, n, self.level))

    def of_paired_shares(self, lost: ArrayLike, gained: ArrayLike, n: ArrayLike) -> Estimate:
        """Return drops of a share between two readings of the same samples (`estimates.of_paired_shares`)."""
        return self._made(of_paired_shares(lost, gained, n, self.level))

    def of_difference(self, one: Estimate, other: Estimate) -> Estimate:
        """Return one estimate minus an independent other (`estimates.of_difference`)."""
        return self._made(of_difference(one, other))

    def counts(self, units: int) -> FloatArray:
        """Return how often each draw takes each unit `[resample, unit]`, float32; the same for equal arguments."""
        if not units:
            return np.zeros((self.resamples, 0), dtype=np.float32)
        generator = np.random.default_rng([self.seed, units, self.resamples])
        return generator.multinomial(units, np.full(units, 1.0 / units), size=self.resamples).astype(np.float32)

    def bounds(self, draws: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the percentile bounds over the first axis of `draws`; NaN where there is no draw."""
        if not len(draws):
            nothing = np.full(draws.shape[1:], np.nan)
            return nothing, nothing
        tail = 50.0 * (1.0 - self.level)
        low, high = np.percentile(draws, [tail, 100.0 - tail], axis=0)
        return low, high

    def _made(self, found: Estimate) -> Estimate:
        return found if self.resamples else Estimate.bare(found.value)
