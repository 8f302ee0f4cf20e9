"""What a gate is: where an edit may act, decided value by value or position by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from neuronlens.ranges.intervals import Intervals
from neuronlens.records import ActivationSet, BoolArray, FloatArray

Grain = Literal["value", "position"]


@dataclass(frozen=True)
class Evidence:
    """What a gate may look at, for one concept at one site.

    Attributes:
        activations: of the fit split, under the cell's labelling; `concept` is an index into their concepts.
        salient: which neurons are salient `[neuron]`; all of them where nothing is ranked.
        intervals: the concept's range `[interval, neuron]`, for a gate that reads one; None for the others.
        select: activations of the select split, for a gate that needs it; None for the others.
    """

    activations: ActivationSet
    concept: int
    salient: BoolArray
    intervals: Intervals | None = None
    select: ActivationSet | None = None


@dataclass(frozen=True)
class Score:
    """A position's score, a quadratic in x without cross terms: the gate is open where it is above 0, up to a ceiling.

    Attributes:
        quadratic, linear: `[neuron]` float64, 0 for neurons that play no part.
        constant: the rest of the sum; +inf opens the gate everywhere.
        ceiling: the largest score at which the gate is open; +inf where a larger one never closes it.
    """

    quadratic: FloatArray
    linear: FloatArray
    constant: float
    ceiling: float = np.inf

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return sum_j quadratic_j x_j^2 + linear_j x_j + constant for `[sample, neuron]`, float64 `[sample]`."""
        wide = np.asarray(values, dtype=np.float64)
        return wide**2 @ self.quadratic + wide @ self.linear + self.constant


class Gate(Protocol):
    """Where an edit may act.

    Its parameters are its constructor's keyword-only arguments; they enter the cell's id and the results by themselves. A
    module that holds one imports no torch, SciPy or scikit-learn at its top: a config is checked without them.

    Attributes:
        grain: `value`, one decision per neuron; `position`, one for a sample's whole vector at a position; None, no
            decision: open everywhere. Edits that mix neurons are combined with the latter two alone.
        reads_range: whether it looks at the concept's range; without one the cell has no range and no tau.
        reads_ranking: whether it looks at which neurons are salient. (An edit that does not mix neurons always acts on
            the salient ones alone.)
        needs_select: whether it chooses something on the select split.
        reads_covariance: whether it reads `activations.second`, which is then streamed over all tokens that are fitted on.
    """

    grain: Grain | None
    reads_range: bool
    reads_ranking: bool
    needs_select: bool
    reads_covariance: bool = False

    def opening(self, evidence: Evidence) -> Intervals | Score:
        """Return where the gate is open: intervals `[interval, neuron]`, or a `Score` where it decides by position.

        Raises:
            ActivationError: the evidence gives none; the cell is skipped with the message as its reason.
        """
        ...
