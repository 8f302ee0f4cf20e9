"""A causal language model under a prompt: the head that reads its labels, and the record of both."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken

from neuronlens.config.schema import ModelConfig
from neuronlens.config.schema_data import DatasetConfig, PromptConfig, PromptExample
from neuronlens.models.heads.heads import Generation, Head, LabelScores
from neuronlens.models.load import ModelSource, load_causal, wrap
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.prompts import PromptBuilder, draw_examples
from neuronlens.records import ConceptDataset

SEPARATOR = "<sep>"
"""Between a text and its label in the published setting; one token where a template holds it."""


def load_prompted(
    config: ModelConfig, source: ModelSource, data: ConceptDataset, dataset: DatasetConfig
) -> LoadedModel:
    """Return a causal model that is asked for the concepts of a dataset by its configured prompt.

    Raises:
        ModelError: unreadable, no causal model, weights missing, or labels that the head cannot tell apart.
        DataError: no examples to show, or a prompt that does not fit.
    """
    model, tokenizer = load_causal(config, source)
    examples = draw_examples(data, dataset)
    return prompted(config, source, model, tokenizer, dataset.prompt, data.concepts, examples)


def prompted(
    config: ModelConfig,
    source: ModelSource,
    model: Any,
    tokenizer: Any,
    prompt: PromptConfig,
    concepts: tuple[str, ...],
    examples: tuple[PromptExample, ...] = (),
) -> LoadedModel:
    """Return the record of a loaded causal model with its prompt and the head that reads the concepts' labels."""
    builder = PromptBuilder(prompt, concepts, tokenizer, config.max_length, examples)
    return wrap(model, tokenizer, config, source, head_of(config, builder, model), builder)


def with_label_tokens(config: ModelConfig, source: ModelSource, concepts: tuple[str, ...]) -> LoadedModel:
    """Return a causal model whose vocabulary has one new token per concept, and `<sep>`, to be trained.

    New rows of the embeddings start at the mean of the old ones: nothing random, so nothing to seed.

    Raises:
        ModelError: as for `load_causal`.
    """
    model, tokenizer = load_causal(config, source)
    words = [label_token(concept) for concept in concepts]
    known = len(tokenizer)
    tokenizer.add_tokens([AddedToken(word, lstrip=True, normalized=False) for word in (SEPARATOR, *words)])
    model.resize_token_embeddings(
        max(len(tokenizer), model.get_input_embeddings().weight.shape[0]), mean_resizing=False
    )
    with torch.no_grad():
        for embedding in (model.get_input_embeddings(), model.get_output_embeddings()):
            embedding.weight[known : len(tokenizer)] = embedding.weight[:known].mean(0)
    return _trained(config, source, model, tokenizer, concepts)


def trained_to_write(config: ModelConfig, source: ModelSource, concepts: tuple[str, ...]) -> LoadedModel:
    """Return a fine-tuned causal model from its folder, under the template it was trained on."""
    model, tokenizer = load_causal(config, source)
    return _trained(config, source, model, tokenizer, concepts)


def _trained(
    config: ModelConfig, source: ModelSource, model: Any, tokenizer: Any, concepts: tuple[str, ...]
) -> LoadedModel:
    labels = {concept: label_token(concept) for concept in concepts}
    prompt = PromptConfig(template=config.finetune.template, labels=labels)
    return prompted(config, source, model, tokenizer, prompt, concepts)


def label_token(concept: str) -> str:
    """Return the word that a fine-tuned language model says for a concept.

    >>> label_token("sci.space")
    '<sci.space>'
    """
    return f"<{concept}>"


def head_of(config: ModelConfig, builder: PromptBuilder, model: Any) -> Head:
    """Return the configured head over the builder's labels.

    Raises:
        ModelError: labels that share their first token, where that token alone is read (TRAPS 16).
    """
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    if config.head == "label_token" or config.confidence == "first_token":
        builder.first_tokens()
    name = "label_token" if config.head == "label_token" else "label_logprob"
    scores = LabelScores(name, builder.labels(), vocabulary, config.confidence)
    if config.head != "generation":
        return scores
    return Generation(scores, builder.tokenizer, builder.label_texts, config.parse, config.max_new_tokens)
