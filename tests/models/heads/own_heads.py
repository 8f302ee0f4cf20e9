"""Heads that live outside the package, as a user would write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from neuronlens.models.heads.base import Head, Labels, Reading
from neuronlens.models.heads.label_scores import LabelLogprob


@dataclass(frozen=True)
class Tempered(Head):
    """A classification head whose distribution is flattened by a temperature."""

    labels: Labels
    temperature: float = 1.0

    def of(self, logits: Tensor, further: Tensor | None = None) -> Reading:
        """Return the flattened distribution and its most probable concept."""
        log_probabilities = (logits / self.temperature).log_softmax(-1)
        return Reading(log_probabilities, log_probabilities.argmax(-1))


@dataclass(frozen=True)
class Summed(LabelLogprob):
    """A language model's labels compared by the sum over their tokens instead of the mean."""

    name: ClassVar[str] = "summed"

    def label_scores(self, first: Tensor, further: Tensor) -> Tensor:
        """Return each label's whole log-probability."""
        return first.index_add(-1, self._owners, further.expand(*first.shape[:-1], -1))
