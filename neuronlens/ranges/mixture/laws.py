"""What is fitted: one Gaussian mixture per (concept, neuron)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuronlens.records import FloatArray, IntArray


@dataclass(frozen=True)
class MixtureLaws:
    """One mixture per (concept, neuron).

    Attributes:
        weights, means, variances: `[concept, component, neuron]` float64; components past a law's own number, and all of
            a concept that was not fitted, have weight 0, mean 0 and variance 1.
        components: how many each law has `[concept, neuron]`; 0 where it was not fitted.
        log_likelihood: mean log-density per sample `[concept, neuron]`, nats; NaN where it was not fitted.
        bic: of every number of components tried `[concept, components - 1, neuron]`, lower is better.
    """

    weights: FloatArray
    means: FloatArray
    variances: FloatArray
    components: IntArray
    log_likelihood: FloatArray
    bic: FloatArray

    @property
    def parts(self) -> dict[str, FloatArray]:
        """Weights, means and standard deviations `[concept, component, neuron]`, as `ActivationRanges` keeps them."""
        return {"weights": self.weights, "means": self.means, "stds": np.sqrt(self.variances)}

    def cdf(self, concept: int, values: FloatArray) -> FloatArray:
        """Return the probability of a value up to each of `values [sample, neuron]` under a concept's laws."""
        from scipy.special import ndtr

        std = np.sqrt(self.variances[concept])
        below = ndtr((values[:, None] - self.means[concept]) / std)
        return np.asarray((self.weights[concept] * below).sum(axis=1))
