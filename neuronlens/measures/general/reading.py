"""Scores tokens of a language model at chosen places, unedited and under every cell's edit, from one stored state.

A batch of rows runs once; each cell starts from the block output that its edit needs and stops at the last block. Final
norm and vocabulary head then run on the places that are read alone, some at a time, so that no more logits exist at once
than `MOST_LOGITS`, whatever the vocabulary. At the last layer a cell is nothing but these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from neuronlens.errors import ModelError
from neuronlens.execution.trainer import TrainerConfig, make_trainer
from neuronlens.hooks.contexts import capture
from neuronlens.hooks.masks import edit_mask, prompt_mask
from neuronlens.hooks.readout import log_probability_of
from neuronlens.hooks.replay import forward, run_body, starting_from, starts_at
from neuronlens.hooks.resolver import blocks_of
from neuronlens.hooks.takes import is_causal, takes_positions
from neuronlens.hooks.tokens import Tokens, reads_tokens, run_edit
from neuronlens.models.batches import collate
from neuronlens.models.checkpoint import usable_positions
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import Cell, FloatArray, IntArray, Site
from neuronlens.sweep.evaluator import BuildsEdits, by_kind
from neuronlens.sweep.strategies.rows import edited_rows

MOST_LOGITS = 1 << 26
"""Logits of one piece of the vocabulary head: 256 MiB in float32."""

Score = Callable[[Tensor, Tensor], Tensor]
"""Takes logits `[read, token]` (float32 at least) and targets `[read, option]`; gives a score per option."""


@dataclass(frozen=True)
class Reads:
    """Rows of tokens, and the places in them where the model's prediction is scored.

    Attributes:
        inputs: what the model is called with `[row, position]`.
        row, place: where a prediction is read `[read]`.
        target: the token ids that it is scored on `[read, option]`.
        owner: index of the document or question behind it `[read]`.
    """

    inputs: Mapping[str, Tensor]
    row: Tensor
    place: Tensor
    target: Tensor
    owner: IntArray

    def to(self, device: torch.device | str) -> Reads:
        """Return the batch with its tensors on `device`."""
        inputs = {name: tensor.to(device) for name, tensor in self.inputs.items()}
        own = {name: getattr(self, name).to(device) for name in ("row", "place", "target")}
        return replace(self, inputs=inputs, **own)


@dataclass(frozen=True)
class Row:
    """One row of tokens: `places` are read, each scored on its `targets` `[place, option]`, all for one `owner`.

    `mask` is a token to stand at the places that are read instead of the row's own, or None; rows that differ in nothing
    else share their tokens.
    """

    token_ids: Sequence[int]
    places: Sequence[int]
    targets: Sequence[Sequence[int]]
    owner: int
    mask: int | None = None


class ReadBatches(Dataset[Reads]):
    """Rows in batches of similar length, longest first, each made when it is asked for."""

    def __init__(self, rows: Sequence[Row], loaded: LoadedModel, most_tokens: int) -> None:
        """Deal `rows` into batches of the model's size, smaller where `most_tokens` rows x positions hold fewer."""
        self.rows, self.tokenizer = list(rows), loaded.tokenizer
        self.positions = takes_positions(loaded.model)
        order = sorted(range(len(self.rows)), key=lambda row: (-len(self.rows[row].token_ids), row))
        self.batches: list[list[int]] = []
        start = 0
        while start < len(order):
            width = len(self.rows[order[start]].token_ids)
            count = max(1, min(loaded.batch_size, most_tokens // max(width, 1)))
            self.batches.append(order[start : start + count])
            start += count

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self.batches)

    def __getitem__(self, index: int) -> Reads:
        """Return one batch."""
        rows = [self.rows[row] for row in self.batches[index]]
        inputs = collate(
            [row.token_ids for row in rows],
            pad_id=self.tokenizer.pad_token_id,
            padding_side=self.tokenizer.padding_side,
            positions=self.positions,
        )
        width = inputs["input_ids"].shape[1]
        places: list[Tensor] = []
        for number, row in enumerate(rows):
            start = width - len(row.token_ids) if self.tokenizer.padding_side == "left" else 0
            places.append(start + torch.tensor(row.places))
            if row.mask is not None:
                inputs["input_ids"][number, places[-1]] = row.mask
        return Reads(
            inputs=inputs,
            row=torch.tensor([number for number, row in enumerate(rows) for _ in row.places]),
            place=torch.cat(places),
            target=torch.tensor([list(options) for row in rows for options in row.targets]),
            owner=np.asarray([row.owner for row in rows for _ in row.places], dtype=np.int64),
        )

    def __iter__(self) -> Iterator[Reads]:
        """Give the batches in turn."""
        return (self[index] for index in range(len(self)))


class EditedReader(pl.LightningModule):
    """Reads scores off a model, unedited and under edits."""

    def __init__(
        self,
        model: nn.Module,
        builders: Mapping[Site, BuildsEdits],
        cells: Sequence[Cell],
        score: Score,
        *,
        positions: str,
        tokens_per_forward: int,
        keep: Callable[[Reads, FloatArray], None] | None = None,
    ) -> None:
        """Prepare to read under the edits of `cells`.

        Args:
            builders: by site, in the order of the model; a cell edits all of them at once.
            positions: which positions of a row are edited, `all` attended ones, `cls` or `last`.
            tokens_per_forward: rows x positions that one forward of a batch's cells may hold.
            keep: takes each batch and its scores `[1 + cell, read, option]`.

        Raises:
            ModelError: the model has no vocabulary head.
        """
        super().__init__()
        self.model, self.builders, self.cells = model, dict(builders), list(cells)
        self.score, self.positions, self.tokens_per_forward, self.keep = score, positions, tokens_per_forward, keep
        self.vocabulary = vocabulary_size(model)
        self.last = len(blocks_of(model)) - 1
        self.start = starts_at(next(iter(self.builders))) if self.builders else self.last
        self.kinds = by_kind(self.cells, self.builders)

    def transfer_batch_to_device(self, reads: Reads, device: torch.device, dataloader_idx: int) -> Reads:
        """Return the batch on the trainer's device."""
        return reads.to(device)

    def predict_step(self, reads: Reads, batch_idx: int) -> None:
        """Read one batch and hand its scores on."""
        if self.keep is not None:
            self.keep(reads, self.scores(reads))

    @torch.no_grad()
    def scores(self, reads: Reads) -> FloatArray:
        """Return `[1 + cell, read, option]` float32: the unedited model's scores first, then each cell's."""
        body: nn.Module = self.model.base_model  # type: ignore[assignment]
        watched = [Site(layer) for layer in sorted({self.start, self.last}) if layer >= 0]
        with capture(body, watched) as recorded:
            run_body(body, reads.inputs, deepest=self.last)
        unedited = recorded[Site(self.last)][reads.row, reads.place]
        states = recorded[Site(self.start)] if self.start >= 0 else reads.inputs["input_ids"][..., None][..., :0]
        found = np.empty((1 + len(self.cells), *reads.target.shape), dtype=np.float32)
        found[0] = self._read(unedited[None], reads)[0]
        rows_of_a_cell = len(reads.row) if self.start == self.last else reads.inputs["input_ids"].numel()
        share = max(1, self.tokens_per_forward // rows_of_a_cell)
        for kind in self.kinds:
            for at in range(0, len(kind), share):
                places = kind[at : at + share]
                hidden = self._under_edits([self.cells[place] for place in places], reads, states)
                found[1 + np.asarray(places)] = self._read(hidden, reads)
        return found

    def _under_edits(self, cells: Sequence[Cell], reads: Reads, states: Tensor) -> Tensor:
        """Return the last block's output at the places that are read, under each cell's edit `[cell, read, neuron]`."""
        edits = {site: builder.batch(cells).to(states.device) for site, builder in self.builders.items()}
        at_end = edits.pop(Site(self.last), None)
        if self.start < self.last:
            body: nn.Module = self.model.base_model  # type: ignore[assignment]
            options: dict[str, Any] = {"cells": len(cells), "positions": self.positions}
            with (
                capture(body, [Site(self.last)]) as recorded,
                edited_rows(body, self.start, edits, reads.inputs, states, **options) as rows,
            ):
                run_body(body, rows, deepest=self.last)
            states = recorded[Site(self.last)].unflatten(0, (len(cells), -1))
        else:
            states = states[None]
        if at_end is None:
            return states[:, reads.row, reads.place]
        if reads_tokens({Site(self.last): at_end}):
            attended, prompt = reads.inputs["attention_mask"] != 0, prompt_mask(reads.inputs)
            tokens = Tokens.of(reads.inputs, causal=is_causal(self.model))
            edited = run_edit(at_end, states, edit_mask(attended, prompt, self.positions), tokens)
            return edited[:, reads.row, reads.place]
        hidden = states[:, reads.row, reads.place]
        # The head takes each position for itself, so at the last block only those that are read need their edit.
        attended, prompt = reads.inputs["attention_mask"] != 0, prompt_mask(reads.inputs)
        where = edit_mask(attended, prompt, self.positions)[reads.row, reads.place][:, None]
        return at_end(hidden[:, :, None], where)[:, :, 0]

    def _read(self, hidden: Tensor, reads: Reads) -> FloatArray:
        """Return the scores `[cell, read, option]` of final states `[cell, read, neuron]`, some of the logits at a time."""
        cells, count = hidden.shape[:2]
        flat, target = hidden.flatten(0, 1), reads.target.repeat(cells, 1)
        piece = max(1, min(self.tokens_per_forward, MOST_LOGITS // self.vocabulary))
        parts = []
        for at in range(0, len(flat), piece):
            logits = self._logits(flat[at : at + piece])
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            parts.append(self.score(logits, target[at : at + piece]).cpu())
        return torch.cat(parts).view(cells, count, -1).numpy()

    def _logits(self, hidden: Tensor) -> Tensor:
        """Return the vocabulary's logits `[token, token id]` of final states `[token, neuron]`, by the model's own code."""
        inputs = {"input_ids": torch.zeros(len(hidden), 1, dtype=torch.long, device=hidden.device)}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if takes_positions(self.model):
            inputs["position_ids"] = torch.zeros_like(inputs["input_ids"])
        with starting_from(self.model, self.last, hidden[:, None]):
            return forward(self.model, inputs)[:, 0]


def read_all(reader: EditedReader, batches: ReadBatches, trainer: TrainerConfig, stage: str) -> None:
    """Read every batch on the trainer's device; the scores go to the reader's `keep`."""
    loader: DataLoader[Reads] = DataLoader(batches, batch_size=None)
    make_trainer(trainer, stage).predict(reader, dataloaders=loader, return_predictions=False)


def token_log_probability(logits: Tensor, target: Tensor) -> Tensor:
    """Return log p of each target token `[read, option]`, over the whole vocabulary."""
    return log_probability_of(logits, target)


def log_probability_among(logits: Tensor, target: Tensor) -> Tensor:
    """Return log p of each target token `[read, option]` given that it is one of them."""
    return logits.gather(-1, target).log_softmax(-1)


def vocabulary_size(model: nn.Module) -> int:
    """Return how many tokens the model's vocabulary head scores.

    Raises:
        ModelError: it has none.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        kind = "AutoModelForCausalLM" if is_causal(model) else "AutoModelForMaskedLM"
        raise ModelError(
            f"{type(model).__name__} has no vocabulary head, so it gives no token a probability. Expected a model of "
            f"{kind}. Next: evaluation.general.perplexity=false and .mmlu=false."
        )
    return int(head.weight.shape[0])


def check_length(model: nn.Module, max_length: int, option: str) -> None:
    """Refuse rows of more tokens than the model has positions.

    Raises:
        ModelError: they would be.
    """
    longest = usable_positions(model)
    if longest and max_length > longest:
        raise ModelError(f"{option} is {max_length}, expected at most {longest}, the model's positions.")
