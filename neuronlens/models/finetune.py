"""Trains a head, or a language model's label tokens, and the top blocks from the frozen prefix's stored states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.schema import FinetuneConfig, ModelConfig
from neuronlens.config.schema_run import TrainerConfig
from neuronlens.errors import ModelError
from neuronlens.execution.machine import computed_by
from neuronlens.execution.progress import remark
from neuronlens.execution.signals import in_steps
from neuronlens.execution.trainer import make_trainer
from neuronlens.hooks.masks import scored_index
from neuronlens.hooks.readout import reading
from neuronlens.hooks.replay import forward, starting_from
from neuronlens.hooks.resolver import blocks_of
from neuronlens.models.admission import admitted
from neuronlens.models.epochs import Epochs, EveryEpoch
from neuronlens.models.load import load
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.prefix import prefix_samples, stack_samples
from neuronlens.models.source import ModelSource
from neuronlens.models.weights import refuse_not_finite
from neuronlens.records import ConceptDataset, Site
from neuronlens.storage.cache import Store
from neuronlens.storage.spill import StateBudget, state_budget

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TopBlocks(pl.LightningModule):
    """The head and the top blocks of a model, trained by AdamW on cross-entropy; everything below stays as it is."""

    def __init__(
        self,
        model: PreTrainedModel,
        config: FinetuneConfig,
        *,
        prefix_layer: int,
        steps: int,
        rows: nn.Linear | None = None,
    ) -> None:
        """Train what stands above block `prefix_layer` for `steps` optimiser steps.

        Args:
            rows: of a language model, the output embedding of the labels' tokens, trained in the place of its own, of
                which the other words' rows stay as they are.
        """
        super().__init__()
        self.model, self.config, self.prefix_layer, self.steps, self.rows = model, config, prefix_layer, steps, rows
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        frozen = [model.get_input_embeddings(), *blocks_of(model)[: prefix_layer + 1]]
        frozen += [model.get_output_embeddings()] if rows is not None else []
        for module in frozen:
            module.requires_grad_(False)

    def training_step(self, batch: tuple[dict[str, Tensor], Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of one batch, in nats."""
        inputs, states, labels = batch
        with starting_from(self.model, self.prefix_layer, states):
            if self.rows is None:
                logits = forward(self.model, inputs)
            else:
                with reading(self.model, scored_index(inputs), instead=self.rows):
                    logits = forward(self.model, inputs)[:, 0]
        return torch.nn.functional.cross_entropy(logits.float(), labels)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out of a checkpoint what is not trained: it is in the model's own files."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in trained}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over what `on_save_checkpoint` left in."""
        return super().load_state_dict(state_dict, strict=False, assign=assign)

    def configure_optimizers(self) -> Any:
        """Return AdamW under a one-cycle schedule, stepped per batch."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)
        warm = max(self.config.warmup_fraction, 1.0 / max(self.steps, 2))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.config.learning_rate,
            total_steps=max(self.steps, 2) + 1,  # of a single step it would divide by nothing
            pct_start=warm,
            anneal_strategy="linear",
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def finetuned(
    config: ModelConfig, source: ModelSource, data: ConceptDataset, store: Store, trainer: TrainerConfig
) -> LoadedModel:
    """Return the model trained on the dataset's train split, from the cache where it was trained before.

    A model under a classification head gets a fresh one. A prompted language model learns to write one new token per
    concept after `finetune.template`. The trained model is kept by `save_pretrained`, so that plain
    transformers loads it, with `id2label` (or the labels' tokens) and the tokenizer.

    Raises:
        ModelError: more blocks asked for than stand above the first.
    """
    tune = config.finetune
    if _blocks(tune) >= source.layer_count:
        raise ModelError(
            f"model.finetune.blocks is {tune.blocks}; '{config.name}' has {source.layer_count} blocks and trains at most "
            f"{source.layer_count - 1}, from the stored states below them."
        )
    untrained = load(replace(config, record_position=None), source, data.concepts, stage="untrained")
    recipe = fingerprint({"model": untrained.fingerprint, "data": data.fingerprint, "finetune": tune})
    key = fingerprint([recipe, computed_by(trainer)])
    with store.claimed("finetuned", key) as (kept, _):
        if kept is None:
            untrained = _admitted(untrained, source.layer_count - _blocks(tune) - 1, data, store, trainer)
            epochs = Epochs(store, key)
            _train(untrained, tune, data, trainer, state_budget(trainer, store), epochs)
            step = f"a smaller model.finetune.learning_rate than {tune.learning_rate:g}."
            refuse_not_finite(f"{config.name} after fine-tuning", untrained.model.state_dict(), step)
            manifest = {
                "max_length": config.max_length,
                "concepts": data.concepts,
                "finetune": tune,
                "source": source.identity,
            }
            with store.writing("finetuned", key, manifest) as folder:
                untrained.model.save_pretrained(folder)
                untrained.tokenizer.save_pretrained(folder)
            epochs.forget()
    folder = kept or store.folder("finetuned", key)
    trained = replace(source, location=str(folder), folder=str(folder), identity={"finetuned": recipe})
    return load(config, trained, data.concepts, stage="trained")


def _admitted(
    untrained: LoadedModel, layer: int, data: ConceptDataset, store: Store, trainer: TrainerConfig
) -> LoadedModel:
    """Return the model with its paths, one of which training takes: it starts at stored states.

    Raises:
        ModelError: these do not give the model's own numbers.
    """
    texts = [data.texts[row] for row in data.rows("train")]
    loaded, found = admitted(untrained, texts, [Site(layer)], edit_positions="all", store=store, trainer=trainer)
    if not loaded.paths.replays:
        raise ModelError(
            f"Model type '{found.model_type}' cannot be trained from stored states, which do not give its own numbers. "
            "Next: train it elsewhere and load it with model.path."
        )
    return loaded


def _blocks(tune: FinetuneConfig) -> int:
    assert tune.blocks is not None, "the caller asks for fine-tuning only where it is configured"
    return tune.blocks


def _label_rows(loaded: LoadedModel) -> tuple[Tensor, nn.Linear] | None:
    """Return the label tokens of a language model and an output embedding of theirs alone; None for a classifier."""
    if loaded.prompt is None:
        return None
    words = torch.tensor(loaded.prompt.first_tokens())
    weight = loaded.model.get_output_embeddings().weight.detach()[words]
    rows = nn.Linear(weight.shape[1], len(words), bias=False, dtype=weight.dtype)
    rows.load_state_dict({"weight": weight.clone()})
    return words, rows


def _train(
    loaded: LoadedModel,
    tune: FinetuneConfig,
    data: ConceptDataset,
    trainer: TrainerConfig,
    budget: StateBudget,
    epochs: Epochs,
) -> None:
    prefix_layer = len(blocks_of(loaded.model)) - _blocks(tune) - 1
    samples = prefix_samples(loaded, prefix_layer, data, trainer, budget)
    order = torch.Generator().manual_seed(tune.seed)
    loader: DataLoader[Any] = DataLoader(
        samples,  # type: ignore[arg-type]
        tune.batch_size,
        shuffle=True,
        generator=order,
        collate_fn=partial(stack_samples, pad_id=loaded.tokenizer.pad_token_id),
    )
    labels = _label_rows(loaded)
    module = TopBlocks(
        loaded.model,
        tune,
        prefix_layer=prefix_layer,
        steps=tune.epochs * len(loader),
        rows=None if labels is None else labels[1],
    )
    fitter = make_trainer(trainer, "fine-tuning", max_epochs=tune.epochs, gradient_clip_val=1.0)
    fitter.callbacks.append(EveryEpoch(epochs, order))  # type: ignore[attr-defined]
    before = epochs.latest()
    if before is not None:
        remark(f"goes on after epoch {before[0]} of {tune.epochs}, found in the cache; {tune.epochs - before[0]} left")
    with torch.random.fork_rng(devices=[]), in_steps():
        torch.manual_seed(tune.seed)
        loaded.model.train()
        try:
            fitter.fit(module, loader, ckpt_path=None if before is None else before[1], weights_only=True)
        except torch.OutOfMemoryError as error:  # half a batch would be another training
            raise ModelError(
                f"The device has no memory for fine-tuning with model.finetune.batch_size={tune.batch_size}. Next: a smaller "
                "one, or a smaller model.max_length."
            ) from error
    loaded.model.eval().cpu()
    if labels is not None:
        with torch.no_grad():
            loaded.model.get_output_embeddings().weight[labels[0]] = labels[1].weight.cpu()
