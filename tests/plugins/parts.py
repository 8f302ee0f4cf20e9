"""Parts that a user might write in a package of his own: a ranker, a range, two gates and two edits, with parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronlens.edits.base import Affine, Projection
from neuronlens.edits.gates.base import Evidence, Score
from neuronlens.ranges.intervals import Intervals
from neuronlens.records import ActivationRanges, ActivationSet
from neuronlens.saliency.ranking import NeuronRanking


class Mirror:
    """T(x) = -gain x."""

    mixes_neurons = False

    def __init__(self, *, gain: float = 1.0) -> None:
        self.gain = gain

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        neurons = activations.values.shape[1]
        return Affine(np.full(neurons, -self.gain), np.zeros(neurons))


class MirrorAround(Mirror):
    """T(x) = around - gain (x - around): `Mirror` in a later version, which has one parameter more."""

    def __init__(self, *, gain: float = 1.0, around: float = 0.0) -> None:
        super().__init__(gain=gain)
        self.around = around

    def target(self, activations: ActivationSet, concept: int) -> Affine:
        target = super().target(activations, concept)
        return Affine(target.scale, target.shift + (1 + self.gain) * self.around)


class ForgetNeuron:
    """P(x) = x without one neuron, declared as an edit of the whole vector."""

    mixes_neurons = True

    def __init__(self, *, neuron: int = 0) -> None:
        self.neuron = neuron

    def target(self, activations: ActivationSet, concept: int) -> Projection:
        direction = np.eye(activations.values.shape[1])[[self.neuron]]
        return Projection(np.zeros(activations.values.shape[1]), direction, direction)


class AboveGate:
    """Open for values above a threshold, whatever the concept's range is."""

    grain = "value"
    reads_range = False
    reads_ranking = False
    needs_select = False

    def __init__(self, *, threshold: float) -> None:
        self.threshold = threshold

    def opening(self, evidence: Evidence) -> Intervals:
        neurons = len(evidence.salient)
        return np.full((1, neurons), self.threshold), np.full((1, neurons), np.inf)


class SumGate:
    """Open where the salient neurons' sum is above its mean over the concept's samples."""

    grain = "position"
    reads_range = False
    reads_ranking = True
    needs_select = False

    def opening(self, evidence: Evidence) -> Score:
        linear = evidence.salient.astype(float)
        own = evidence.activations.values[evidence.activations.labels == evidence.concept]
        return Score(np.zeros_like(linear), linear, -float((own.astype(float) @ linear).mean()))


class SpreadSaliency:
    """Scores a neuron by the deviation over the concept's samples, or by its inverse."""

    def __init__(self, *, inverse: bool = False) -> None:
        self.inverse = inverse

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        spread = activations.statistics.std
        return NeuronRanking("spread", -spread if self.inverse else spread, activations.concepts)


class MedianRange:
    """[median - tau scale, median + tau scale] of the concept's samples."""

    def __init__(self, *, tau: float = 1.0, scale: float = 0.5) -> None:
        self.tau, self.scale = tau, scale

    def fit(self, activations: ActivationSet) -> ActivationRanges:
        return self.fit_widths(activations, [self.tau])[0]

    def fit_widths(self, activations: ActivationSet, taus: Sequence[float]) -> list[ActivationRanges]:
        concepts = range(len(activations.concepts))
        values = [activations.values[activations.labels == concept].astype(float) for concept in concepts]
        centre = np.stack([np.median(own, axis=0) for own in values])[:, None]
        return [
            ActivationRanges(
                *("median", tau, centre - tau * self.scale, centre + tau * self.scale),
                *(activations.concepts, activations.statistics),
            )
            for tau in taus
        ]


class NoEdit:
    """Looks like an edit and says nothing of mixing neurons."""

    target = None
