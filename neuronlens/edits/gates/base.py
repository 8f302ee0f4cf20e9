"""What a gate is: where an edit may act, decided value by value, position by position or sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from neuronlens.config.schema import WHOLE_VECTORS
from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.intervals import Intervals
from neuronlens.records import ActivationSet, BoolArray, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from neuronlens.hooks.tokens import Over, Tokens

Grain = Literal["value", "position", "sample"]


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


class Decides(Protocol):
    """What a gate gives where a `Score` is not enough; every one is a `gates.decisions.Decision`, which imports torch."""

    @property
    def over(self) -> Over | None:
        """What it takes a mean of, at the grain `sample`; None where each position decides for itself."""
        ...

    @property
    def soft(self) -> bool:
        """Whether it is open by a share."""
        ...

    def scores(self, values: FloatArray) -> FloatArray:
        """Return the scores `[sample]` of record vectors `[sample, neuron]`, float64."""
        ...

    def opened(self, values: Tensor, tokens: Tokens | None, place: int) -> Tensor:
        """Return how far it is open `[sample, position]`."""
        ...


class Gate(Protocol):
    """Where an edit may act.

    Its parameters are its constructor's keyword-only arguments; they enter the cell's id and the results by themselves. A
    module that holds one imports no torch, SciPy or scikit-learn at its top: a config is checked without them.

    Attributes:
        grain: `value`, one decision per neuron; `position`, one for a sample's whole vector at a position; `sample`, one
            from the mean of a sample's tokens; None, no decision: open everywhere. Edits that mix neurons are combined
            with the latter three alone.
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

    def opening(self, evidence: Evidence) -> Intervals | Score | Decides:
        """Return where the gate is open: intervals `[interval, neuron]` where it decides by value or not at all.

        A `Score` or another decision where it decides by position, a `Decision` over the sample's mean where by sample.

        Raises:
            ActivationError: the evidence gives none; the cell is skipped with the message as its reason.
        """
        ...


def whole_vector_grain(grain: str) -> Grain:
    """Return a grain at which whole vectors are decided for, `position` or `sample`.

    Raises:
        ConfigError: another word.
    """
    if grain not in WHOLE_VECTORS:
        raise ConfigError(unknown("grain", grain, WHOLE_VECTORS))
    found: Grain = "sample" if grain == "sample" else "position"
    return found
