"""What a ranker is: a score of every neuron for every concept."""

from __future__ import annotations

from typing import Protocol

from neuronlens.records import ActivationSet
from neuronlens.saliency.ranking import NeuronRanking


class Ranker(Protocol):
    """Scores neurons by how strongly they mark a concept.

    Its parameters are its constructor's keyword-only arguments; they enter the cell's id by themselves. A module that
    holds one imports no torch, SciPy or scikit-learn at its top: a config is checked without them.
    """

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]` float64, higher is more salient; NaN for a concept without samples.

        Args:
            activations: of the fit split; not modified.

        Raises:
            ActivationError: these activations give none; cells with this ranking are skipped with the message.
        """
        ...
