"""Turns rankings, ranges and a cell's knobs into the numbers of an edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from neuronlens.config.schema import EDITS, GATES, PROJECTIONS
from neuronlens.edits import transports
from neuronlens.edits.fitting import Fitted, shuffled_labels
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.gates.joint import DetectedEdit, Detector, LikelihoodRatio, best_threshold, likelihood_ratio
from neuronlens.edits.leace import LeaceFitter
from neuronlens.edits.projections import Projection, ProjectionEdit, directional_ablation
from neuronlens.edits.transports import Affine
from neuronlens.errors import ActivationError, ConfigError, unknown
from neuronlens.ranges.intervals import EMPTY, WHOLE, complement
from neuronlens.records import ActivationSet, BoolArray, Cell, FloatArray, Knobs, NeuronRanking
from neuronlens.saliency.random_control import uniform_scores
from neuronlens.saliency.scope import rank_together

Edit = GatedEdit | ProjectionEdit | DetectedEdit


def _replacement(value: FloatArray) -> Affine:
    return np.zeros_like(value), value


TARGETS: Mapping[str, Callable[[ActivationSet, int, float], Affine]] = {
    "zero": lambda found, concept, beta: _replacement(np.zeros(found.values.shape[1])),
    "mean": lambda found, concept, beta: _replacement(found.statistics.overall_mean),
    "complement_mean": lambda found, concept, beta: _replacement(found.statistics.complement_mean[concept]),
    "dampen": lambda found, concept, beta: transports.dampen(found.statistics, concept, beta=beta),
    "dampen_distance": lambda found, concept, beta: transports.dampen(found.statistics, concept, beta=beta),
    "aura": lambda found, concept, beta: transports.aura(found, concept),
    "mean_shift": lambda found, concept, beta: transports.mean_shift(found.statistics, concept),
    "gaussian_transport": lambda found, concept, beta: transports.gaussian_transport(found.statistics, concept),
    "linear_transport": lambda found, concept, beta: transports.linear_transport(found, concept),
}
"""Edit name -> (scale, shift) `[neuron]` of its target T(x) = scale * x + shift, for a concept and dampening's beta."""


