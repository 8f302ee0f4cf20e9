"""How a prediction is read off a model's output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuronlens.errors import ModelError
from neuronlens.hooks.replay import forward


@dataclass(frozen=True)
class SequenceClassification:
    """A trained classification head: one logit per concept, read off one position.

    Attributes:
        reads: the position the head reads, `cls` or `last`.
    """

    reads: str
    name: str = "seq_cls"

    def logits(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return `[sample, concept]` in the model's dtype."""
        return forward(model, inputs)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return log-softmax over the last dimension, in float32 at least."""
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)


def check_labels(id2label: Mapping[int, str], concepts: Sequence[str], model_name: str) -> tuple[str, ...]:
    """Return the concepts in the order of the model's labels.

    Raises:
        ModelError: the model's labels are not the dataset's concepts, so its logits would be read as others'.
    """
    labels = tuple(str(id2label[number]) for number in sorted(id2label))
    if set(labels) == set(concepts):
        return labels
    if len(labels) == len(concepts) and all(label == f"LABEL_{number}" for number, label in enumerate(labels)):
        hint = (
            "Its labels carry no names. Next: write them into the model's config (id2label) and load it from a folder."
        )
    else:
        hint = "Next: a dataset with these labels, or model.finetune.blocks=2 to train a head for this dataset."
    raise ModelError(
        f"Model '{model_name}' has the labels {', '.join(labels[:8])}{' ...' if len(labels) > 8 else ''}; the dataset's "
        f"concepts are {', '.join(concepts[:8])}{' ...' if len(concepts) > 8 else ''}. {hint}"
    )
