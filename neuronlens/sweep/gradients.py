"""How each sample's own concept's logit changes with a site's neurons: one backward pass per batch, from stored states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from neuronlens.activations.extract import Extraction
from neuronlens.activations.states import StoredStates
from neuronlens.activations.subsets import gradients_of
from neuronlens.config.schema import Config
from neuronlens.execution.trainer import make_trainer
from neuronlens.models.batches import Batch
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ActivationSet, FloatArray, IntArray, Site
from neuronlens.sweep.strategies.choose import edited_positions
from neuronlens.sweep.strategies.rows import Rows


class _Added:
    """Adds a vector per sample at the positions that are edited."""

    def __init__(self, vectors: Tensor) -> None:
        self.vectors = vectors

    def __call__(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        added = self.vectors[:, None].expand(hidden.shape[1:])
        return hidden + (added if mask is None else torch.where(mask[..., None], added, 0.0))


class OwnLogitGradients(pl.LightningModule):
    """Takes the gradient of every sample's own concept's logit with respect to a vector added at the edited positions."""

    unit = "samples"

    def __init__(
        self,
        loaded: LoadedModel,
        states: StoredStates,
        site: Site,
        labels: IntArray,
        *,
        neurons: int,
        edit_positions: str,
    ) -> None:
        """Prepare for the samples behind `states`.

        Args:
            labels: the concept whose logit counts `[sample]`.
            neurons: of the site.

        Raises:
            ConfigError: what is edited there cannot reach the head.
        """
        super().__init__()
        self.model, self.loaded, self.site, self.states = loaded.model, loaded, site, states
        positions = edited_positions(loaded, states.layer, edit_positions)
        layer = states.layer if loaded.head.replays else -1
        self.rows = Rows(loaded, layer, positions, 1)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.gradients: FloatArray = np.zeros((len(self.labels), neurons), dtype=np.float32)

    def predict_dataloader(self) -> DataLoader[tuple[Batch, Tensor]]:
        """Return the stored batches."""
        return DataLoader(self.states.parts, batch_size=None)  # type: ignore[arg-type]

    def transfer_batch_to_device(
        self, part: tuple[Batch, Tensor], device: torch.device, dataloader_idx: int
    ) -> tuple[Batch, Tensor]:
        """Return the batch on the trainer's device."""
        return part[0].to(device), part[1].to(device)

    def work(self) -> float:
        """Return how many samples there are."""
        return float(len(self.labels))

    def work_of(self, part: tuple[Batch, Tensor]) -> float:
        """Return how many samples a batch holds."""
        return float(len(part[0].rows))

    def predict_step(self, part: tuple[Batch, Tensor], batch_idx: int) -> None:
        """Take one batch's gradients."""
        batch, states = part
        self.gradients[batch.rows] = self._of(batch, states).float().cpu().numpy()

    def _of(self, batch: Batch, states: Tensor) -> Tensor:
        shape = len(batch.rows), self.gradients.shape[1]
        own = self.labels[torch.from_numpy(batch.rows)].to(states.device)
        with torch.enable_grad():
            added = torch.zeros(shape, dtype=self.model.dtype, device=states.device, requires_grad=True)
            edits: Mapping[Site, Any] = {self.site: _Added(added)}
            with self.rows.running(1, edits, batch, states) as rows:
                reading = self.loaded.head.read(self.model, rows)
            scores = reading.log_probabilities if reading.scores is None else reading.scores
            total = scores.gather(-1, own[:, None]).sum()
            (gradient,) = torch.autograd.grad(total, added)
        return gradient


def with_gradients(config: Config, loaded: LoadedModel, fit: Extraction) -> Extraction:
    """Return the fit split's extraction with activations that can tell their gradients, for rankers that need these.

    The pass is made when a ranker asks for it, once per labelling.
    """
    found = {}
    first = next(iter(fit.activations))  # sites that are edited at once start from the states of the lowest
    for site, activations in fit.activations.items():
        start = loaded.paths.start_of(site)
        states = fit.states[start if start in fit.states else loaded.paths.start_of(first)]
        found[site] = replace(activations, gradients=partial(_gradients, config, loaded, states, site, activations))
    return replace(fit, activations=found, tokens={site: _behind(own, found[site]) for site, own in fit.tokens.items()})


def _behind(tokens: ActivationSet, activations: ActivationSet) -> ActivationSet:
    """Return tokens whose texts can tell their gradients, under the true labels and under shuffled ones."""
    assert tokens.records is not None, "tokens know the texts behind them"
    own = gradients_of(activations, np.isin(activations.ids, tokens.records.ids))
    shuffled = tokens.shuffled
    if shuffled is not None and shuffled.records is not None:
        shuffled = replace(shuffled, records=replace(shuffled.records, gradients=own))
    return replace(tokens, records=replace(tokens.records, gradients=own), shuffled=shuffled)


def _gradients(
    config: Config,
    loaded: LoadedModel,
    states: StoredStates,
    site: Site,
    activations: ActivationSet,
    labels: IntArray,
) -> FloatArray:
    positions, neurons = config.intervention.edit_positions, activations.values.shape[1]
    module = OwnLogitGradients(loaded, states, site, labels, neurons=neurons, edit_positions=positions)
    make_trainer(config.trainer, f"gradients at {site}").predict(module, return_predictions=False)
    return module.gradients
