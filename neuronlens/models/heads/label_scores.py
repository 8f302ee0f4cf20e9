"""A language model asked for a label: the probabilities of the labels' words after the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from neuronlens.hooks.masks import scored_index
from neuronlens.hooks.readout import log_probability_of, log_probability_of_others, reading
from neuronlens.hooks.replay import forward
from neuronlens.models.heads.base import Head, Labels, Reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class LabelScores(Head):
    """A score per label from the log-probabilities of its tokens; the label with the highest is the prediction.

    Probabilities are a softmax of the scores over the labels, or (`first_token`, the published setting) the vocabulary's
    own for each label's first token, with one more column for every other word.

    Attributes:
        confidence: `labels` or `first_token`.
    """

    labels: Labels
    confidence: str = "labels"
    scores_words: ClassVar[bool] = True

    @property
    def by_first_token(self) -> bool:
        """Whether the probabilities are those of the labels' first tokens."""
        return self.confidence == "first_token"

    @cached_property
    def words(self) -> Tensor | None:
        """Token ids whose logits suffice, or None where the whole vocabulary is needed.

        Labels of one token each are compared by their logits: what normalises them is the same for all.
        """
        if self.confidence == "labels" and not self.continuations:
            return torch.tensor([tokens[0] for tokens in self.labels.tokens])
        return None

    @property
    def floats_per_sample(self) -> int:
        """Logits of one sample: every scored position's over the words that are read."""
        reads = 1 + sum(map(len, self.continuations))
        return reads * (len(self.labels.tokens) if self.words is not None else self.labels.vocabulary)

    @cached_property
    def _targets(self) -> Tensor:
        """Token ids that are scored `[read, label]`: every label's first, then one further token of a label per row."""
        tokens = self.labels.tokens
        further = [token for label in tokens for token in label[1:]] if self.continuations else []
        return torch.tensor([[label[0] for label in tokens], *([token] * len(tokens) for token in further)])

    def index(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the scored positions `[sample, read]`: the last prompt token, then the continuations'."""
        return scored_index(inputs)

    def read(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Reading:
        """Return the labels' distribution and the most probable one."""
        words = None if self.words is None else self.words.to(inputs["input_ids"].device)
        with reading(model, self.index(inputs), words):
            return self.of(forward(model, inputs))

    def of(self, logits: Tensor, further: Tensor | None = None) -> Reading:
        """Return the reading behind logits `[..., read, word]` at the scored positions.

        Args:
            logits: as the model makes them, of `words` where these suffice.
            further: as `further_tokens` gives it, where it is known already and the logits are the first position's alone.
        """
        if self.words is not None:
            scores = logits[..., 0, :].to(torch.promote_types(logits.dtype, torch.float32))
            return Reading(torch.log_softmax(scores, -1), scores.argmax(-1), scores)
        found = self._scored(logits, self._targets[: logits.shape[-2]])
        first = found[..., 0, :]
        scores = self.label_scores(first, found[..., 1:, 0] if further is None else further)
        if self.confidence == "labels":
            return Reading(torch.log_softmax(scores, -1), scores.argmax(-1), scores)
        at_prompt = logits[..., 0, :].flatten(0, -2)
        targets = self._targets[:1].to(logits.device).expand(len(at_prompt), -1)
        others = log_probability_of_others(at_prompt, targets).view(*first.shape[:-1], 1)
        return Reading(torch.cat([first, others], dim=-1), scores.argmax(-1), scores)

    def label_scores(self, first: Tensor, further: Tensor) -> Tensor:
        """Return what labels are compared by `[..., label]`.

        Args:
            first: log p of each label's first token `[..., label]`.
            further: log p of the labels' tokens after the first, label by label `[..., further]`.
        """
        raise NotImplementedError

    def further_tokens(self, logits: Tensor) -> Tensor:
        """Return log p of the labels' tokens after the first `[..., further]`, from logits `[..., further, word]`."""
        return self._scored(logits, self._targets[1:])[..., 0]

    def _scored(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return log p `[..., read, label]` of `targets` `[read, label]`."""
        rows = logits.flatten(0, -2)
        found = log_probability_of(rows, targets.to(rows.device).repeat(len(rows) // len(targets), 1))
        return found.view(*logits.shape[:-1], -1)


@dataclass(frozen=True)
class LabelToken(LabelScores):
    """Labels compared by the log-probability of their first token."""

    name: ClassVar[str] = "label_token"

    @property
    def by_first_token(self) -> bool:
        """Whether the labels' first tokens alone are read: always."""
        return True

    def label_scores(self, first: Tensor, further: Tensor) -> Tensor:
        """Return the first tokens' log-probabilities."""
        return first


@dataclass(frozen=True)
class LabelLogprob(LabelScores):
    """Labels compared by the mean log-probability of all their tokens."""

    name: ClassVar[str] = "label_logprob"

    @cached_property
    def continuations(self) -> tuple[tuple[int, ...], ...]:
        """Token ids after the prompt, per label of more than one token, its last token left out."""
        return tuple(tokens[:-1] for tokens in self.labels.tokens if len(tokens) > 1)

    @cached_property
    def _owners(self) -> Tensor:
        """Label of each further token `[further]`."""
        numbers = [label for label, tokens in enumerate(self.labels.tokens) for _ in tokens[1:]]
        return torch.tensor(numbers, dtype=torch.long)

    def label_scores(self, first: Tensor, further: Tensor) -> Tensor:
        """Return the mean over each label's tokens."""
        lengths = torch.tensor([len(tokens) for tokens in self.labels.tokens], device=first.device)
        further = further.expand(*first.shape[:-1], -1)
        return first.index_add(-1, self._owners.to(first.device), further) / lengths
