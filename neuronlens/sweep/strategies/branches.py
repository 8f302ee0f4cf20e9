"""Cells as branches after the unedited prompt's keys: a token or few per cell."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from neuronlens.edits.base import EditBatch
from neuronlens.hooks.branches import Prompt, read_prompt, run_branches
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.masks import edit_mask
from neuronlens.models.batches import Batch
from neuronlens.models.heads.base import Reading
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from neuronlens.sweep.strategies.base import OncePerBatch, cells_that_fit

MOST_BRANCHES = 64
"""Tokens that branch off one prompt in one forward: more would attend to one another's masked keys for nothing."""


class Branches:
    """Every cell is its record token, and the labels' further ones, after what the unedited prompt leaves in the cache."""

    def __init__(self, loaded: LoadedModel, layer: int, positions: str, tokens_per_forward: int) -> None:
        """Read from the output of block `layer` on, -1 for the embeddings."""
        self.loaded, self.layer, self.positions = loaded, layer, positions
        self.tokens_per_forward = tokens_per_forward
        self._prompt = OncePerBatch(self._read_prompt)

    def share(self, batch: Batch) -> int:
        """Return how many cells share one forward over a batch."""
        head, samples = self.loaded.head, len(batch.inputs["input_ids"])
        width = 1 + sum(map(len, head.continuations))
        fit = cells_that_fit(
            samples, tokens=width, floats=head.floats_per_sample, tokens_per_forward=self.tokens_per_forward
        )
        return max(1, min(fit, MOST_BRANCHES // width))

    def read(self, cells: int, edits: Mapping[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return what the model answers under each cell's edits."""
        head, start = self.loaded.head, Site(self.layer)
        prompt = self._prompt(batch, states)
        hidden = states.gather(1, prompt.index[..., None].expand(-1, -1, states.shape[-1]))[None]
        attended = prompt.tail["attention_mask"] != 0
        mask = edit_mask(attended, prompt.tail["segment"] == 0, self.positions)
        if start in edits:
            hidden = edits[start](hidden, mask)
        hidden = hidden.expand(cells, *hidden.shape[1:])
        words = None if head.words is None else head.words.to(states.device)
        above = {site: _AlongPositions(edit, cells, mask) for site, edit in edits.items() if site != start}
        every = torch.ones_like(attended).repeat(1, cells)
        with edited(self.loaded.model, above, attended=every) if above else nullcontext():
            reading = head.of(run_branches(self.loaded.model, prompt, hidden, words=words))
        return Reading(reading.log_probabilities.transpose(0, 1), reading.prediction.T)

    def _read_prompt(self, batch: Batch, states: Tensor) -> Prompt:
        return read_prompt(self.loaded.model, self.layer, batch.inputs, states)


class _AlongPositions:
    """An edit of several cells that stand one after the other along the positions of one row."""

    def __init__(self, edit: EditBatch, cells: int, mask: Tensor) -> None:
        self.edit, self.cells, self.mask = edit, cells, mask

    def __call__(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        by_cell = hidden[0].unflatten(1, (self.cells, -1)).transpose(0, 1)
        return self.edit(by_cell, self.mask).transpose(0, 1).flatten(1, 2)[None]
