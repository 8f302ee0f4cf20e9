"""Which positions are prompt, which are edited, and who attends to whom where label continuations share one prompt.

A causal model's batch may carry `segment` `[sample, position]`: 0 for the prompt, k >= 1 for the tokens of label k's
continuation. All continuations stand in one row, each sees the prompt and itself, so a prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.config.schema import EDIT_POSITIONS, TOKEN_POSITIONS
from neuronlens.errors import SiteError, unknown
from neuronlens.hooks.takes import additive, mask_form

BUT_FIRST = {"all": "all_but_first", "prompt": "prompt_but_first"}
"""Edited positions -> the same without each text's first token, which a model may use as a sink of attention."""
EDITED = (*(name for name in EDIT_POSITIONS if name != "record"), *TOKEN_POSITIONS, *BUT_FIRST.values())
"""Where an edit may be made; in the place of `record` stand the record positions that are one position."""


def prompt_mask(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return which positions hold an attended token of the prompt, bool `[sample, position]`."""
    attended = inputs["attention_mask"] != 0
    return attended & (inputs["segment"] == 0) if "segment" in inputs else attended


def read_index(prompt: Tensor, position: str) -> Tensor:
    """Return the record position's index `[sample]`: 0 for `cls`, the last prompt token for `last` (TRAPS 1)."""
    if position == "cls":
        return torch.zeros(prompt.shape[0], dtype=torch.long, device=prompt.device)
    places = torch.arange(prompt.shape[1], device=prompt.device)
    return (places * (prompt != 0)).argmax(-1)


def edit_mask(attended: Tensor, prompt: Tensor, positions: str) -> Tensor:
    """Return which positions an edit may change, bool `[sample, position]`; never a pad (TRAPS 3).

    Args:
        attended: tokens that are no pads.
        prompt: those of them that belong to the prompt; the others are generated.
        positions: `all`, `prompt`, these without each text's first token (`all_but_first`, `prompt_but_first`),
            `generated`, or one record position, `cls` or `last`.

    Raises:
        SiteError: an unknown word.
    """
    if positions in BUT_FIRST.values():
        first = attended & (attended.cumsum(-1) == 1)
        attended, positions = attended & ~first, positions.removesuffix("_but_first")
    if positions == "all":
        return attended
    if positions == "prompt":
        return attended & prompt
    if positions == "generated":
        return attended & ~prompt
    if positions not in EDITED:
        raise SiteError(unknown("edit position", positions, EDITED))
    chosen = torch.zeros_like(attended).scatter_(1, read_index(prompt, positions)[:, None], True)
    return chosen & prompt


def position_mask(
    attention_mask: Tensor | None, hidden: Tensor, positions: str, prompt: Tensor | None = None
) -> Tensor | None:
    """Return which positions are edited `[sample, position]`, or None for all of them.

    `cls` is position 0, which is what an encoder's head reads; `last` is the last attended one of the prompt on either
    padding side. With a cache the masks may cover the past as well: their last columns count.

    Args:
        hidden: `[sample, position, neuron]`.
        prompt: which positions are prompt `[sample, position]`; None for all.

    Raises:
        SiteError: a mask covers other samples, or fewer positions.
    """
    if attention_mask is None and prompt is None and positions == "all":
        return None
    attended = asked = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    if attention_mask is not None:
        attended = asked = _last_columns("attention mask", attention_mask, hidden)
    if prompt is not None:
        asked = attended & _last_columns("prompt mask", prompt, hidden)
    return edit_mask(attended, asked, positions)


def _last_columns(name: str, mask: Tensor, hidden: Tensor) -> Tensor:
    samples, width = hidden.shape[:2]
    if mask.dim() != 2 or mask.shape[0] != samples or mask.shape[1] < width:
        raise SiteError(f"The {name} is {list(mask.shape)}, expected [sample, position], here {[samples, width]}.")
    return mask[:, -width:].to(hidden.device) != 0


def scored_index(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the positions whose next token is scored `[sample, read]`: the last prompt token, then all continuations'."""
    last = read_index(prompt_mask(inputs), "last")[:, None]
    if "segment" not in inputs:
        return last
    continued = inputs["segment"] > 0
    return torch.cat([last, continued.nonzero()[:, 1].view(len(continued), -1)], dim=1)


def attention_of(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Return the attention mask as the model takes it: the batch's own, or one in which continuations share a prompt."""
    return attention_in_full(model, inputs) if "segment" in inputs else inputs["attention_mask"]


def attention_in_full(model: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
    """Return a causal batch's attention mask with a value for every pair of tokens, for a model that makes none itself."""
    attended, places = inputs["attention_mask"] != 0, inputs["position_ids"]
    segment = inputs.get("segment", torch.zeros_like(places))
    causal = torch.ones(places.shape[1], places.shape[1], dtype=torch.bool, device=places.device).tril()
    seen = attended[:, None, :] & causal & see_each_other(segment, segment)
    return as_model_takes(model, seen, places, places)


def see_each_other(query: Tensor, key: Tensor) -> Tensor:
    """Return `[sample, query, key]`: whether a token may see another by segment alone, the prompt or its own."""
    return (key[:, None, :] == 0) | (key[:, None, :] == query[:, :, None])


def as_model_takes(model: Any, seen: Tensor, query_places: Tensor, key_places: Tensor) -> Any:
    """Return an additive mask in the model's dtype from `seen` `[sample, query, key]`, sliding windows cut by place.

    Args:
        query_places, key_places: position of each token in its own sequence `[sample, token]`.
    """
    config = model.config.get_text_config()
    seen = seen | ~seen.any(-1, keepdim=True)  # a pad that sees nothing would be NaN, and nobody sees it
    full = additive(seen, model.dtype)
    window, by_type = getattr(config, "sliding_window", None), mask_form(model) == "by_type"
    if window is None:
        return {"full_attention": full} if by_type else full
    near = query_places[:, :, None] - key_places[:, None, :] < window
    if by_type:
        return {"full_attention": full, "sliding_attention": additive(seen & near, model.dtype)}
    if len(set(getattr(config, "layer_types", None) or ())) > 1 and bool((seen & ~near).any()):
        raise SiteError(
            f"A window of {window} positions cuts some layers of model type '{config.model_type}' and not others, and it takes "
            "one ready mask for all. Next: shorter texts."
        )
    return additive(seen & near, model.dtype)
