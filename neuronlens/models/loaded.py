"""A loaded model with its tokenizer, its head and its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LoadedModel:
    """A transformers model with its tokenizer and task head, ready to predict.

    Attributes:
        model: a `PreTrainedModel` in eval mode.
        head: how a prediction is read off.
        record_position: one of `schema.RECORD_POSITIONS`.
        folder: where `save_pretrained` put a fine-tuned model, or where it was loaded from; None for a hub id.
        fingerprint: of weights, tokenizer, prompt and options.
        prompt: makes prompts of texts for a language model (models/prompts.py); None where the text alone is read.
    """

    name: str
    model: Any
    tokenizer: Any
    head: Any
    record_position: str
    max_length: int
    batch_size: int
    fingerprint: str
    folder: str | None = None
    prompt: Any = None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text as the model reads it, prompt included, at most `max_length` of them."""
        if self.prompt is not None:
            return self.prompt.encode(texts)
        return self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"]
