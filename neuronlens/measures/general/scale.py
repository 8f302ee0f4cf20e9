"""The scale on which a measure of general ability is averaged and compared: perplexities by their logarithm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuronlens.records import FloatArray


class MeasureScale(NamedTuple):
    """Whether a measure is averaged by its logarithm.

    A mask that breaks the model takes its perplexity to any height, and one concept would be the whole arithmetic mean.
    """

    by_log: bool

    @classmethod
    def of(cls, measure: str) -> MeasureScale:
        """Return the scale of a measure by its name.

        >>> MeasureScale.of("perplexity").by_log, MeasureScale.of("mmlu_accuracy").by_log
        (True, False)
        """
        return cls(measure.endswith("perplexity"))

    def to(self, values: FloatArray) -> FloatArray:
        """Return values as they are averaged."""
        return np.log(values) if self.by_log else values

    def back(self, values: float | FloatArray) -> float | FloatArray:
        """Return a mean as people read it."""
        return np.exp(values) if self.by_log else values
