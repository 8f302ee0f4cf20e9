"""Fits layer by layer with the earlier layers' edits active: each cell has activations, rankings and ranges of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from neuronlens.activations.states import StoredStates
from neuronlens.activations.subsets import token_set, with_labels
from neuronlens.activations.tokens import TokenPlan, TokenStream, token_mask
from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.edits.base import EditBatch
from neuronlens.edits.build import EditBuilder
from neuronlens.edits.decided import stacked
from neuronlens.execution.trainer import make_trainer
from neuronlens.hooks.contexts import capture, read_positions
from neuronlens.hooks.masks import prompt_mask
from neuronlens.hooks.replay import run_body
from neuronlens.hooks.resolver import recorded_position
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ActivationSet, Cell, FloatArray, Site
from neuronlens.sweep.evaluator import BuildsEdits, CellForwards, WorkItem
from neuronlens.sweep.strategies.choose import edited_positions
from neuronlens.sweep.strategies.rows import Rows


class PerCellBuilder:
    """One builder per cell at a site, with the call of a builder for all."""

    def __init__(self, builders: Mapping[Cell, EditBuilder]) -> None:
        """Take the cells' builders."""
        self.builders = dict(builders)

    def batch(self, cells: Sequence[Cell]) -> EditBatch:
        """Return the edits of several cells of one kind."""
        return stacked([self.builders[cell].batch([cell]) for cell in cells])

    def mixes_neurons(self, cell: Cell) -> bool:
        """Return which kind a cell's edit is of."""
        return self.builders[cell].mixes_neurons(cell)

    def skip_reason(self, cell: Cell) -> str | None:
        """Return why this cell cannot be evaluated, or None."""
        return self.builders[cell].skip_reason(cell)


class EditedActivations(CellForwards):
    """Keeps a later site's activations under every cell's edits at earlier sites, made on the trainer's device."""

    def __init__(
        self,
        loaded: LoadedModel,
        states: StoredStates,
        builders: Mapping[Site, BuildsEdits],
        cells: Sequence[Cell],
        plain: ActivationSet,
        *,
        edit_positions: str,
        tokens_per_forward: int,
        tokens: TokenPlan | None = None,
    ) -> None:
        """Prepare to record `plain`'s site.

        Args:
            tokens: how tokens are taken; None records one vector per text.

        Raises:
            ConfigError: as `SweepEvaluator` does.
        """
        positions = edited_positions(loaded, states.layer, edit_positions)
        # Activations are read at the prompt, whatever follows it; where no states are stored the whole model runs.
        layer = states.layer if loaded.head.replays else -1
        rows = Rows(loaded, layer, positions, tokens_per_forward)
        super().__init__(loaded.model, states, builders, cells, rows.share)
        self.rows, self.site = rows, plain.site
        self.record_position = recorded_position(
            loaded.model, plain.site, loaded.record_position, reads=loaded.head.reads
        )
        self.plan, self.plain, self.streams = tokens, plain, dict[int, TokenStream]()
        count = len(self.cells) if tokens is None else 0
        self.values = np.empty((count, *plain.values.shape), dtype=np.float32)

    def keep(self, item: WorkItem, edits: Mapping[Site, EditBatch]) -> None:
        """Run one item's cells as deep as the site and keep its activations."""
        cells = len(item.cells)
        with (
            capture(self.model, [self.site]) as recorded,
            self.rows.running(cells, edits, item.batch, item.states) as rows,
        ):
            run_body(self.model, rows, deepest=self.site.layer)
        if self.plan is not None:
            self._keep_tokens(self.plan, item, recorded[self.site])
            return
        vectors = read_positions(recorded[self.site], prompt_mask(rows), self.record_position).float().cpu()
        self.values[np.ix_(np.asarray(item.cells), item.batch.rows)] = vectors.unflatten(0, (cells, -1)).numpy()

    def _keep_tokens(self, plan: TokenPlan, item: WorkItem, hidden: Tensor) -> None:
        inputs, plain, loaded = item.batch.inputs, self.plain, self.rows.loaded
        mask = token_mask(self.model, self.site, inputs, reads=loaded.head.reads, skips_first=plan.skips_first)
        if plan.only_correct:
            assert plain.base_prediction is not None, "predictions are recorded where fit_on asks for them"
            right = torch.from_numpy((plain.base_prediction == plain.labels)[item.batch.rows])
            mask = mask & right.to(mask.device)[:, None]
        for cell, own in zip(item.cells, hidden.unflatten(0, (len(item.cells), -1)), strict=True):
            if cell not in self.streams:
                where = plain.labels, len(plain.concepts), hidden.shape[-1], hidden.device
                self.streams[cell] = TokenStream(plan, *where)
            self.streams[cell].update(own, mask, item.batch.rows)


def activations_under(
    loaded: LoadedModel,
    states: StoredStates,
    builders: Mapping[Site, BuildsEdits],
    cells: Sequence[Cell],
    plain: ActivationSet,
    *,
    edit_positions: str,
    tokens_per_forward: int,
    trainer: TrainerConfig,
    tokens: TokenPlan | None = None,
) -> dict[Cell, Callable[[], ActivationSet]]:
    """Return, per cell, what makes a site's activations on a split while the cell's edits at earlier sites are active.

    Making them raises ActivationError where an edit led to values that are no numbers.

    Args:
        states: of the split, at the layer the first site's replay starts from.
        builders: of the earlier sites.
        plain: the site's activations without any edit, a row per text.
        tokens: how tokens are taken; None gives one vector per text.
    """
    recorder = EditedActivations(
        loaded,
        states,
        builders,
        cells,
        plain,
        edit_positions=edit_positions,
        tokens_per_forward=tokens_per_forward,
        tokens=tokens,
    )
    if cells:
        make_trainer(trainer, f"activations of {plain.site}").predict(recorder, return_predictions=False)
    if tokens is not None:
        streams = recorder.streams
        return {cell: partial(_tokens_of, plain, streams[place], cell) for place, cell in enumerate(cells)}
    values = recorder.values
    return {cell: partial(_other_values, plain, values[place], cell) for place, cell in enumerate(cells)}


def _other_values(plain: ActivationSet, values: FloatArray, cell: Cell) -> ActivationSet:
    return with_labels(replace(plain, values=values, gradients=None), plain.labels, f"under {cell}")


def _tokens_of(plain: ActivationSet, stream: TokenStream, cell: Cell) -> ActivationSet:
    return token_set(plain, stream.result(), fingerprint([plain.fingerprint, f"under {cell}"]))


def fit_in_order(
    sites: Sequence[Site],
    cells: Sequence[Cell],
    first: EditBuilder,
    fit: Callable[
        [Mapping[Site, BuildsEdits], Site, Sequence[Cell]], tuple[Mapping[Cell, EditBuilder], Mapping[Cell, str]]
    ],
) -> tuple[dict[Site, BuildsEdits], dict[Cell, str]]:
    """Return builders by site, each fitted with the earlier ones' edits active, and the cells that a fit skipped.

    Args:
        first: the first site's, fitted on the unedited model.
        fit: gives the builders of one further site, per cell, under the builders so far, and the cells it refused.
    """
    builders: dict[Site, BuildsEdits] = {sites[0]: first}
    skipped = {cell: reason for cell in cells if (reason := first.skip_reason(cell))}
    for site in sites[1:]:
        left = [cell for cell in cells if cell not in skipped]
        found, refused = fit(builders, site, left)
        builder = PerCellBuilder(found)
        skipped |= refused
        skipped |= {cell: f"{site}: {reason}" for cell in found if (reason := builder.skip_reason(cell))}
        builders[site] = builder
    return builders, skipped
