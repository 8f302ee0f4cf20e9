"""Runs the cells of a sweep over stored states, several cells in each forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuronlens.data.datamodule import Batch
from neuronlens.edits.build import Edit, mixes_neurons
from neuronlens.errors import ConfigError
from neuronlens.hooks.contexts import edited, position_mask
from neuronlens.hooks.replay import replay
from neuronlens.models.heads import log_probabilities
from neuronlens.records import BoolArray, Cell, FloatArray, IntArray, LoadedModel, Site
from neuronlens.stored import StoredStates
from neuronlens.trainer import TrainerConfig, make_trainer


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

    def batch(self, cells: Sequence[Cell]) -> Edit:
        """Return the edits of several cells of one kind."""


@dataclass(frozen=True)
class WorkItem:
    """Some cells over one stored batch: one forward's worth."""

    cells: list[int]
    batch: Batch
    states: Tensor


class SweepEvaluator(pl.LightningModule):
    """Edits stored states and replays the rest of the model; every cell is a row of the same forward."""

    def __init__(
        self,
        loaded: LoadedModel,
        states: StoredStates,
        builders: Mapping[Site, BuildsEdits],
        cells: Sequence[Cell],
        *,
        labels: IntArray,
        base_log_probabilities: FloatArray,
        edit_positions: str,
        tokens_per_forward: int,
    ) -> None:
        """Prepare to evaluate `cells` on the samples behind `states`.

        Args:
            states: outputs of the layer that `hooks.replay.starts_at` names for the first site.
            builders: by site, in the order of the model; a cell edits all of them at once.
            edit_positions: `record` or `all`.
            tokens_per_forward: rows x positions that one forward may hold; sets how many cells share it.
        Raises:
            ConfigError: the edited position cannot reach the head from the last layer.
        """
        super().__init__()
        self.model = loaded.model
        self.loaded, self.states, self.cells = loaded, states, list(cells)
        self.builders = dict(builders)
        self.at_start = [site for site in builders if site == Site(states.layer)]
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.base = torch.from_numpy(base_log_probabilities)
        self.base_prediction = self.base.argmax(-1)
        self.positions = loaded.record_position if edit_positions == "record" else "all"
        self.tokens_per_forward = tokens_per_forward
        self.shrunk = all(batch.inputs["input_ids"].shape[1] == 1 for batch, _ in states.parts)
        if self.shrunk and self.positions not in ("all", loaded.head.reads):
            raise ConfigError(
                f"An edit at position '{self.positions}' of the last layer cannot reach the head, which reads "
                f"'{loaded.head.reads}'. Next: model.record_position={loaded.head.reads}, or an earlier layer."
            )
        shape = (len(self.cells), len(self.labels))
        self.outcomes = Outcomes(
            gold=np.zeros(shape, dtype=np.float32),
            correct=np.zeros(shape, dtype=bool),
            kl=np.zeros(shape, dtype=np.float32),
            flipped=np.zeros(shape, dtype=bool),
        )

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Return the forwards to run, each stored batch's together, cells that mix neurons apart from the others."""
        kinds = [[i for i, cell in enumerate(self.cells) if mixes_neurons(cell) == mixes] for mixes in (False, True)]
        items = []
        for batch, states in self.states.parts:
            share = max(1, self.tokens_per_forward // batch.inputs["input_ids"].numel())
            for cells in kinds:
                items += [WorkItem(cells[at : at + share], batch, states) for at in range(0, len(cells), share)]
        return DataLoader(items, batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, item: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """Return the item with inputs and states on the trainer's device."""
        return WorkItem(item.cells, item.batch.to(device), item.states.to(device))

    def predict_step(self, item: WorkItem, batch_idx: int) -> None:
        """Evaluate one item's cells and keep the outcomes."""
        cells = [self.cells[place] for place in item.cells]
        self._keep(log_probabilities(self.run_cells(cells, item.batch, item.states)).cpu(), item)

    def run_cells(self, cells: Sequence[Cell], batch: Batch, states: Tensor) -> Tensor:
        """Return the logits `[cell, sample, class]` of some cells over one stored batch."""
        edits = {site: builder.batch(cells).to(states.device) for site, builder in self.builders.items()}
        hidden = states[None]
        for site in self.at_start:
            mask = None if self.shrunk else position_mask(batch.inputs["attention_mask"], states, self.positions)
            hidden = edits.pop(site)(hidden, mask)
        hidden = hidden.expand(len(cells), *hidden.shape[1:])
        with edited(self.model, edits, positions=self.positions, cells=len(cells)) if edits else nullcontext():
            return replay(self.model, self.states.layer, batch.inputs, hidden)

    def _keep(self, edited_log_probs: Tensor, item: WorkItem) -> None:
        rows = torch.from_numpy(item.batch.rows)
        labels, base = self.labels[rows], self.base[rows]
        prediction = edited_log_probs.argmax(-1)
        where = np.ix_(np.asarray(item.cells), item.batch.rows)
        gold = edited_log_probs.gather(-1, labels.expand(len(item.cells), -1)[..., None])[..., 0].exp()
        self.outcomes.gold[where] = gold.numpy()
        self.outcomes.correct[where] = (prediction == labels).numpy()
        self.outcomes.kl[where] = (base.exp() * (base - edited_log_probs)).sum(-1).numpy()
        self.outcomes.flipped[where] = (prediction != self.base_prediction[rows]).numpy()


def run_sweep(evaluator: SweepEvaluator, trainer: TrainerConfig) -> Outcomes:
    """Return the outcomes of all the evaluator's cells."""
    if evaluator.cells:
        stage = f"sweep at {', '.join(map(str, evaluator.builders))}"
        make_trainer(trainer, stage).predict(evaluator, return_predictions=False)
    return evaluator.outcomes
