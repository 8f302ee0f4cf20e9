"""Cells at the last layer whose edits leave the labels' further tokens as they are: these are read once per batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from neuronlens.edits.base import EditBatch
from neuronlens.hooks.replay import replay
from neuronlens.models.batches import Batch
from neuronlens.models.heads.base import Reading
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from neuronlens.sweep.strategies.base import OncePerBatch, cells_that_fit


class PromptAlone:
    """Every cell is its record token's state under the model's output embedding, and nothing else."""

    def __init__(self, loaded: LoadedModel, layer: int, tokens_per_forward: int) -> None:
        """Read from the output of block `layer`, the last."""
        self.loaded, self.layer, self.tokens_per_forward = loaded, layer, tokens_per_forward
        self._further = OncePerBatch(self._read_further)

    def share(self, batch: Batch) -> int:
        """Return how many cells share one forward over a batch."""
        samples, width = batch.inputs["input_ids"].shape
        floats = self.loaded.head.labels.vocabulary
        return cells_that_fit(samples, tokens=width, floats=floats, tokens_per_forward=self.tokens_per_forward)

    def read(self, cells: int, edits: Mapping[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return what the model answers under each cell's edits."""
        further = self._further(batch, states)
        first = _columns(batch, slice(1))
        (edit,) = edits.values()
        hidden = edit(states[None, :, :1], first["attention_mask"] != 0)
        return self.loaded.head.of(replay(self.loaded.model, self.layer, first, hidden), further)

    def _read_further(self, batch: Batch, states: Tensor) -> Tensor:
        """Return log p of the labels' tokens after the first `[sample, further]`."""
        logits = replay(self.loaded.model, self.layer, _columns(batch, slice(1, None)), states[None, :, 1:])
        return self.loaded.head.further_tokens(logits)[0]


def _columns(batch: Batch, part: slice) -> dict[str, Tensor]:
    """Return some of a batch's stored positions: no token attends to another there, so no segment is needed."""
    return {name: tensor[:, part] for name, tensor in batch.inputs.items() if name != "segment"}
