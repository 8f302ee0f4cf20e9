"""The one way in: a model with its tokenizer, its head and its prompt, for a run, a lens, the doctor and fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from neuronlens.config.heads import head_option
from neuronlens.config.schema import ModelConfig
from neuronlens.config.schema_data import PromptConfig
from neuronlens.models.causal import load_causal, prompted, trained_writer, untrained_writer
from neuronlens.models.classifier import classifier, untrained_classifier
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.prompts.examples import draw_examples
from neuronlens.models.source import ModelSource
from neuronlens.records import ConceptDataset

Stage = Literal["ready", "untrained", "trained"]
MADE_UP = ("one", "the other thing")
"""Labels where there is no dataset, one of them of several tokens."""


def load(
    config: ModelConfig,
    source: ModelSource,
    concepts: Sequence[str] | None = None,
    *,
    stage: Stage = "ready",
    prompt: PromptConfig | None = None,
    data: ConceptDataset | None = None,
) -> LoadedModel:
    """Return the model under its configured head; its record names the concepts in the head's order.

    The head's option decides: a prompted head gets a causal language model that is asked by a prompt, any other a
    classification head.

    Args:
        concepts: what is predicted; None for the labels of the model's own head, or made-up ones, to check the model
            without a dataset.
        stage: `ready` takes the head of the checkpoint, or the prompt that is configured; `untrained` gives the model
            what fine-tuning trains, a fresh head or one new token per concept; `trained` is that model after fine-tuning.
        prompt: how a language model is asked; only of a `ready` one, the others are asked by `finetune.template`.
        data: whose train split the prompt's examples are drawn from; None shows the written ones alone.

    Raises:
        ModelError: unreadable, weights missing, labels that are not the concepts or that the head cannot tell apart.
        DataError: no examples to show, or a prompt that does not fit.
    """
    if not head_option(config).prompted:
        if stage == "untrained":
            return untrained_classifier(config, source, concepts or MADE_UP)
        return classifier(config, source, concepts)
    concepts = concepts or MADE_UP
    if stage == "untrained":
        return untrained_writer(config, source, concepts)
    if stage == "trained":
        return trained_writer(config, source, concepts)
    prompt = prompt or PromptConfig()
    examples = draw_examples(data, prompt) if data is not None else prompt.examples
    return prompted(config, source, *load_causal(config, source), prompt, concepts, examples)
