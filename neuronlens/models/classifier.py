"""Models with a classification head: the one in their checkpoint, or a fresh one that is to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForSequenceClassification

from neuronlens.config.heads import head_option
from neuronlens.config.schema import ModelConfig
from neuronlens.errors import ModelError
from neuronlens.models.checkpoint import read_checkpoint, read_tokenizer, refuse_missing
from neuronlens.models.loaded import LoadedModel, loaded_model
from neuronlens.models.source import ModelSource

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def classifier(config: ModelConfig, source: ModelSource, concepts: Sequence[str] | None = None) -> LoadedModel:
    """Return a model whose classification head is in its checkpoint; its concepts are in the order of the logits.

    Args:
        concepts: that the head's labels have to be, in any order; None takes what it has.

    Raises:
        ModelError: unreadable, weights missing from the checkpoint (TRAPS 15), labels that are not the concepts.
    """
    model, missing = read_checkpoint(config, source, AutoModelForSequenceClassification)
    step = "model.finetune.blocks=2 to train them, or a checkpoint that holds them."
    refuse_missing(config, missing, step)
    labels = _named(model_labels(model.config.id2label), config)
    if head_option(config).target.startswith("neuronlens."):  # a head of one's own knows what its logits are
        refuse_other_tasks(model.config, config.name)
    if concepts is not None:
        refuse_other_labels(labels, concepts, config.name)
    return loaded_model(config, source, model, read_tokenizer(config, source, model), labels)


def untrained_classifier(config: ModelConfig, source: ModelSource, concepts: Sequence[str]) -> LoadedModel:
    """Return the pretrained model under a fresh head with one label per concept, to be trained.

    The head is drawn with `finetune.seed`.

    Raises:
        ModelError: unreadable, or the body's own weights are missing from the checkpoint.
    """
    labels = {"num_labels": len(concepts), "id2label": dict(enumerate(concepts))}
    labels["label2id"] = {name: number for number, name in enumerate(concepts)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.finetune.seed)
        model, missing = read_checkpoint(
            config, source, AutoModelForSequenceClassification, to_train=True, another_head=True, **labels
        )
    model.config.problem_type = None  # what it was trained for before
    body = [name for name in missing if name.startswith(f"{model.base_model_prefix}.") and ".pooler." not in name]
    refuse_missing(config, body, "a checkpoint that holds them.")
    return loaded_model(config, source, model, read_tokenizer(config, source, model), concepts)


def refuse_other_tasks(config: PreTrainedConfig, model_name: str) -> None:
    """Refuse a head whose logits are no distribution over concepts (TRAPS 37).

    Raises:
        ModelError: it says yes or no to each label by itself, or gives a number.
    """
    several = config.problem_type == "multi_label_classification"
    if several or config.problem_type == "regression" or config.num_labels == 1:
        kind = (
            "a multi-label head, which says yes or no to each label"
            if several
            else "a regression head, which gives a number"
        )
        raise ModelError(
            f"Model '{model_name}' has {kind}; a softmax over its logits would be no probability of a concept. Next: "
            "model.finetune.blocks=2 to train a head for this dataset."
        )


def model_labels(id2label: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of a model's labels in the order of its logits.

    >>> model_labels({1: "sports", 0: "world"})
    ('world', 'sports')
    """
    return tuple(str(id2label[number]) for number in sorted(id2label))


def _named(own: tuple[str, ...], config: ModelConfig) -> tuple[str, ...]:
    """Return the labels' names: those that the config gives, else the checkpoint's own."""
    if config.labels is None:
        return own
    if len(config.labels) != len(own):
        raise ModelError(
            f"model.labels names {len(config.labels)} labels, and the head of model '{config.name}' has {len(own)} "
            f"({', '.join(own[:8])}{' ...' if len(own) > 8 else ''}). Next: one name for each, in that order."
        )
    return tuple(config.labels)


def refuse_other_labels(labels: Sequence[str], concepts: Sequence[str], model_name: str) -> None:
    """Refuse a model whose labels are not the dataset's concepts: its logits would be read as others'.

    Raises:
        ModelError: they are not.
    """
    if set(labels) == set(concepts):
        return
    if len(labels) == len(concepts) and all(label == f"LABEL_{number}" for number, label in enumerate(labels)):
        hint = f"Its labels carry no names. Next: model.labels=[{','.join(concepts)}], in the order of its training."
    else:
        hint = "Next: a dataset with these labels, or model.finetune.blocks=2 to train a head for this dataset."
    raise ModelError(
        f"Model '{model_name}' has the labels {', '.join(labels[:8])}{' ...' if len(labels) > 8 else ''}; the dataset's "
        f"concepts are {', '.join(concepts[:8])}{' ...' if len(concepts) > 8 else ''}. {hint}"
    )
