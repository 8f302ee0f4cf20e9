"""A loaded model with its tokenizer, its head and its prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neuronlens.config.fingerprint import fingerprint
from neuronlens.config.heads import head_option
from neuronlens.config.parts import build
from neuronlens.config.schema import ModelConfig
from neuronlens.hooks.admission import Paths
from neuronlens.hooks.masks import BUT_FIRST
from neuronlens.hooks.reads import position_read
from neuronlens.models.heads.base import Head, Labels
from neuronlens.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from neuronlens.models.prompts.builder import PromptBuilder


@dataclass(frozen=True)
class LoadedModel:
    """A transformers model with its tokenizer and task head, ready to predict.

    Attributes:
        model: in eval mode.
        head: how a prediction is read off.
        record_position: one of `schema.RECORD_POSITIONS`.
        folder: where `save_pretrained` put a fine-tuned model, or where it was loaded from; None for a hub id.
        fingerprint: of weights, tokenizer, prompt and options.
        prompt: makes prompts of texts for a language model; None where the text alone is read.
        concepts: in the order of the head's log-probabilities.
        paths: which fast paths give this model's own numbers; all of them until admission says otherwise.
        skips_first: whether a run leaves each text's first token out of fits and edits (activations/sinks.py).
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    head: Head
    record_position: str
    max_length: int
    batch_size: int
    fingerprint: str
    folder: str | None = None
    prompt: PromptBuilder | None = None
    concepts: tuple[str, ...] = ()
    paths: Paths = field(default_factory=Paths)
    skips_first: bool = False

    def without_sink(self, positions: str) -> str:
        """Return edited positions, without each text's first token where the run leaves that out."""
        return BUT_FIRST.get(positions, positions) if self.skips_first else positions

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text as the model reads it, prompt included, at most `max_length` of them."""
        if self.prompt is not None:
            return self.prompt.encode(texts)
        found: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
        return found


def loaded_model(
    config: ModelConfig,
    source: ModelSource,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    concepts: Sequence[str],
    prompt: PromptBuilder | None = None,
) -> LoadedModel:
    """Return the record of a model in eval mode with its configured head and its fingerprint.

    Args:
        concepts: in the order of the model's logits, or of the prompt's labels.
        prompt: of a language model.

    Raises:
        ConfigError: the head's option names no class, or a parameter that it does not take.
        ModelError: labels that share their first token, where the head reads that token alone (TRAPS 16).
    """
    option = head_option(config)
    labels = Labels(position_read(model))
    if prompt is not None:
        vocabulary = int(model.get_output_embeddings().weight.shape[0])
        labels = Labels(labels.reads, prompt.labels(), prompt.label_texts, vocabulary, tokenizer)
    head: Head = build({"_target_": option.target, **option.parameters}, where="model.head", labels=labels)
    if prompt is not None and head.by_first_token:
        prompt.first_tokens()
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    identity = {
        "model": source.identity,
        "tokenizer": fingerprint(words),
        **option.identity,
        "dtype": config.dtype,
        "attention": model.config._attn_implementation,
        "max_length": config.max_length,
        "record_position": config.record_position or head.reads,
    }
    if prompt is not None:
        identity["prompt"] = prompt.fingerprint
    return LoadedModel(
        name=config.name,
        model=model.eval(),
        tokenizer=tokenizer,
        head=head,
        record_position=config.record_position or head.reads,
        max_length=config.max_length,
        batch_size=config.batch_size,
        fingerprint=fingerprint(identity),
        folder=source.folder,
        prompt=prompt,
        concepts=tuple(concepts),
    )
