"""What is fitted: one Gaussian mixture per (concept, neuron)."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def on_scale(self, scale: FloatArray, counts: IntArray) -> MixtureLaws:
        """Return the laws of the samples times `scale [neuron]`; `counts [concept]` is how many each was fitted on.

        log p(s x) = log p(x) - log s, and the BIC follows: + 2 n log s. Laws that were not fitted keep their variance of 1.
        """
        used = self.components[:, None] > np.arange(self.weights.shape[1])[:, None]
        return replace(
            self,
            means=self.means * scale,
            variances=np.where(used, self.variances * scale**2, self.variances),
            log_likelihood=self.log_likelihood - np.log(scale),
            bic=self.bic + 2 * counts[:, None, None] * np.log(scale),
        )

    def cdf(self, concept: int, values: FloatArray) -> FloatArray:
        """Return the probability of a value up to each of `values [sample, neuron]` under a concept's laws."""
        from scipy.special import ndtr

        std = np.sqrt(self.variances[concept])
        below = ndtr((values[:, None] - self.means[concept]) / std)
        return np.asarray((self.weights[concept] * below).sum(axis=1))
