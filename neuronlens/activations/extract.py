"""Reads activations at the record position, their moments per concept, and the states that replays start from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from neuronlens.activations import states as stored
from neuronlens.activations.moments import ConceptMoments
from neuronlens.activations.states import Recorded, StoredStates
from neuronlens.activations.subsets import token_set, with_records
from neuronlens.activations.tokens import TokenPlan, TokenStream, token_mask
from neuronlens.config.fingerprint import fingerprint, plain
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.execution.machine import computed_by
from neuronlens.execution.memory import in_halves
from neuronlens.execution.trainer import make_trainer
from neuronlens.hooks.contexts import capture, read_positions
from neuronlens.hooks.masks import prompt_mask
from neuronlens.hooks.replay import run_body
from neuronlens.hooks.resolver import blocks_of, recorded_position
from neuronlens.models.batches import Batch, text_batches
from neuronlens.models.loaded import LoadedModel
from neuronlens.records import ActivationSet, ConceptDataset, FloatArray, IntArray, Site
from neuronlens.storage.cache import Store
from neuronlens.storage.spill import StateBudget, state_budget

MOST_LOGITS = 1 << 26
"""Logits that one cell's reading makes at once at the last layer, 256 MiB in float32."""


@dataclass(frozen=True)
class Extraction:
    """What one pass over a split gave.

    Attributes:
        activations: per site, at the record position.
        states: per layer that was asked to be kept.
        log_probabilities, prediction: of the unedited model `[sample, concept]` and `[sample]`, or None where it was
            not run to its head.
        tokens: per site, where they were asked for.
        seen_tokens: how many the first site's are a sample of.
    """

    activations: dict[Site, ActivationSet]
    states: dict[int, StoredStates]
    log_probabilities: FloatArray | None
    prediction: IntArray | None = None
    tokens: Mapping[Site, ActivationSet] = field(default_factory=dict)
    seen_tokens: int = 0

    @property
    def fitted_on(self) -> Mapping[Site, ActivationSet]:
        """What is fitted on: the tokens, where they were taken, else the record vectors."""
        return self.tokens or self.activations


