"""Turns rankings, ranges and a cell's knobs into the numbers of an edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from neuronlens.activations.subsets import texts_behind
from neuronlens.config.knobs import fits_on_tokens
from neuronlens.config.nodes import part
from neuronlens.config.schema import Config
from neuronlens.edits.base import Affine, Edit, EditBatch, Projection, Target
from neuronlens.edits.decided import DecidedEdit
from neuronlens.edits.detected import DetectedEdit, Detector
from neuronlens.edits.fitting import Fitted, failure, other_concept, shuffled_labels
from neuronlens.edits.gated import GatedEdit
from neuronlens.edits.gates.base import Evidence, Gate, Score
from neuronlens.edits.gates.decisions import Decision
from neuronlens.edits.projected import ProjectionEdit
from neuronlens.edits.projections import random_direction
from neuronlens.errors import ActivationError, ConfigError
from neuronlens.ranges.intervals import EMPTY, WHOLE, Intervals
from neuronlens.records import ActivationSet, BoolArray, Cell, Knobs
from neuronlens.saliency.random_control import uniform_scores
from neuronlens.saliency.ranking import NeuronRanking
from neuronlens.saliency.scope import rank_together

Found = TypeVar("Found")


class EditBuilder:
    """Builds edits at one site, from what was fitted there under the true labels and under a control's."""

    def __init__(
        self,
        config: Config,
        fits: Mapping[str, Fitted],
        *,
        select: ActivationSet | None = None,
        ranked_with: Mapping[str, Mapping[int, Fitted]] | None = None,
    ) -> None:
        """Take fits by control: `none` is required, `shuffled_labels` where that control is asked for.

        Args:
            config: names what edits and gates are built from, and the seed of the controls.
            select: activations of the select split, where a gate's threshold is chosen.
            ranked_with: fits by control and layer, this one's included, where all layers are ranked as one.
        """
        self.config, self.fits, self.select, self.ranked_with = config, dict(fits), select, ranked_with
        self._edits: dict[str, Edit] = {}
        self._gates: dict[str, Gate] = {}
        self._activations: dict[str, ActivationSet] = {}
        self._selected: dict[tuple[object, ...], BoolArray] = {}
        self._targets: dict[tuple[object, ...], Target] = {}
        self._scores: dict[tuple[object, ...], Score | Decision] = {}

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
            shape = len(found.concepts), found.values.shape[1]
            scores = uniform_scores(*shape, site=found.site, seed=self.config.seed)
            return NeuronRanking("random", scores, found.concepts)
        return fitted.rankings[str(knobs.saliency)]

    def selected(self, knobs: Knobs) -> BoolArray:
        """Return the neurons that the edit may touch, or a gate that reads a ranking looks at `[concept, neuron]`."""
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

    def mixes_neurons(self, cell: Cell) -> bool:
        """Return whether a cell's edit mixes neurons: such cells share no batch with the others."""
        return self._edit(cell[0].edit).mixes_neurons

    def edited_neurons(self, cell: Cell) -> int:
        """Return how many neurons a cell's edit may touch: all of them for an edit that mixes neurons."""
        chosen = self.selected(cell[0])[cell[1]]
        return len(chosen) if self.mixes_neurons(cell) else int(chosen.sum())

    def skip_reason(self, cell: Cell) -> str | None:
        """Return why this cell cannot be evaluated, or None where it can (TRAPS 10)."""
        knobs, concept = cell
        fitted = self._fitted(knobs)
        count = fitted.activations.statistics.count[concept]
        if count < 2:
            return f"{count} samples to fit on, expected at least 2"
        for group, name in (("saliency", knobs.saliency), ("range", knobs.range)):
            if name is not None and failure(group, name) in fitted.failed:
                return f"{name}: {fitted.failed[failure(group, name)]}"
        try:
            if knobs.range is not None:
                ranges, of = fitted.ranges[knobs.range, knobs.tau], self._gate_concept(cell)
                if of in ranges.skipped:
                    return ranges.skipped[of]
            target = self._target(cell)
            self.opening(cell)
        except ActivationError as error:
            return str(error)
        return target.reason if isinstance(target, Projection) else None

    def refuse_skipped(self, cell: Cell) -> None:
        """Refuse a cell that cannot be made.

        Raises:
            ActivationError: with the reason.
        """
        reason = self.skip_reason(cell)
        if reason:
            found = self.fits["none"].activations
            raise ActivationError(f"'{found.concepts[cell[1]]}' cannot be erased so at {found.site}: {reason}.")

    def batch(self, cells: Sequence[Cell]) -> EditBatch:
        """Return the edits of several cells as one batch, float32, on the CPU: all mix neurons or none does.

        Raises:
            ConfigError: an unknown edit or gate.
        """
        openings = [self.opening(cell) for cell in cells]
        targets = [self._target(cell) for cell in cells]
        edit: EditBatch
        if self.mixes_neurons(cells[0]):
            edit = ProjectionEdit.of(targets, [knobs.strength for knobs, _ in cells])  # type: ignore[arg-type]
        else:
            edit = self._elementwise(cells, openings, targets)  # type: ignore[arg-type]
        scores = [opening if isinstance(opening, Score) else None for opening in openings]
        if any(scores):
            edit = DetectedEdit(edit, Detector.of(scores, self._neurons))
        decisions = tuple(opening if isinstance(opening, Decision) else None for opening in openings)
        return DecidedEdit(edit, decisions) if any(decisions) else edit

    def _elementwise(
        self, cells: Sequence[Cell], openings: Sequence[Intervals | Score | Decision], targets: Sequence[Affine]
    ) -> GatedEdit:
        whole = np.full((1, self._neurons), WHOLE[0]), np.full((1, self._neurons), WHOLE[1])
        bounds = [opening if isinstance(opening, tuple) else whole for opening in openings]
        intervals = max(len(low) for low, _ in bounds)
        lower = np.full((len(cells), intervals, self._neurons), EMPTY[0], dtype=np.float32)
        upper = np.full((len(cells), intervals, self._neurons), EMPTY[1], dtype=np.float32)
        scale, shift = np.zeros((2, len(cells), self._neurons), dtype=np.float32)
        for place, ((knobs, concept), (low, high), target) in enumerate(zip(cells, bounds, targets, strict=True)):
            salient = self.selected(knobs)[concept]
            lower[place, : len(low), salient] = low[:, salient].T
            upper[place, : len(high), salient] = high[:, salient].T
            scale[place], shift[place] = target.scale, target.shift
        strength = torch.tensor([knobs.strength for knobs, _ in cells], dtype=torch.float32)
        distance = torch.tensor([target.by_distance for target in targets])
        return GatedEdit(
            lower=torch.from_numpy(lower),
            upper=torch.from_numpy(upper),
            scale=torch.from_numpy(scale),
            shift=torch.from_numpy(shift),
            strength=strength,
            distance=distance if distance.any() else None,
        )

    @property
    def _neurons(self) -> int:
        return int(self.fits["none"].activations.values.shape[1])

    def _edit(self, name: str) -> Edit:
        if name not in self._edits:
            self._edits[name] = part(self.config, "edit", name)
        return self._edits[name]

    def _gate(self, name: str) -> Gate:
        if name not in self._gates:
            self._gates[name] = part(self.config, "gate", name)
        return self._gates[name]

    def _gate_concept(self, cell: Cell) -> int:
        """Return the concept whose range or score the cell's gate reads."""
        knobs, concept = cell
        if knobs.control != "other_concept":
            return concept
        other = other_concept(self.concepts, concept, self.config.seed)
        if other is None:
            raise ActivationError("control other_concept takes another concept's gate, and there is no other concept")
        return other

    def _target(self, cell: Cell) -> Target:
        knobs, concept = cell
        key = (knobs.control, knobs.edit, concept)
        if key not in self._targets:
            edit = self._edit(knobs.edit)
            expected: type[Target] = Projection if edit.mixes_neurons else Affine
            target = _as_declared(edit.target(self._fitted_on(knobs), concept), expected, f"edit.{knobs.edit}")
            if knobs.control == "random_direction" and isinstance(target, Projection):
                target = random_direction(target, self.concepts[concept], self.config.seed)
            self._targets[key] = target
        return self._targets[key]

    def _fitted_on(self, knobs: Knobs) -> ActivationSet:
        """Return the activations that gates and edits are fitted on, with those of the select split, both relabelled alike."""
        labelling = self._labelling(knobs)
        if labelling not in self._activations:
            select = self.select
            if select is not None and labelling != "none":
                select = shuffled_labels(select, self.config.seed)
            self._activations[labelling] = replace(self._fitted(knobs).activations, select=select)
        return self._activations[labelling]

    def opening(self, cell: Cell) -> Intervals | Score | Decision:
        """Return where a cell's gate is open, before the salient neurons are picked; scores and decisions are kept.

        Raises:
            ActivationError: the data give none.
        """
        knobs, concept = cell
        gate = self._gate(knobs.gate)
        if gate.grain in (None, "value"):
            return _as_declared(gate.opening(self._evidence(cell, gate)), tuple, f"gate.{knobs.gate}")
        ranked = (knobs.saliency, knobs.top_fraction, knobs.top_count) if gate.reads_ranking else ()
        ranged = (knobs.range, knobs.tau) if gate.reads_range else ()
        key = (knobs.gate, knobs.control, concept, *ranked, *ranged)
        if key not in self._scores:
            found, name = gate.opening(self._evidence(cell, gate)), f"gate.{knobs.gate}"
            if gate.grain == "position" and not isinstance(found, Decision):
                self._scores[key] = _as_declared(found, Score, name)
            else:
                decision = _as_declared(found, Decision, name)
                if (decision.over is not None) != (gate.grain == "sample"):
                    raise ConfigError(f"{name} decides over {decision.over}, and its grain is '{gate.grain}'.")
                self._scores[key] = decision
        return self._scores[key]

    def _evidence(self, cell: Cell, gate: Gate) -> Evidence:
        """Return what a gate may look at in a cell.

        Raises:
            ActivationError: it needs the select split, which was not recorded.
        """
        knobs, of = cell[0], self._gate_concept(cell)
        intervals = None
        if gate.reads_range:
            ranges = self._fitted(knobs).ranges[str(knobs.range), knobs.tau]
            intervals = ranges.lower[of], ranges.upper[of]
        activations = self._fitted_on(knobs)
        of_texts = gate.grain == "sample" and not getattr(gate, "reads_tokens", False)
        if of_texts and fits_on_tokens(self.config):
            activations = texts_behind(activations)
        if gate.needs_select and activations.select is None:
            raise ActivationError(
                f"Gate '{knobs.gate}' chooses its threshold on the select split, which was not recorded."
            )
        select = activations.select if gate.needs_select else None
        return Evidence(activations, of, self.selected(knobs)[cell[1]], intervals, select)


def _as_declared(found: object, expected: type[Found], part: str) -> Found:
    """Return what a part gave; raise ConfigError where it is not of the kind that the part's declarations promise."""
    if not isinstance(found, expected):
        kind = "intervals (lower, upper)" if expected is tuple else expected.__name__
        raise ConfigError(
            f"{part} gave {type(found).__name__}, and its declarations promise {kind}. Next: see mixes_neurons of "
            "edits.base.Edit, or grain of edits.gates.base.Gate."
        )
    return found
