"""The gate of a shrunk linear discriminant over all concepts: open where the concept's posterior is high enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from neuronlens.config.rules import OneOf
from neuronlens.config.schema import COVARIANCES, WHOLE_VECTORS
from neuronlens.edits.gates.base import Decides, Evidence, Gate, whole_vector_grain
from neuronlens.edits.gates.joint import best_threshold, chosen_on
from neuronlens.edits.shrinkage import shrinkage_within, whitened
from neuronlens.errors import ActivationError, ConfigError, unknown
from neuronlens.records import ActivationSet, FloatArray, SecondMoments

Classes = tuple[FloatArray, FloatArray, list[int]]
"""Weights `[class, neuron]` and biases `[class]` of linear scores, and which concepts the classes are."""


class LdaGate(Gate):
    """Open where log p(c | x) - log (1 - p(c | x)) exceeds a threshold, p of Gaussians with one covariance for all concepts.

    p(c | x) is the softmax of mu_c' S^-1 x - mu_c' S^-1 mu_c / 2 + log p_c, S the covariance about the concepts' own means.
    The threshold separates the concept from the rest best on the select split, as the joint gate's does.
    """

    reads_range = False
    reads_ranking = False
    needs_select = True

    def __init__(
        self,
        *,
        grain: Annotated[str, OneOf(WHOLE_VECTORS)] = "position",
        covariance: Annotated[str, OneOf(COVARIANCES)] = "ledoit_wolf",
    ) -> None:
        """Decide for each position, or for each sample from the mean of its tokens.

        Args:
            covariance: how S is estimated.

        Raises:
            ConfigError: another grain, or an unknown covariance.
        """
        if covariance not in COVARIANCES:
            raise ConfigError(unknown("covariance", covariance, COVARIANCES))
        self.grain, self.covariance = whole_vector_grain(grain), covariance
        self._latest: tuple[ActivationSet, Classes] | None = None

    def opening(self, evidence: Evidence) -> Decides:
        """Return the log-odds minus their threshold.

        Raises:
            ActivationError: the concept or all others have no sample to fit on or to choose on.
        """
        import torch  # here, so that a config is checked without it

        from neuronlens.edits.gates.decisions import LogOdds

        select, member = chosen_on(evidence)
        weights, bias, classes = self._classes(evidence.activations)
        if evidence.concept not in classes or len(classes) < 2:
            raise ActivationError("a discriminant needs samples of the concept and of at least one other")
        over = "so_far" if self.grain == "sample" else None
        own = classes.index(evidence.concept)
        odds = LogOdds(torch.from_numpy(weights), torch.from_numpy(bias), own, 0.0, over=over)  # type: ignore[arg-type]
        return replace(odds, threshold=best_threshold(odds.scores(select.values), member))

    def _classes(self, activations: ActivationSet) -> Classes:
        """Return the linear scores, kept for the next concept of the same activations."""
        if self._latest is None or self._latest[0] is not activations:
            self._latest = activations, linear_discriminant(activations, self.covariance)
        return self._latest[1]


def linear_discriminant(activations: ActivationSet, covariance: str) -> Classes:
    """Return the linear scores whose softmax is the posterior under Gaussians with one covariance.

    Raises:
        ActivationError: no neuron varies within a concept.
    """
    statistics = activations.statistics
    classes = [int(concept) for concept in np.flatnonzero(statistics.count)]
    means = statistics.mean[classes]
    within = SecondMoments.of(activations.values.astype(np.float64) - statistics.mean[activations.labels])
    weights = whitened(within, shrinkage_within(within, activations, covariance)).solve(means.T).T
    shares = statistics.count[classes] / statistics.count.sum()
    bias: FloatArray = np.log(shares) - (weights * means).sum(axis=1) / 2
    return weights, bias, classes
