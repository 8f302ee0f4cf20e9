"""A model as it would start, without a dataset: for checking its hooks, positions and replay."""

from __future__ import annotations

from transformers import AutoConfig

from neuronlens.config.schema import ModelConfig
from neuronlens.config.schema_data import PromptConfig
from neuronlens.models.causal import prompted, with_label_tokens
from neuronlens.models.load import ModelSource, load_causal, load_model, load_untrained
from neuronlens.models.loaded import LoadedModel

LABELS = ("one", "the other thing")


def load_for_inspection(config: ModelConfig, source: ModelSource) -> LoadedModel:
    """Return the model under its own head, or under a fresh one where it is configured to be fine-tuned.

    A language model is asked for two made-up labels, one of them of several tokens.

    Raises:
        ModelError: unreadable, or no head and none to be trained.
    """
    trained = config.finetune.blocks is not None
    if config.head != "seq_cls":
        if trained:
            return with_label_tokens(config, source, LABELS)
        return prompted(config, source, *load_causal(config, source), PromptConfig(), LABELS)
    if trained:
        return load_untrained(config, source, LABELS, config.finetune.seed)
    labels = AutoConfig.from_pretrained(source.location, revision=None if source.folder else config.revision).id2label
    return load_model(config, source, tuple(str(label) for label in labels.values()))[0]
