"""Runs the cells of a sweep over stored states, several cells in each forward, and keeps what the model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from neuronlens.activations.states import StoredStates
from neuronlens.edits.base import EditBatch
from neuronlens.execution.memory import in_halves
from neuronlens.models.batches import Batch
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import BoolArray, Cell, FloatArray, IntArray, Site
from neuronlens.sweep.strategies.choose import edited_positions, strategy_for

FORWARDS = 16
"""Forwards of a sweep that are kept together, at least."""
FORWARDS_PER_BATCH = 8
"""Of them over one stored batch, at least: some strategies run the batch itself once for all of them."""


@dataclass(frozen=True)
class Outcomes:
    """What the edited model answered, sample by sample.

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

    @classmethod
    def joined(cls, parts: Sequence[Outcomes]) -> Outcomes:
        """Return the outcomes of several batches of cells over the same samples as one, in their order."""
        names = [entry.name for entry in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def put(self, places: Sequence[int], found: Outcomes) -> None:
        """Write the outcomes of some cells into their places."""
        for entry in fields(self):
            getattr(self, entry.name)[list(places)] = getattr(found, entry.name)

    def of_cells(self, places: Sequence[int]) -> Outcomes:
        """Return the outcomes of some cells."""
        return Outcomes(**{entry.name: getattr(self, entry.name)[list(places)] for entry in fields(self)})


class BuildsEdits(Protocol):
    """What makes a batch of edits at one site out of cells: an `EditBuilder`, or one builder per cell."""

    def batch(self, cells: Sequence[Cell]) -> EditBatch:
        """Return the edits of several cells of one kind."""

    def mixes_neurons(self, cell: Cell) -> bool:
        """Return which kind a cell's edit is of."""


@dataclass(frozen=True)
class WorkItem:
    """Some cells over one stored batch: one forward's worth."""

    cells: list[int]
    batch: Batch
    states: Tensor

    @property
    def size(self) -> int:
        """How many samples its forward holds, each cell's counted."""
        return len(self.cells) * len(self.batch.rows)

    def halves(self) -> tuple[WorkItem, WorkItem] | None:
        """Return the item as two: half of its cells each, or half of its samples where it has one cell; None of one of each."""
        half = len(self.cells) // 2
        if half:
            first, second = (
                WorkItem(cells, self.batch, self.states) for cells in (self.cells[:half], self.cells[half:])
            )
            return first, second
        batches = self.batch.halves()
        if batches is None:
            return None
        half = len(batches[0].rows)
        return WorkItem(self.cells, batches[0], self.states[:half]), WorkItem(
            self.cells, batches[1], self.states[half:]
        )


def by_kind(cells: Sequence[Cell], builders: Mapping[Site, BuildsEdits]) -> list[list[int]]:
    """Return the places of the cells whose edits fit into one batch: those that mix neurons apart from the others."""
    first = next(iter(builders.values()), None)
    mixed = [first is not None and first.mixes_neurons(cell) for cell in cells]
    return [[place for place, own in enumerate(mixed) if own == mixes] for mixes in (False, True)]


class CellForwards(pl.LightningModule):
    """Runs every cell over every stored batch, several cells in each forward."""

    unit = "cells"

    def __init__(
        self,
        model: nn.Module,
        states: StoredStates,
        builders: Mapping[Site, BuildsEdits],
        cells: Sequence[Cell],
        share: Callable[[Batch], int],
    ) -> None:
        """Prepare to run `cells` on the samples behind `states`.

        Args:
            builders: by site, in the order of the model; a cell edits all of them at once.
            share: how many cells run together over a batch.
        """
        super().__init__()
        self.model, self.states, self.cells = model, states, list(cells)
        self.builders, self._share = dict(builders), share
        self.cells_left: int | None = None
        self.n_samples = sum(len(batch.rows) for batch, _ in states.parts)

    def keep(self, item: WorkItem, edits: Mapping[Site, EditBatch]) -> None:
        """Run one forward under its cells' edits and keep what is wanted of it."""
        raise NotImplementedError

    def forwards(self, places: Sequence[int]) -> list[WorkItem]:
        """Return the forwards that run some cells of one kind, each stored batch's together."""
        items = []
        for batch, states in self.states.parts:
            share = self._share(batch)
            items += [WorkItem(list(places[at : at + share]), batch, states) for at in range(0, len(places), share)]
        return items

    def shards(self) -> list[list[int]]:
        """Return the places of the cells in parts that are run one after the other, each of one kind.

        A part is some forwards' worth: what a kill costs at most, and what several processes share out. The parts follow from
        the cells and batches alone, because a cell's last digits depend on those it shares a forward with.
        """
        batches = [batch for batch, _ in self.states.parts]
        at_once = max(FORWARDS_PER_BATCH, -(-FORWARDS // max(len(batches), 1)))
        most = at_once * max((self._share(batch) for batch in batches), default=1)
        return [kind[at : at + most] for kind in by_kind(self.cells, self.builders) for at in range(0, len(kind), most)]

    def predict_dataloader(self) -> DataLoader[WorkItem]:
        """Return every forward, cells that mix neurons apart from the others."""
        items = [item for kind in by_kind(self.cells, self.builders) for item in self.forwards(kind)]
        return DataLoader(items, batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, item: WorkItem, device: torch.device, dataloader_idx: int) -> WorkItem:
        """Return the item with inputs and states on the trainer's device."""
        return WorkItem(item.cells, item.batch.to(device), item.states.to(device))

    def work(self) -> float:
        """Return how many cells there are to run."""
        return float(len(self.cells) if self.cells_left is None else self.cells_left)

    def work_of(self, item: WorkItem) -> float:
        """Return how many cells an item is worth: each counts by the share of the samples it was run over."""
        return len(item.cells) * len(item.batch.rows) / max(self.n_samples, 1)

    def predict_step(self, item: WorkItem, batch_idx: int) -> None:
        """Run one item, in halves where the device has no memory for it at once."""
        in_halves(
            self._run, item, halve=WorkItem.halves, size=lambda part: part.size, what="samples x cells of a forward"
        )

    def _run(self, item: WorkItem) -> None:
        cells = [self.cells[place] for place in item.cells]
        self.keep(item, {site: builder.batch(cells).to(item.states.device) for site, builder in self.builders.items()})


class SweepEvaluator(CellForwards):
    """Keeps what the model answers under every cell's edits, next to the unedited answers."""

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
            states: outputs of the layer that `loaded.paths.start_of` names for the first site.
            builders: by site, in the order of the model; a cell edits all of them at once.
            base_log_probabilities, base_prediction: of the unedited model `[sample, concept]`, `[sample]`.
            edit_positions: `record`, `all`, `prompt` or `generated`.
            tokens_per_forward: rows x positions that one forward may hold; sets how many cells share it.

        Raises:
            ConfigError: the edited positions cannot reach the head, or hold no token.
        """
        positions = edited_positions(loaded, states.layer, edit_positions)
        strategy = strategy_for(loaded, states.layer, positions, tokens_per_forward)
        super().__init__(loaded.model, states, builders, cells, strategy.share)
        self.loaded, self.strategy = loaded, strategy
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.base = torch.from_numpy(base_log_probabilities)
        self.base_prediction = torch.from_numpy(np.asarray(base_prediction, dtype=np.int64))
        shape = (len(self.cells), len(self.labels))
        self.outcomes = Outcomes(
            gold=np.zeros(shape, dtype=np.float32),
            correct=np.zeros(shape, dtype=bool),
            kl=np.zeros(shape, dtype=np.float32),
            flipped=np.zeros(shape, dtype=bool),
        )

    def keep(self, item: WorkItem, edits: Mapping[Site, EditBatch]) -> None:
        """Read one item's cells and keep their outcomes."""
        reading = self.strategy.read(len(item.cells), edits, item.batch, item.states)
        edited_log_probs, prediction = reading.log_probabilities.cpu(), reading.prediction.cpu()
        rows = torch.from_numpy(item.batch.rows)
        labels, base = self.labels[rows], self.base[rows]
        where = np.ix_(np.asarray(item.cells), item.batch.rows)
        gold = edited_log_probs.gather(-1, labels.expand(len(item.cells), -1)[..., None])[..., 0].exp()
        self.outcomes.gold[where] = gold.numpy()
        self.outcomes.correct[where] = (prediction == labels).numpy()
        self.outcomes.kl[where] = (base.exp() * (base - edited_log_probs)).sum(-1).numpy()
        self.outcomes.flipped[where] = (prediction != self.base_prediction[rows]).numpy()
