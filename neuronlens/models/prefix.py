"""The stored states of the frozen prefix, from which fine-tuning starts in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torch import Tensor

from neuronlens.config.schema_run import TrainerConfig
from neuronlens.execution.memory import in_halves
from neuronlens.execution.trainer import make_trainer
from neuronlens.hooks.contexts import capture
from neuronlens.hooks.replay import run_body
from neuronlens.models.batches import Batch, text_batches
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ConceptDataset, IntArray, Site
from neuronlens.storage.spill import StateBudget

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PrefixSample:
    """One training example: its tokens, the frozen prefix's output for them, and its concept."""

    inputs: dict[str, Tensor]
    state: Tensor
    label: int


def stack_samples(samples: Sequence[PrefixSample], pad_id: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Return inputs `[sample, position]`, states `[sample, position, neuron]` and labels, padded to the longest."""
    pad = torch.nn.utils.rnn.pad_sequence
    fill = {"input_ids": pad_id}
    inputs = {
        name: pad([sample.inputs[name] for sample in samples], batch_first=True, padding_value=fill.get(name, 0))
        for name in samples[0].inputs
    }
    states = pad([sample.state for sample in samples], batch_first=True)
    return inputs, states, torch.tensor([sample.label for sample in samples])


class PrefixStates(pl.LightningModule):
    """Runs batches as deep as one block and keeps its output: what everything above starts from in every epoch."""

    unit = "samples"

    def __init__(self, model: PreTrainedModel, layer: int, samples: int, budget: StateBudget) -> None:
        """Prepare to keep the states of `samples` texts at block `layer`, within the budget."""
        super().__init__()
        self.model, self.layer, self.samples, self.budget = model, layer, samples, budget
        self.parts: list[tuple[Batch, Tensor]] = []

    def work(self) -> float:
        """Return how many samples there are."""
        return float(self.samples)

    def work_of(self, batch: Batch) -> float:
        """Return how many samples a batch holds."""
        return float(len(batch.rows))

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Keep one batch and its states, in halves where the device has no memory for it at once."""
        in_halves(self._run, batch, halve=Batch.halves, size=lambda part: len(part.rows), what="samples of a forward")

    def _run(self, batch: Batch) -> None:
        """Keep a batch and its states `[sample, position, neuron]`."""
        site = Site(self.layer)
        with capture(self.model, [site]) as recorded:
            run_body(self.model, batch.inputs, deepest=self.layer)
        self.parts.append((batch.to("cpu"), self.budget.keep(recorded[site])))


def prefix_samples(
    loaded: LoadedModel, layer: int, data: ConceptDataset, trainer: TrainerConfig, budget: StateBudget
) -> list[PrefixSample]:
    """Return the train split's examples with the output of block `layer`, from one pass that stops there."""
    rows = data.rows("train")
    module = PrefixStates(loaded.model, layer, len(rows), budget)
    batches = text_batches(loaded, [data.texts[row] for row in rows])
    make_trainer(trainer, "states of the frozen prefix").predict(module, datamodule=batches, return_predictions=False)
    samples = []
    for batch, states in module.parts:
        samples += _unpadded(batch, states, data.labels[rows])
    return samples


def _unpadded(batch: Batch, states: Tensor, labels: IntArray) -> list[PrefixSample]:
    """Return a batch's samples without their pads, which stand on one side: views, so that no state is held twice."""
    samples = []
    for place, row in enumerate(batch.rows):
        inputs = {name: tensor[place].cpu() for name, tensor in batch.inputs.items()}
        attended = inputs["attention_mask"].nonzero()[:, 0]
        real = slice(int(attended[0]), int(attended[-1]) + 1)
        cut = {name: tensor[real] for name, tensor in inputs.items()}
        samples.append(PrefixSample(cut, states[place, real], int(labels[row])))
    return samples
