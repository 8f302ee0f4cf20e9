"""Causal language models: asked for a label by a prompt, or trained to answer with one token per concept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM

from neuronlens.config.schema import ModelConfig
from neuronlens.config.schema_data import PromptConfig, PromptExample
from neuronlens.errors import ModelError
from neuronlens.models.checkpoint import read_checkpoint, read_tokenizer, refuse_missing
from neuronlens.models.loaded import LoadedModel, loaded_model
from neuronlens.models.prompts.builder import PromptBuilder
from neuronlens.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEPARATOR = "<sep>"
"""Between a text and its label in the published setting; one token where a template holds it."""


def load_causal(
    config: ModelConfig, source: ModelSource, *, to_train: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return a causal language model in eval mode and its tokenizer, which pads on the left.

    The model's generation settings stay as they came.

    Args:
        to_train: whether its weights are trained further.

    Raises:
        ModelError: an encoder, unreadable, weights missing from the checkpoint (TRAPS 15; an output matrix tied to the
            embeddings is not missing), a tokenizer without any token to pad with, or one of more tokens than the model.
    """
    if source.is_encoder:
        raise ModelError(
            f"Model '{config.name}' is a {source.model_type}, an encoder, and head '{config.head}' needs a causal language "
            "model. Next: model.head=seq_cls, or a decoder such as model=smollm2."
        )
    model, missing = read_checkpoint(config, source, AutoModelForCausalLM, to_train=to_train)
    refuse_missing(config, missing, "a checkpoint saved with its language-model head.")
    tokenizer = read_tokenizer(config, source, model)
    tokenizer.padding_side = "left"  # generation continues at the right end
    return model, tokenizer


def prompted(
    config: ModelConfig,
    source: ModelSource,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: PromptConfig,
    concepts: Sequence[str],
    examples: Sequence[PromptExample] = (),
) -> LoadedModel:
    """Return the record of a loaded causal model with its prompt and the head that reads the concepts' labels.

    Raises:
        ModelError: labels that the tokenizer or the head cannot tell apart.
        DataError: a prompt that does not fit.
    """
    builder = PromptBuilder(prompt, concepts, tokenizer, config.max_length, examples)
    return loaded_model(config, source, model, tokenizer, concepts, builder)


def untrained_writer(config: ModelConfig, source: ModelSource, concepts: Sequence[str]) -> LoadedModel:
    """Return a causal model whose vocabulary has one new token per concept, and `<sep>`, to be trained.

    New rows of the embeddings start at the mean of the old ones: nothing random, so nothing to seed.

    Raises:
        ModelError: as for `load_causal`.
    """
    model, tokenizer = load_causal(config, source, to_train=True)
    words = [label_token(concept) for concept in concepts]
    known = len(tokenizer)
    tokenizer.add_tokens([AddedToken(word, lstrip=True, normalized=False) for word in (SEPARATOR, *words)])
    model.resize_token_embeddings(
        max(len(tokenizer), model.get_input_embeddings().weight.shape[0]), mean_resizing=False
    )
    with torch.no_grad():
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight[known : len(tokenizer)] = embedding.weight[:known].mean(0)
    return _asked_as_trained(config, source, model, tokenizer, concepts)


def trained_writer(config: ModelConfig, source: ModelSource, concepts: Sequence[str]) -> LoadedModel:
    """Return a fine-tuned causal model from its folder, under the template that it was trained on.

    Raises:
        ModelError: as for `load_causal`.
    """
    return _asked_as_trained(config, source, *load_causal(config, source), concepts)


def _asked_as_trained(
    config: ModelConfig,
    source: ModelSource,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    concepts: Sequence[str],
) -> LoadedModel:
    labels = {concept: label_token(concept) for concept in concepts}
    prompt = PromptConfig(template=config.finetune.template, labels=labels)
    return prompted(config, source, model, tokenizer, prompt, concepts)


def label_token(concept: str) -> str:
    """Return the word that a fine-tuned language model writes for a concept.

    >>> label_token("sci.space")
    '<sci.space>'
    """
    return f"<{concept}>"
