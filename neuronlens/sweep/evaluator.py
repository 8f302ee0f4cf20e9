"""Runs the cells of a sweep over stored states, several cells in each forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuronlens.activations.states import StoredStates
from neuronlens.edits.base import EditBatch
from neuronlens.errors import ConfigError
from neuronlens.execution.trainer import TrainerConfig, make_trainer
from neuronlens.hooks.branches import Prompt, read_prompt, run_branches
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.masks import edit_mask, prompt_mask
from neuronlens.hooks.replay import replay, replaying
from neuronlens.hooks.resolver import blocks_of
from neuronlens.models.batches import Batch
from neuronlens.models.heads.heads import LabelScores, Reading
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import BoolArray, Cell, FloatArray, IntArray, Site


@dataclass(frozen=True)
class Outcomes:
    """What the edited model said, sample by sample.

    Attributes:
        gold: probability of the gold label `[cell, sample]`.
        correct: argmax equals the label `[cell, sample]`.
        kl: KL(base || edited) in nats `[cell, sample]`.
        flipped: the prediction differs from the base model's `[cell, sample]`.
    """

    gold: FloatArray
    correct: BoolArray
    kl: FloatArray
    flipped: BoolArray


class BuildsEdits(Protocol):
    """What makes a batch of edits at one site out of cells: an `EditBuilder`, or one builder per cell."""

    def batch(self, cells: Sequence[Cell]) -> EditBatch:
        """Return the edits of several cells of one kind."""

    def mixes_neurons(self, cell: Cell) -> bool:
        """Return which kind a cell's edit is of."""


def by_kind(cells: Sequence[Cell], builders: Mapping[Site, BuildsEdits]) -> list[list[int]]:
    """Return the places of the cells whose edits fit into one batch: those that mix neurons apart from the others."""
    mixed = [next(iter(builders.values())).mixes_neurons(cell) for cell in cells]
    return [[place for place, mixes in enumerate(mixed) if mixes == kind] for kind in (False, True)]


@dataclass(frozen=True)
class WorkItem:
    """Some cells over one stored batch: one forward's worth."""

    cells: list[int]
    batch: Batch
    states: Tensor


MOST_LOGITS = 1 << 27
"""Logits that the cells of one forward make together, 512 MiB in float32."""
MOST_BRANCHES = 64
"""Cells that branch off one prompt in one forward: more would attend to one another's masked keys for nothing."""


