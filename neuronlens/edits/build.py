"""Turns a ranking, ranges and a cell's knobs into the kernel's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuronlens.edits.gated import GatedEdit
from neuronlens.errors import ConfigError, unknown
from neuronlens.ranges.intervals import EMPTY, WHOLE
from neuronlens.records import ActivationRanges, BoolArray, ConceptStatistics, FloatArray, NeuronRanking

Affine = tuple[FloatArray, FloatArray]


def _zero(statistics: ConceptStatistics, concept: int) -> Affine:
    nothing = np.zeros(statistics.mean.shape[1])
    return nothing, nothing


def _mean(statistics: ConceptStatistics, concept: int) -> Affine:
    return np.zeros(statistics.mean.shape[1]), statistics.overall_mean


def _complement_mean(statistics: ConceptStatistics, concept: int) -> Affine:
    return np.zeros(statistics.mean.shape[1]), statistics.complement_mean[concept]


TARGETS: Mapping[str, Callable[[ConceptStatistics, int], Affine]] = {
    "zero": _zero,
    "mean": _mean,
    "complement_mean": _complement_mean,
}
"""Edit name -> (scale, shift) `[neuron]` of its target T(x) = scale * x + shift, for a concept's statistics."""


@dataclass(frozen=True)
class Knobs:
    """What a cell does, its concept apart. A knob that plays no part is None."""

    top_fraction: float | None
    top_count: int | None
    range: str | None
    tau: float | None
    gate: str
    edit: str
    strength: float


class EditBuilder:
    """Builds edits at one site from one ranking and the ranges fitted there, one per tau."""

    def __init__(self, ranking: NeuronRanking, ranges: Mapping[float | None, ActivationRanges]) -> None:
        """Take ranges by their tau; all share one set of statistics."""
        self.ranking = ranking
        self.ranges = dict(ranges)
        self.statistics = next(iter(self.ranges.values())).statistics
        self._selected: dict[tuple[float | None, int | None], BoolArray] = {}

    def selected(self, knobs: Knobs) -> BoolArray:
        """Return the salient neurons under these knobs `[concept, neuron]`."""
        key = (knobs.top_fraction, knobs.top_count)
        if key not in self._selected:
            self._selected[key] = self.ranking.selected(top_fraction=key[0], top_count=key[1])
        return self._selected[key]

    def skip_reason(self, knobs: Knobs, concept: int) -> str | None:
        """Return why this cell cannot be evaluated, or None where it can (TRAPS 10)."""
        if self.statistics.count[concept] < 2:
            return f"{self.statistics.count[concept]} samples to fit on, expected at least 2"
        if knobs.gate != "neuron" and concept in self.ranges[knobs.tau].skipped:
            return self.ranges[knobs.tau].skipped[concept]
        return None

    def batch(self, cells: Sequence[tuple[Knobs, int]]) -> GatedEdit:
        """Return the edits of several (knobs, concept) cells as one batch, float32, on the CPU.

        Raises:
            ConfigError: an unknown edit or gate.
        """
        intervals = max((self._intervals(knobs) for knobs, _ in cells), default=1)
        neurons = self.statistics.mean.shape[1]
        lower = np.full((len(cells), intervals, neurons), EMPTY[0], dtype=np.float32)
        upper = np.full((len(cells), intervals, neurons), EMPTY[1], dtype=np.float32)
        scale, shift = np.zeros((2, len(cells), neurons), dtype=np.float32)
        strength = np.asarray([knobs.strength for knobs, _ in cells], dtype=np.float32)
        for place, (knobs, concept) in enumerate(cells):
            salient = self.selected(knobs)[concept]
            if knobs.gate == "neuron":
                lower[place, 0, salient], upper[place, 0, salient] = WHOLE
            elif knobs.gate == "range":
                fitted = self.ranges[knobs.tau]
                count = fitted.lower.shape[1]
                lower[place, :count, salient] = fitted.lower[concept][:, salient].T
                upper[place, :count, salient] = fitted.upper[concept][:, salient].T
            else:
                raise ConfigError(unknown("gate", knobs.gate, ["range", "neuron"]))
            if knobs.edit not in TARGETS:
                raise ConfigError(unknown("edit", knobs.edit, TARGETS))
            scale[place], shift[place] = TARGETS[knobs.edit](self.statistics, concept)
        return GatedEdit(*(torch.from_numpy(array) for array in (lower, upper, scale, shift, strength)))

    def _intervals(self, knobs: Knobs) -> int:
        return 1 if knobs.gate == "neuron" else self.ranges[knobs.tau].lower.shape[1]
