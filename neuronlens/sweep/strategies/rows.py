"""Cells as extra rows of one forward, which starts at the stored states or at the embeddings; and written answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from torch import Tensor, nn

from neuronlens.edits.base import EditBatch
from neuronlens.hooks.contexts import edited
from neuronlens.hooks.masks import edit_mask, prompt_mask
from neuronlens.hooks.replay import replaying
from neuronlens.hooks.takes import is_causal
from neuronlens.hooks.tokens import Tokens, reads_tokens, run_edit
from neuronlens.models.batches import Batch
from neuronlens.models.heads.base import Reading
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Site
from neuronlens.sweep.strategies.base import cells_that_fit


@contextmanager
def edited_rows(
    model: nn.Module,
    layer: int,
    edits: Mapping[Site, EditBatch],
    inputs: Mapping[str, Tensor],
    states: Tensor,
    *,
    cells: int,
    positions: str,
) -> Iterator[dict[str, Tensor]]:
    """Make the model's forwards in the block start at each cell's edited states, with its other edits active.

    Args:
        layer: whose output is stored; -1 starts at the embeddings, and of `states` nothing is used.
        edits: of `cells` cells, by site; one at block `layer`'s own output changes the stored states.
        inputs: the tokenised samples `[sample, position]`.
        states: `[sample, position, neuron]`; not modified.
        positions: which positions are edited, as `hooks.masks.edit_mask` takes it.

    Yields:
        The inputs with the cells' rows one after the other `[cell x sample, position]`.
    """
    attended, prompt = inputs["attention_mask"] != 0, prompt_mask(inputs)
    places: dict[str, Tensor] = {"attended": attended, "prompt": prompt}
    hidden, start = states[None], Site(layer)
    if start in edits:
        tokens = Tokens.of(inputs, causal=is_causal(model)) if reads_tokens(edits) else None
        hidden = run_edit(edits[start], hidden, edit_mask(attended, prompt, positions), tokens)
    hidden = hidden.expand(cells, *hidden.shape[1:])
    above = {site: edit for site, edit in edits.items() if site != start}
    with ExitStack() as contexts:
        if above:
            contexts.enter_context(
                edited(model, above, positions=positions, cells=cells, **places, segment=inputs.get("segment"))
            )
        yield contexts.enter_context(replaying(model, layer, inputs, hidden))


class Rows:
    """Every cell is the whole batch once more, as extra rows of the same forward."""

    def __init__(self, loaded: LoadedModel, layer: int, positions: str, tokens_per_forward: int) -> None:
        """Read from the output of block `layer` on, -1 for the whole forward."""
        self.loaded, self.layer, self.positions = loaded, layer, positions
        self.tokens_per_forward = tokens_per_forward

    def share(self, batch: Batch) -> int:
        """Return how many cells share one forward over a batch."""
        samples, width = batch.inputs["input_ids"].shape
        floats = self.loaded.head.floats_per_sample
        return cells_that_fit(samples, tokens=width, floats=floats, tokens_per_forward=self.tokens_per_forward)

    def running(
        self, cells: int, edits: Mapping[Site, EditBatch], batch: Batch, states: Tensor
    ) -> AbstractContextManager[dict[str, Tensor]]:
        """Return the context in which the model's forwards are those of the cells; it gives their inputs."""
        model, inputs = self.loaded.model, batch.inputs
        return edited_rows(model, self.layer, edits, inputs, states, cells=cells, positions=self.positions)

    def read(self, cells: int, edits: Mapping[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return what the model answers under each cell's edits."""
        with self.running(cells, edits, batch, states) as rows:
            return by_cell(self.loaded.head.read(self.loaded.model, rows), cells)


class Generated(Rows):
    """The edits stay active while the model writes, from the embeddings on: no stored state serves there."""

    def __init__(self, loaded: LoadedModel, positions: str, tokens_per_forward: int) -> None:
        """Read whole forwards and written answers."""
        super().__init__(loaded, -1, positions, tokens_per_forward)

    def read(self, cells: int, edits: Mapping[Site, EditBatch], batch: Batch, states: Tensor) -> Reading:
        """Return the labels' probabilities and the written answers under each cell's edits."""
        model, head = self.loaded.model, self.loaded.head
        with self.running(cells, edits, batch, states) as rows:
            reading = head.read(model, rows)
        with edited(model, edits, positions=self.positions, cells=cells):
            written = head.answer(model, rows, reading)
        return by_cell(Reading(reading.log_probabilities, written), cells)


def by_cell(reading: Reading, cells: int) -> Reading:
    """Return a reading of rows `[cell x sample, ...]` as one of cells `[cell, sample, ...]`."""
    return Reading(*(tensor.unflatten(0, (cells, -1)) for tensor in (reading.log_probabilities, reading.prediction)))
