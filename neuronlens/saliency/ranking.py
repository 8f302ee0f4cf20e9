"""A ranking of neurons, and how it picks the salient ones."""

from __future__ import annotations

import logging
import math
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neuronlens.errors import ActivationError
from neuronlens.records import BoolArray, FloatArray, IntArray

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NeuronRanking:
    """How strongly each neuron marks each concept.

    Attributes:
        name: the ranker's.
        scores: `[concept, neuron]` float64, higher is more salient.
        second: orders neurons of equal score, `[concept, neuron]`, higher first; None where there is no such score.
    """

    name: str
    scores: FloatArray
    concepts: tuple[str, ...]
    second: FloatArray | None = None

    @cached_property
    def order(self) -> IntArray:
        """Neuron indices `[concept, place]`, most salient first; ties by `second`, then by lot (TRAPS 40).

        Never by neuron index, which would be the same for every concept. The lot depends on the concept's name alone.
        """
        neurons = self.scores.shape[1]
        seeds = ([zlib.crc32(concept.encode()), neurons] for concept in self.concepts)
        lots = np.array([np.random.default_rng(seed).permutation(neurons) for seed in seeds])
        second = np.zeros_like(self.scores) if self.second is None else self.second
        return np.lexsort((lots.reshape(self.scores.shape), -second, -self.scores), axis=1)

    def ties_broken(self, count: int) -> IntArray:
        """Return how many of the first `count` neurons have the score of a neuron that is left out `[concept]`."""
        if not 0 < count < self.scores.shape[1]:
            return np.zeros(len(self.scores), dtype=np.int64)
        ordered = np.take_along_axis(self.scores, self.order, axis=1)
        tied = ordered[:, count - 1] == ordered[:, count]
        return np.asarray(tied * (ordered[:, :count] == ordered[:, [count]]).sum(axis=1))

    def selected(self, *, top_fraction: float | None = None, top_count: int | None = None) -> BoolArray:
        """Return which neurons are salient `[concept, neuron]`: the top floor(p D), or the top `top_count`.

        Raises:
            ActivationError: a count above the number of neurons, or neither or both given.
        """
        neurons = self.scores.shape[1]
        if (top_fraction is None) == (top_count is None):
            raise ActivationError("Give one of top_fraction and top_count.")
        count = math.floor(top_fraction * neurons) if top_fraction is not None else int(top_count or 0)
        if not 0 <= count <= neurons:
            raise ActivationError(f"top_count is {count}, expected 0 to {neurons}, the number of neurons.")
        self._name_ties(count)
        mask = np.zeros(self.scores.shape, dtype=bool)
        np.put_along_axis(mask, self.order[:, :count], True, axis=1)
        return mask

    @cached_property
    def _named(self) -> set[int]:
        """The counts whose ties the log has named: once each."""
        return set()

    def _name_ties(self, count: int) -> None:
        tied = self.ties_broken(count)
        if tied.any() and count not in self._named:
            self._named.add(count)
            log.warning(
                "Ranking '%s': %d of %d concepts have up to %d of their top %d neurons (%d in all) at the score of a neuron "
                "that is left out; %sthe lot decides. Next: fewer neurons, or a ranker without ties (saliency.l1=0).",
                *(self.name, int((tied > 0).sum()), len(tied), int(tied.max()), count, int(tied.sum())),
                "a second score (d') and then " if self.second is not None else "",
            )
