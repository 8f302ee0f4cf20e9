"""What a loaded checkpoint must be before a number rests on it: every weight there, of its shape, and finite."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from neuronlens.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = re.compile(
    r"position_ids$|rotary_emb\.inv_freq$|masked_bias$|attn\.bias$|(^|\.)pooler\.|^(cls|lm_head|score|classifier|qa_outputs|"
    r"classification_head|pre_classifier|vocab_\w+)\b"
)
"""Weights that a checkpoint may hold beside the model's: buffers that are computed, and heads that are not used."""


OTHER_CHECKPOINT = "another checkpoint, or model.dtype=float32 where these numbers are too large for the type."


def refuse_not_finite(model: PreTrainedModel, name: str, next_step: str = OTHER_CHECKPOINT) -> None:
    """Refuse weights with NaN or infinity.

    Raises:
        ModelError: with the first weight that holds one, and how many do.
    """
    wrong = [key for key, weight in model.named_parameters() if not bool(torch.isfinite(weight).all())]
    if wrong:
        raise ModelError(
            f"Model '{name}' holds NaN or infinity in {len(wrong)} weights, first in {wrong[0]}. Next: {next_step}"
        )


def refuse_unexpected(info: Mapping[str, Any], name: str) -> None:
    """Refuse a checkpoint with weights that the model has no place for: its config is another one's.

    Args:
        info: what `from_pretrained` gives as its loading report.

    Raises:
        ModelError: with the first of them.
    """
    strange = sorted(str(key) for key in info.get("unexpected_keys", ()) if not IGNORED.search(str(key)))
    if strange:
        raise ModelError(
            f"The checkpoint of model '{name}' holds {len(strange)} weights that its config has no place for, such as "
            f"{', '.join(strange[:3])}. Next: the config.json that belongs to these weights."
        )


def refuse_larger_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, name: str) -> None:
    """Refuse a tokenizer with tokens that the model has no embedding for.

    Raises:
        ModelError: with both sizes.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    numbers: Collection[int] = tokenizer.get_vocab().values()
    highest = max(numbers, default=0)
    if highest >= rows:
        raise ModelError(
            f"The tokenizer of model '{name}' has {highest + 1} tokens and the model {rows} embeddings. Next: the tokenizer "
            "that belongs to this model."
        )
