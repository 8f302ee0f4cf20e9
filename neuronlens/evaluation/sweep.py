"""Runs the cells of a sweep over one layer's stored states, several cells in each forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuronlens.activations import StoredStates
from neuronlens.data.datamodule import Batch
from neuronlens.edits.build import EditBuilder, Knobs
from neuronlens.errors import ConfigError
from neuronlens.hooks.contexts import position_mask
from neuronlens.hooks.replay import replay
from neuronlens.models.heads import log_probabilities
from neuronlens.records import BoolArray, FloatArray, IntArray, LoadedModel
from neuronlens.trainer import TrainerConfig, make_trainer

Cell = tuple[Knobs, int]


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


@dataclass(frozen=True)
class WorkItem:
    """Some cells over one stored batch: one forward's worth."""

    cells: slice
    batch: Batch
    states: Tensor


class SweepEvaluator(pl.LightningModule):
    """Edits stored states and replays the rest of the model; every cell is a row of the same forward."""

    def __init__(
        self,
        loaded: LoadedModel,
        states: StoredStates,
        builder: EditBuilder,
        cells: Sequence[Cell],
        *,
        labels: IntArray,
        base_log_probabilities: FloatArray,
        edit_positions: str,
        tokens_per_forward: int,
    ) -> None:
        """Prepare to evaluate `cells` on the samples behind `states`.

        Args:
            edit_positions: `record` or `all`.
            tokens_per_forward: rows x positions that one forward may hold; sets how many cells share it.
        Raises:
            ConfigError: the edited position cannot reach the head from the last layer.
        """
        super().__init__()
        self.model = loaded.model
        self.loaded, self.states, self.builder, self.cells = loaded, states, builder, list(cells)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.base = torch.from_numpy(base_log_probabilities)
        self.base_prediction = self.base.argmax(-1)
        self.positions = loaded.record_position if edit_positions == "record" else "all"
        self.tokens_per_forward = tokens_per_forward
        self.shrunk = all(state.shape[1] == 1 for _, state in states.parts)
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
        """Return the forwards to run, each stored batch's together."""
        items = []
        for batch, states in self.states.parts:
            share = max(1, self.tokens_per_forward // (states.shape[0] * states.shape[1]))
            for start in range(0, len(self.cells), share):
                items.append(WorkItem(slice(start, min(start + share, len(self.cells))), batch, states))
        return DataLoader(items, batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, item: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """Return the item with inputs and states on the trainer's device."""
        return WorkItem(item.cells, item.batch.to(device), item.states.to(device))

    def predict_step(self, item: WorkItem, batch_idx: int) -> None:
        """Evaluate one item's cells and keep the outcomes."""
        edit = self.builder.batch(self.cells[item.cells]).to(item.states.device)
        mask = None
        if not self.shrunk:
            mask = position_mask(item.batch.inputs["attention_mask"], item.states, self.positions)
        logits = replay(self.model, self.states.layer, item.batch.inputs, edit(item.states[None], mask))
        self._keep(log_probabilities(logits).cpu(), item)

    def _keep(self, edited: Tensor, item: WorkItem) -> None:
        rows = torch.from_numpy(item.batch.rows)
        labels, base = self.labels[rows], self.base[rows]
        prediction = edited.argmax(-1)
        where = (item.cells, item.batch.rows)
        gold = edited.gather(-1, labels.expand(edited.shape[0], -1)[..., None])[..., 0].exp()
        self.outcomes.gold[where] = gold.numpy()
        self.outcomes.correct[where] = (prediction == labels).numpy()
        self.outcomes.kl[where] = (base.exp() * (base - edited)).sum(-1).numpy()
        self.outcomes.flipped[where] = (prediction != self.base_prediction[rows]).numpy()


def run_sweep(evaluator: SweepEvaluator, trainer: TrainerConfig) -> Outcomes:
    """Return the outcomes of all the evaluator's cells."""
    stage = f"sweep at layer {evaluator.states.layer}"
    if evaluator.cells:
        make_trainer(trainer, stage).predict(evaluator, return_predictions=False)
    return evaluator.outcomes
