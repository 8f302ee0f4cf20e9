"""An encoder under the masked-language-model head of its checkpoint."""

from __future__ import annotations

from dataclasses import replace

from transformers import AutoModelForMaskedLM

from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.checkpoint import read_checkpoint
from neuronlens.models.loaded import LoadedModel
from neuronlens.models.source import ModelSource


def with_vocabulary(config: ModelConfig, source: ModelSource, loaded: LoadedModel) -> LoadedModel:
    """Return the model with a head over its vocabulary: itself where it is prompted, else under its masked-LM head.

    An encoder's body is the classifier's own, fine-tuned or not, and shared with it: what is edited is what was measured.

    Raises:
        ModelError: a decoder under a classification head, or a checkpoint without a masked-language-model head.
    """
    if loaded.prompt is not None:
        return loaded
    if not source.is_encoder:
        raise ModelError(
            f"Model '{config.name}' is a decoder under head '{config.head}', which gives words no probability. Next: "
            "model.head=label_token, or evaluation.general.perplexity=false."
        )
    model, missing = read_checkpoint(config, source, AutoModelForMaskedLM, another_head=True)
    if missing:
        raise ModelError(
            f"The checkpoint of model '{config.name}' has no masked-language-model head ({', '.join(missing[:2])} would be "
            "random), so it has no pseudo-perplexity. Next: evaluation.general.perplexity=false."
        )
    setattr(model, model.base_model_prefix, loaded.model.base_model)
    return replace(loaded, model=model)