class ActivationExtractor(pl.LightningModule):
    """Runs the model over batches once, only as deep as asked, recording before any edit."""

    unit = "samples"

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        sites: Sequence[Site],
        labels: IntArray,
        concepts: int,
        keep: Sequence[int] = (),
        to_the_head: bool = True,
        budget: StateBudget | None = None,
        tokens: TokenPlan | None = None,
    ) -> None:
        """Prepare to record `sites`.

        Args:
            labels: concept index of every sample of the split.
            keep: layers whose block outputs are kept for replay; at the last layer only the position the head reads,
                where that suffices.
            to_the_head: run the whole model and record its predictions; else stop at the deepest layer asked for.
            budget: holds the states that are kept; None for all in memory.
            tokens: how tokens are taken; None takes none.
        """
        super().__init__()
        self.plan, self.streams = tokens, dict[Site, TokenStream]()
        self.budget = budget
        self.model = loaded.model
        self.loaded = loaded
        self.sites, self.keep, self.to_the_head = tuple(sites), frozenset(keep), to_the_head
        self.shrunk = len(blocks_of(self.model)) - 1 if loaded.paths.shrinks else None
        self.watched = list(dict.fromkeys([*sites, *(Site(layer) for layer in sorted(self.keep) if layer >= 0)]))
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        self.concepts = concepts
        self.values: dict[Site, Tensor] = {}
        self.moments: dict[Site, ConceptMoments] = {}
        self.parts: dict[int, list[tuple[Batch, Tensor]]] = {layer: [] for layer in self.keep}
        self.log_probs: Tensor | None = None
        self.prediction = torch.empty(len(self.labels), dtype=torch.long)

    def work(self) -> float:
        """Return how many samples the split has."""
        return float(len(self.labels))

    def work_of(self, batch: Batch) -> float:
        """Return how many samples a batch holds."""
        return float(len(batch.rows))

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        """Record one batch, in halves where the device has no memory for it at once."""
        in_halves(self._run, batch, halve=Batch.halves, size=lambda part: len(part.rows), what="samples of a forward")

    def _run(self, batch: Batch) -> None:
        rows = torch.from_numpy(batch.rows)
        head = self.loaded.head
        with capture(self.model, self.watched) as recorded:
            if self.to_the_head:
                output = head.read(self.model, batch.inputs)
            else:
                run_body(self.model, batch.inputs, deepest=max(site.layer for site in self.watched))
        # Whatever takes much memory comes before the first record: a batch that is run again must not count twice.
        answer = head.answer(self.model, batch.inputs, output) if self.to_the_head else None
        if answer is not None:
            self._record_predictions(output.log_probabilities, answer, rows)
        for site in self.sites:
            self._record_values(site, recorded[site], batch, rows)
            if self.plan is not None:
                self._record_tokens(self.plan, site, recorded[site], batch)
        for layer in self.keep:
            hidden = recorded[Site(layer)] if layer >= 0 else batch.inputs["input_ids"][..., None][..., :0]
            self.parts[layer].append(self._kept(layer, hidden, batch))

    def _record_values(self, site: Site, hidden: Tensor, batch: Batch, rows: Tensor) -> None:
        position = recorded_position(self.model, site, self.loaded.record_position, reads=self.loaded.head.reads)
        vectors = read_positions(hidden, prompt_mask(batch.inputs), position).detach()
        if site not in self.values:
            self.values[site] = torch.empty(len(self.labels), vectors.shape[1], dtype=torch.float32)
            self.moments[site] = ConceptMoments(self.concepts, vectors.shape[1], vectors.device)
        self.values[site][rows] = vectors.float().cpu()
        self.moments[site].update(vectors, self.labels[rows].to(vectors.device))

    def _record_tokens(self, plan: TokenPlan, site: Site, hidden: Tensor, batch: Batch) -> None:
        mask = token_mask(self.model, site, batch.inputs, reads=self.loaded.head.reads, skips_first=plan.skips_first)
        if plan.only_correct:
            right = (self.prediction == self.labels)[torch.from_numpy(batch.rows)]
            mask = mask & right.to(mask.device)[:, None]
        if site not in self.streams:
            where = self.labels.numpy(), self.concepts, hidden.shape[-1], hidden.device
            self.streams[site] = TokenStream(plan, *where)
        self.streams[site].update(hidden, mask, batch.rows)

    def _record_predictions(self, log_probabilities: Tensor, prediction: Tensor, rows: Tensor) -> None:
        log_probs = log_probabilities.detach().cpu()
        if self.log_probs is None:
            self.log_probs = torch.empty(len(self.labels), log_probs.shape[1], dtype=log_probs.dtype)
        self.log_probs[rows] = log_probs
        self.prediction[rows] = prediction.cpu()

    def _kept(self, layer: int, hidden: Tensor, batch: Batch) -> tuple[Batch, Tensor]:
        if not self.loaded.head.replays:
            return batch.to("cpu"), hidden[..., :0].detach().cpu()
        if layer != self.shrunk:
            return batch.to("cpu"), self._held(hidden)
        read = self.loaded.head.index(batch.inputs)
        inputs = {name: tensor.gather(1, read) for name, tensor in batch.inputs.items()}
        if "position_ids" in inputs:
            inputs["position_ids"] = torch.zeros_like(inputs["position_ids"])
        state = hidden.gather(1, read[..., None].expand(-1, -1, hidden.shape[-1])).detach()
        return Batch(batch.rows, inputs).to("cpu"), state.cpu()

    def stored_states(self, layer: int) -> StoredStates:
        """Return a kept layer's states; at the last layer few large parts, since no position is padded."""
        parts = self.parts[layer]
        if layer == self.shrunk and self.loaded.head.replays:
            most = max(1, MOST_LOGITS // self.loaded.head.floats_per_sample)
            parts = [(batch, self._held(state)) for batch, state in stored.in_few_parts(parts, most)]
        return StoredStates(layer, parts)

    def _held(self, state: Tensor) -> Tensor:
        return state.detach().cpu() if self.budget is None else self.budget.keep(state)


def extract(
    loaded: LoadedModel,
    data: ConceptDataset,
    split: str,
    *,
    sites: Sequence[Site],
    trainer: TrainerConfig,
    keep: Sequence[int] = (),
    to_the_head: bool = True,
    store: Store | None = None,
    budget: StateBudget | None = None,
    tokens: TokenPlan | None = None,
) -> Extraction:
    """Return the activations of one split at the record position, from one pass over it or from the store.

    Args:
        sites: whose activations are wanted.
        keep: layers whose states are kept for replay.
        to_the_head: whether the unedited predictions are wanted as well.
        store: where the pass is kept under the fingerprint of all that it rests on; None keeps nothing.
        budget: holds the states, shared with other passes; None for one of this pass's own, as the trainer's config says.
        tokens: how the tokens are taken beside; None takes none.

    Raises:
        ActivationError: NaN or infinity among them.
    """
    inputs: dict[str, Any] = {
        "model": loaded.fingerprint,
        "data": data.fingerprint,
        "split": split,
        "keep": sorted(keep),
        "format": stored.FORMAT,
    }
    inputs |= {"sites": [str(site) for site in sites], "head": to_the_head, "batch_size": loaded.batch_size}
    if not loaded.paths.shrinks:
        inputs["whole_texts_at_the_last_layer"] = True
    inputs["computed_by"] = computed_by(trainer)
    if tokens is not None:
        inputs["tokens"] = tokens
    key = fingerprint(inputs)
    budget = budget or state_budget(trainer, store)
    with ExitStack() as claim:
        if store is not None:
            claim.enter_context(store.claimed(stored.STAGE, key))
        recorded = stored.load(store, key, budget) if store is not None else None
        found = recorded or _one_pass(loaded, data, split, sites, trainer, keep, to_the_head, budget, tokens)
        activations = _activations(loaded, data, split, found)
        if store is not None and recorded is None:
            stored.save(store, key, found, plain(inputs), budget)
    taken = {}
    for site, own in found.tokens.items():
        assert tokens is not None, "tokens are taken as a plan says"
        texts = activations[site]
        taken[site] = with_records(token_set(texts, own, fingerprint([texts.fingerprint, tokens])), texts, tokens)
    seen = next((own.seen for own in found.tokens.values()), 0)
    return Extraction(activations, found.states, found.log_probabilities, found.prediction, taken, seen)


def _activations(loaded: LoadedModel, data: ConceptDataset, split: str, found: Recorded) -> dict[Site, ActivationSet]:
    rows = data.rows(split)
    labels, ids = data.labels[rows], tuple(data.ids[row] for row in rows)
    base: dict[str, Any] = {}
    if found.log_probabilities is not None:
        base["base_prediction"] = found.prediction
        base["base_confidence"] = np.exp(found.log_probabilities[np.arange(len(labels)), labels])
    activations = {}
    for site, values in found.values.items():
        own = fingerprint([loaded.fingerprint, data.fingerprint, split, str(site)])
        activations[site] = ActivationSet(site, values, labels, data.concepts, ids, found.moments[site], own, **base)
    return activations


def _one_pass(
    loaded: LoadedModel,
    data: ConceptDataset,
    split: str,
    sites: Sequence[Site],
    trainer: TrainerConfig,
    keep: Sequence[int],
    to_the_head: bool,
    budget: StateBudget,
    tokens: TokenPlan | None,
) -> Recorded:
    rows = data.rows(split)
    options: dict[str, Any] = {"keep": keep, "to_the_head": to_the_head, "budget": budget, "tokens": tokens}
    module = ActivationExtractor(loaded, sites=sites, labels=data.labels[rows], concepts=len(data.concepts), **options)
    batches = text_batches(loaded, [data.texts[row] for row in rows])
    make_trainer(trainer, f"activations of {split}").predict(module, datamodule=batches, return_predictions=False)
    return Recorded(
        values={site: module.values[site].numpy() for site in sites},
        moments={site: module.moments[site].statistics() for site in sites},
        states={layer: module.stored_states(layer) for layer in keep},
        log_probabilities=module.log_probs.numpy() if module.log_probs is not None else None,
        prediction=module.prediction.numpy() if module.log_probs is not None else None,
        tokens={site: stream.result() for site, stream in module.streams.items()},
    )