class EditBuilder:
    """Builds edits at one site, from what was fitted there under the true labels and under a control's."""

    def __init__(
        self,
        fits: Mapping[str, Fitted],
        *,
        select: ActivationSet | None = None,
        beta: float = transports.BETA,
        covariance: str = "ledoit_wolf",
        seed: int = 0,
        ranked_with: Mapping[str, Mapping[int, Fitted]] | None = None,
    ) -> None:
        """Take fits by control: `none` is required, `shuffled_labels` where that control is asked for.

        Args:
            select: activations of the select split, where the joint gate's thresholds are chosen.
            beta: what dampening leaves.
            covariance: LEACE's.
            seed: of the random-neuron control.
            ranked_with: fits by control and layer, this one's included, where all layers are ranked as one.
        """
        self.fits, self.select, self.ranked_with = dict(fits), select, ranked_with
        self.beta, self.covariance, self.seed = beta, covariance, seed
        self._selected: dict[tuple[object, ...], BoolArray] = {}
        self._targets: dict[tuple[object, ...], Affine | Projection] = {}
        self._gates: dict[tuple[object, ...], tuple[LikelihoodRatio, float]] = {}
        self._erasers: dict[str, LeaceFitter] = {}

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts' names."""
        return self.fits["none"].activations.concepts

    def _labelling(self, knobs: Knobs) -> str:
        return "shuffled_labels" if knobs.control == "shuffled_labels" else "none"

    def _fitted(self, knobs: Knobs) -> Fitted:
        return self.fits[self._labelling(knobs)]

    def _ranking(self, knobs: Knobs, fitted: Fitted) -> NeuronRanking:
        if knobs.control == "random_neurons":
            found = fitted.activations
            scores = uniform_scores(len(found.concepts), found.values.shape[1], site=found.site, seed=self.seed)
            return NeuronRanking("random", scores, found.concepts)
        return fitted.rankings[str(knobs.saliency)]

    def selected(self, knobs: Knobs) -> BoolArray:
        """Return the neurons that the edit may touch, or the joint gate reads `[concept, neuron]`."""
        key = (knobs.saliency, knobs.control, knobs.top_fraction, knobs.top_count)
        if key not in self._selected:
            counts = {"top_fraction": knobs.top_fraction, "top_count": knobs.top_count}
            fitted = self._fitted(knobs)
            if knobs.top_fraction is None and knobs.top_count is None:
                shape = fitted.activations.statistics.mean.shape
                self._selected[key] = np.ones(shape, dtype=bool)
            elif self.ranked_with is not None:
                together = self.ranked_with[self._labelling(knobs)]
                layers = {layer: self._ranking(knobs, other) for layer, other in together.items()}
                self._selected[key] = rank_together(layers, **counts)[fitted.activations.site.layer]  # type: ignore[arg-type]
            else:
                self._selected[key] = self._ranking(knobs, fitted).selected(**counts)  # type: ignore[arg-type]
        return self._selected[key]

    def edited_neurons(self, cell: Cell) -> int:
        """Return how many neurons a cell's edit may touch: all of them for an edit that mixes neurons."""
        knobs, concept = cell
        chosen = self.selected(knobs)[concept]
        return len(chosen) if knobs.edit in PROJECTIONS else int(chosen.sum())

    def skip_reason(self, cell: Cell) -> str | None:
        """Return why this cell cannot be evaluated, or None where it can (TRAPS 10)."""
        knobs, concept = cell
        fitted = self._fitted(knobs)
        count = fitted.activations.statistics.count[concept]
        if count < 2:
            return f"{count} samples to fit on, expected at least 2"
        for name in (knobs.saliency, knobs.range):
            if name is not None and name in fitted.failed:
                return f"{name}: {fitted.failed[name]}"
        if knobs.range is not None:
            ranges = fitted.ranges[knobs.range, knobs.tau]
            if self._range_concept(cell) in ranges.skipped:
                return ranges.skipped[self._range_concept(cell)]
        try:
            target = self._target(cell)
            if knobs.gate == "joint":
                self._gate(cell)
        except ActivationError as error:
            return str(error)
        return target.reason if isinstance(target, Projection) else None

    def batch(self, cells: Sequence[Cell]) -> Edit:
        """Return the edits of several cells as one batch, float32, on the CPU.

        Args:
            cells: all elementwise or all projections: see `mixes_neurons`.
        Raises:
            ConfigError: an unknown edit or gate.
        """
        for knobs, _ in cells:
            if knobs.gate not in GATES:
                raise ConfigError(unknown("gate", knobs.gate, GATES))
            if knobs.edit not in EDITS:
                raise ConfigError(unknown("edit", knobs.edit, EDITS))
        edit: GatedEdit | ProjectionEdit
        if mixes_neurons(cells[0]):
            projections = [self._target(cell) for cell in cells]
            edit = ProjectionEdit.stack(projections, [knobs.strength for knobs, _ in cells])  # type: ignore[arg-type]
        else:
            edit = self._elementwise(cells)
        if all(knobs.gate != "joint" for knobs, _ in cells):
            return edit
        gates = [self._gate(cell) if cell[0].gate == "joint" else None for cell in cells]
        return DetectedEdit(edit, Detector.stack(gates, self.fits["none"].activations.values.shape[1]))

    def _elementwise(self, cells: Sequence[Cell]) -> GatedEdit:
        bounds = [self._bounds(cell) for cell in cells]
        intervals, neurons = max(len(low) for low, _ in bounds), bounds[0][0].shape[1]
        lower = np.full((len(cells), intervals, neurons), EMPTY[0], dtype=np.float32)
        upper = np.full((len(cells), intervals, neurons), EMPTY[1], dtype=np.float32)
        scale, shift = np.zeros((2, len(cells), neurons), dtype=np.float32)
        for place, (cell, (low, high)) in enumerate(zip(cells, bounds, strict=True)):
            salient = self.selected(cell[0])[cell[1]]
            lower[place, : len(low), salient] = low[:, salient].T
            upper[place, : len(high), salient] = high[:, salient].T
            scale[place], shift[place] = self._target(cell)  # type: ignore[misc]
        strength = torch.tensor([knobs.strength for knobs, _ in cells], dtype=torch.float32)
        distance = torch.tensor([knobs.edit == "dampen_distance" for knobs, _ in cells])
        return GatedEdit(
            lower=torch.from_numpy(lower),
            upper=torch.from_numpy(upper),
            scale=torch.from_numpy(scale),
            shift=torch.from_numpy(shift),
            strength=strength,
            distance=distance if distance.any() else None,
        )

    def _range_concept(self, cell: Cell) -> int:
        knobs, concept = cell
        return (concept + 1) % len(self.concepts) if knobs.control == "other_concept" else concept

    def _bounds(self, cell: Cell) -> tuple[FloatArray, FloatArray]:
        """Return the intervals `[interval, neuron]` of one cell, before the salient neurons are picked."""
        knobs, _ = cell
        if knobs.gate in ("neuron", "joint"):
            neurons = self.fits["none"].activations.values.shape[1]
            return np.full((1, neurons), WHOLE[0]), np.full((1, neurons), WHOLE[1])
        ranges = self._fitted(knobs).ranges[str(knobs.range), knobs.tau]
        concept = self._range_concept(cell)
        bounds = ranges.lower[concept], ranges.upper[concept]
        return complement(*bounds) if knobs.gate == "outside" else bounds

    def _target(self, cell: Cell) -> Affine | Projection:
        knobs, concept = cell
        fitted = self._fitted(knobs)
        key = (fitted is self.fits["none"], knobs.edit, concept)
        if key not in self._targets:
            if knobs.edit == "leace":
                self._targets[key] = self._eraser(knobs).erase(fitted.activations.labels == concept)
            elif knobs.edit == "directional_ablation":
                self._targets[key] = directional_ablation(fitted.activations.statistics, concept)
            else:
                self._targets[key] = TARGETS[knobs.edit](fitted.activations, concept, self.beta)
        return self._targets[key]

    def _eraser(self, knobs: Knobs) -> LeaceFitter:
        control = self._labelling(knobs)
        if control not in self._erasers:
            self._erasers[control] = LeaceFitter(self._fitted(knobs).activations.values, covariance=self.covariance)
        return self._erasers[control]

    def _gate(self, cell: Cell) -> tuple[LikelihoodRatio, float]:
        knobs, concept = cell
        key = (knobs.saliency, knobs.control, knobs.top_fraction, knobs.top_count, concept)
        if key not in self._gates:
            if self.select is None:
                raise ActivationError(
                    "The joint gate's threshold is chosen on the select split, which was not recorded."
                )
            shuffled = knobs.control == "shuffled_labels"
            member = (shuffled_labels(self.select, self.seed) if shuffled else self.select).labels == concept
            if member.all() or not member.any():
                raise ActivationError("the select split holds the concept in all or in none of its samples")
            statistics = self._fitted(knobs).activations.statistics
            ratio = likelihood_ratio(statistics, concept, self.selected(knobs)[concept])
            self._gates[key] = ratio, best_threshold(ratio(self.select.values), member)
        return self._gates[key]


def mixes_neurons(cell: Cell) -> bool:
    """Return whether a cell's edit is a projection, which shares no batch with elementwise ones."""
    return cell[0].edit in PROJECTIONS
