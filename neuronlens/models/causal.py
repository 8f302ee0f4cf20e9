"""A causal language model under a prompt: the head that reads its labels, and the record of both."""

from __future__ import annotations

from typing import Any

from neuronlens.data.prompts import PromptBuilder, draw_examples
from neuronlens.models.heads import Generation, Head, LabelScores
from neuronlens.models.loading import ModelSource, load_causal, wrap
from neuronlens.records import ConceptDataset, LoadedModel
from neuronlens.schema import DatasetConfig, ModelConfig, PromptConfig, PromptExample


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


def head_of(config: ModelConfig, builder: PromptBuilder, model: Any) -> Head:
    """Return the configured head over the builder's labels.

    Raises:
        ModelError: labels that share their first token, under `label_token` (TRAPS 16).
    """
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    if config.head == "label_token":
        builder.first_tokens()
        return LabelScores("label_token", builder.labels(), vocabulary, config.normalise)
    scores = LabelScores("label_logprob", builder.labels(), vocabulary)
    if config.head == "label_logprob":
        return scores
    return Generation(scores, builder.tokenizer, builder.label_texts, config.parse, config.max_new_tokens)
