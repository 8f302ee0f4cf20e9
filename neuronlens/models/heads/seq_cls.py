"""A trained classification head: one logit per concept, at one position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from neuronlens.models.heads.base import Head, Labels, Reading


@dataclass(frozen=True)
class SequenceClassification(Head):
    """The model's own classification head, at the position that its family reads."""

    labels: Labels
    name: ClassVar[str] = "seq_cls"

    def of(self, logits: Tensor, further: Tensor | None = None) -> Reading:
        """Return the classifier's distribution over concepts, in float32 at least, and its most probable one."""
        scores = logits.to(torch.promote_types(logits.dtype, torch.float32))
        log_probabilities = torch.log_softmax(scores, dim=-1)
        return Reading(log_probabilities, log_probabilities.argmax(-1), scores)