class SweepEvaluator(pl.LightningModule):
    """Edits stored states and replays the rest of the model; every cell is a row, or a branch, of the same forward."""

    unit = "cells"

    def __init__(
        self,
        loaded: LoadedModel,
        states: StoredStates,
        builders: Mapping[Site, BuildsEdits],
        cells: Sequence[Cell],
        *,
        labels: IntArray,
        base_log_probabilities: FloatArray,
        base_prediction: IntArray,
        edit_positions: str,
        tokens_per_forward: int,
    ) -> None:
        """Prepare to evaluate `cells` on the samples behind `states`.

        Args:
            states: outputs of the layer that `hooks.replay.starts_at` names for the first site.
            builders: by site, in the order of the model; a cell edits all of them at once.
            base_log_probabilities, base_prediction: of the unedited model `[sample, concept]`, `[sample]`.
            edit_positions: `record`, `all`, `prompt` or `generated`.
            tokens_per_forward: rows x positions that one forward may hold; sets how many cells share it.
        Raises:
            ConfigError: the edited positions cannot reach the head, or hold no token.
        """
        super().__init__()
        self.model = loaded.model
        self.loaded, self.states, self.cells = loaded, states, list(cells)
        self.builders = dict(builders)
        self.at_start = [site for site in builders if site == Site(states.layer)]
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.base = torch.from_numpy(base_log_probabilities)
        self.base_prediction = torch.from_numpy(np.asarray(base_prediction, dtype=np.int64))
        self.positions = loaded.record_position if edit_positions == "record" else edit_positions
        self.tokens_per_forward = tokens_per_forward
        self.shrunk = states.layer == len(blocks_of(loaded.model)) - 1 and loaded.head.replays
        # What stands before the edited positions stays as it is, and its keys with it.
        self.branches = isinstance(loaded.head, LabelScores) and self.positions in ("last", "generated")
        self.branches &= not self.shrunk
        # At the last layer no token hears of another any more: those after an edited prompt are read once.
        self.prompt_alone = self.shrunk and isinstance(loaded.head, LabelScores) and len(loaded.head.continuations) > 0
        self.prompt_alone &= self.positions in ("last", "prompt")
        self._prompt: tuple[Batch, Prompt] | None = None
        self._further: tuple[Batch, Tensor] | None = None
        _check_positions(loaded, self.positions, self.shrunk)
        shape = (len(self.cells), len(self.labels))
        self.outcomes = Outcomes(
            gold=np.zeros(shape, dtype=np.float32),
            correct=np.zeros(shape, dtype=bool),
            kl=np.zeros(shape, dtype=np.float32),
            flipped=np.zeros(shape, dtype=bool),
        )

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Return the forwards to run, each stored batch's together, cells that mix neurons apart from the others."""
        items = []
        for batch, states in self.states.parts:
            share = self._share(batch)
            for cells in by_kind(self.cells, self.builders):
                items += [WorkItem(cells[at : at + share], batch, states) for at in range(0, len(cells), share)]
        return DataLoader(items, batch_size=None)  # type: ignore[arg-type]

    def _share(self, batch: Batch) -> int:
        """Return how many cells run together over a batch."""
        samples, width = batch.inputs["input_ids"].shape
        if self.branches:
            width = 1 + sum(map(len, self.loaded.head.continuations))
        floats = self.loaded.head.vocabulary if self.prompt_alone else self.loaded.head.floats_per_sample
        share = min(self.tokens_per_forward // (samples * width), MOST_LOGITS // (samples * floats))
        return max(1, min(share, MOST_BRANCHES // width) if self.branches else share)

    def transfer_batch_to_device(self, item: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """Return the item with inputs and states on the trainer's device."""
        return WorkItem(item.cells, item.batch.to(device), item.states.to(device))

    def work(self) -> float:
        """Return how many cells there are."""
        return float(len(self.cells))

    def work_of(self, item: WorkItem) -> float:
        """Return how many cells an item is worth: each counts by the share of the samples it was run over."""
        return len(item.cells) * len(item.batch.rows) / max(len(self.labels), 1)

    def predict_step(self, item: WorkItem, batch_idx: int) -> None:
        """Evaluate one item's cells and keep the outcomes."""
        cells = [self.cells[place] for place in item.cells]
        self._keep(self.read_cells(cells, item.batch, item.states), item)

    def read_cells(self, cells: Sequence[Cell], batch: Batch, states: Tensor) -> Reading:
        """Return what the edited model says, log-probabilities `[cell, sample, concept]`, prediction `[cell, sample]`."""
        edits = {site: builder.batch(cells).to(states.device) for site, builder in self.builders.items()}
        if self.branches:
            return self._read_branches(len(cells), edits, batch, states)
        if self.prompt_alone:
            return self._read_prompt_alone(edits, batch, states)
        if not self.loaded.head.replays:
            return self._read_generated(len(cells), edits, batch)
        return self.read_rows(len(cells), edits, batch, states)

    def read_rows(self, cells: int, edits: dict[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return the reading of cells as rows of one forward that starts at the (edited) stored states."""
        attended, prompt = batch.inputs["attention_mask"] != 0, prompt_mask(batch.inputs)
        hidden = states[None]
        for site in self.at_start:
            hidden = edits.pop(site)(hidden, edit_mask(attended, prompt, self.positions))
        hidden = hidden.expand(cells, *hidden.shape[1:])
        with ExitStack() as contexts:
            if edits:
                places: dict[str, Any] = {"positions": self.positions, "attended": attended, "prompt": prompt}
                contexts.enter_context(edited(self.model, edits, cells=cells, **places))
            rows = contexts.enter_context(replaying(self.model, self.states.layer, batch.inputs, hidden))
            return _by_cell(self.loaded.head.read(self.model, rows), cells)

    def _read_prompt_alone(self, edits: dict[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return the reading of cells at the last layer whose edits leave the labels' further tokens as they are."""
        head = self.loaded.head
        assert isinstance(head, LabelScores), "only label scores have further tokens"
        inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "segment"}
        first, rest = (
            {name: tensor[:, part] for name, tensor in inputs.items()} for part in (slice(1), slice(1, None))
        )
        if self._further is None or self._further[0].rows is not batch.rows:
            logits = replay(self.model, self.states.layer, rest, states[None, :, 1:])
            self._further = batch, head.further_tokens(logits)[0]
        (edit,) = edits.values()
        hidden = edit(states[None, :, :1], first["attention_mask"] != 0)
        return head.of(replay(self.model, self.states.layer, first, hidden), self._further[1])

    def _read_generated(self, cells: int, edits: dict[Site, EditBatch], batch: Batch) -> Reading:
        """Return the reading of cells whose edits stay active while the model writes: no stored state serves there."""
        rows = {name: tensor.repeat(cells, 1) for name, tensor in batch.inputs.items()}
        head = self.loaded.head
        places = {"attended": batch.inputs["attention_mask"] != 0, "prompt": prompt_mask(batch.inputs)}
        with edited(self.model, edits, positions=self.positions, cells=cells, **places):
            said = head.read(self.model, rows)
        with edited(self.model, edits, positions=self.positions, cells=cells):
            written = head.answer(self.model, rows, said)
        return _by_cell(Reading(said.log_probabilities, written), cells)

    def _read_branches(self, cells: int, edits: dict[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return the reading of cells as branches after the unedited prompt's keys: a token or few per cell."""
        head = self.loaded.head
        assert isinstance(head, LabelScores), "only label scores branch"
        if self._prompt is None or self._prompt[0].rows is not batch.rows:
            self._prompt = batch, read_prompt(self.model, self.states.layer, batch.inputs, states)
        prompt = self._prompt[1]
        hidden = states.gather(1, prompt.index[..., None].expand(-1, -1, states.shape[-1]))[None]
        attended = prompt.tail["attention_mask"] != 0
        mask = edit_mask(attended, prompt.tail["segment"] == 0, self.positions)
        for site in self.at_start:
            hidden = edits.pop(site)(hidden, mask)
        hidden = hidden.expand(cells, *hidden.shape[1:])
        words = None if head.words is None else head.words.to(states.device)
        stacked = {site: _AlongPositions(edit, cells, mask) for site, edit in edits.items()}
        every = torch.ones_like(attended).repeat(1, cells)
        with edited(self.model, stacked, attended=every) if stacked else nullcontext():
            said = head.of(run_branches(self.model, prompt, hidden, words=words))
        return Reading(said.log_probabilities.transpose(0, 1), said.prediction.T)

    def _keep(self, reading: Reading, item: WorkItem) -> None:
        edited_log_probs, prediction = reading.log_probabilities.cpu(), reading.prediction.cpu()
        rows = torch.from_numpy(item.batch.rows)
        labels, base = self.labels[rows], self.base[rows]
        where = np.ix_(np.asarray(item.cells), item.batch.rows)
        gold = edited_log_probs.gather(-1, labels.expand(len(item.cells), -1)[..., None])[..., 0].exp()
        self.outcomes.gold[where] = gold.numpy()
        self.outcomes.correct[where] = (prediction == labels).numpy()
        self.outcomes.kl[where] = (base.exp() * (base - edited_log_probs)).sum(-1).numpy()
        self.outcomes.flipped[where] = (prediction != self.base_prediction[rows]).numpy()


class _AlongPositions:
    """An edit of several cells that stand one after the other along the positions of one row."""

    def __init__(self, edit: EditBatch, cells: int, mask: Tensor) -> None:
        self.edit, self.cells, self.mask = edit, cells, mask

    def __call__(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        by_cell = hidden[0].unflatten(1, (self.cells, -1)).transpose(0, 1)
        return self.edit(by_cell, self.mask).transpose(0, 1).flatten(1, 2)[None]


def _by_cell(reading: Reading, cells: int) -> Reading:
    return Reading(*(tensor.unflatten(0, (cells, -1)) for tensor in (reading.log_probabilities, reading.prediction)))


def _check_positions(loaded: LoadedModel, positions: str, shrunk: bool) -> None:
    """Refuse edited positions that the head never hears of."""
    reads = loaded.head.reads
    if shrunk and positions in ("cls", "last") and positions != reads:
        raise ConfigError(
            f"An edit at position '{positions}' of the last layer cannot reach the head, which reads "
            f"'{reads}'. Next: model.record_position={reads}, or an earlier layer."
        )
    if positions == "generated" and not loaded.head.continuations and loaded.head.replays:
        raise ConfigError(
            f"edit_positions 'generated' edits nothing: under head '{loaded.head.name}' no token follows the prompt. "
            "Next: intervention.edit_positions=record or all, or model.head=generation."
        )


def run_sweep(evaluator: SweepEvaluator, trainer: TrainerConfig) -> Outcomes:
    """Return the outcomes of all the evaluator's cells."""
    if evaluator.cells:
        stage = f"sweep at {', '.join(map(str, evaluator.builders))}"
        make_trainer(trainer, stage).predict(evaluator, return_predictions=False)
    return evaluator.outcomes
