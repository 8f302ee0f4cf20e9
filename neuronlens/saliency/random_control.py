"""The control of every comparison: neurons chosen by lot."""

from __future__ import annotations

import zlib
from typing import Annotated

import numpy as np

from neuronlens.config.rules import SEED
from neuronlens.errors import ConfigError
from neuronlens.records import ActivationSet, FloatArray, Site
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking


def uniform_scores(concepts: int, neurons: int, *, site: Site, seed: int) -> FloatArray:
    """Return scores uniform in [0, 1) `[concept, neuron]`: the same in every process, different at every site.

    >>> first = uniform_scores(2, 3, site=Site(0), seed=0)
    >>> bool((first == uniform_scores(2, 3, site=Site(0), seed=0)).all())
    True
    """
    # crc32, because Python's own hash of a string changes from process to process.
    entropy = (seed, site.layer, zlib.crc32(site.name.encode()))
    return np.random.default_rng(entropy).random((concepts, neurons))


class RandomSaliency(Ranker):
    """Scores neurons by lot (SPEC section 2, `random`)."""

    def __init__(self, *, seed: Annotated[int, SEED] = 0) -> None:
        """Draw with `seed`; 0 is a seed like any other.

        Raises:
            ConfigError: the seed is negative.
        """
        if seed < 0:
            raise ConfigError(f"saliency.seed is {seed}, expected a whole number >= 0.")
        self.seed = seed

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]` in [0, 1); NaN for a concept without samples."""
        count = activations.statistics.count
        scores = uniform_scores(len(count), activations.values.shape[1], site=activations.site, seed=self.seed)
        scores[count == 0] = np.nan
        return NeuronRanking("random", scores, activations.concepts)
