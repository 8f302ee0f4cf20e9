"""What a range is fitted by: intervals of every neuron for every concept, at one width or at several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from neuronlens.records import ActivationRanges, ActivationSet


class RangeEstimator(Protocol):
    """Fits intervals of activation that speak for a concept.

    Its parameters are its constructor's keyword-only arguments; they enter the cell's id by themselves. Where `tau` is
    among them it is a knob that a run sweeps, and the estimator is a `WidthEstimator`. A module that holds one imports no
    torch, SciPy or scikit-learn at its top: a config is checked without them.
    """

    def fit(self, activations: ActivationSet) -> ActivationRanges:
        """Return `lower, upper [concept, interval, neuron]`; a concept that cannot be fitted is in `skipped`.

        Args:
            activations: of the fit split; not modified.

        Raises:
            ActivationError: these activations give none; cells with this range are skipped with the message.
        """
        ...


class WidthEstimator(RangeEstimator, Protocol):
    """Fits ranges of any width around what it fitted once.

    Attributes:
        tau: the width that is fitted where none is swept.
    """

    tau: float

    def fit(self, activations: ActivationSet) -> ActivationRanges:
        """Return the ranges of the estimator's own width."""
        return self.fit_widths(activations, [self.tau])[0]

    def fit_widths(self, activations: ActivationSet, taus: Sequence[float]) -> list[ActivationRanges]:
        """Return the ranges of several widths from one fit, in the order of `taus`; inf is the whole neuron."""
        ...
