"""Finds what a model makes of positions and masks, by trying: kept is what gives the same as its plain forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.errors import SiteError
from neuronlens.hooks.blocks import found_blocks, tensor_in
from neuronlens.hooks.probe import (
    ROWS,
    WIDTH,
    holds_experts,
    made_up_tokens,
    once_per_model,
    rounding,
    run_made_up,
    takes,
    unwatched,
)
from neuronlens.hooks.wrapped import body_of, run_eagerly

LAYER_TYPES = ("full_attention", "sliding_attention")
"""Kinds of layers for which a ready mask can be made."""


@once_per_model(body_of)
def is_causal(body: nn.Module) -> bool:
    """Return whether no position of the model sees a later one."""
    inputs = made_up_tokens(body)
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][:, -1] -= 1
    plain, changed = (_last_states(body, tokens) for tokens in (inputs, other))
    difference = float((plain[:, 0] - changed[:, 0]).abs().max())
    return difference <= _allowed(body, plain)


@once_per_model(body_of)
def takes_positions(body: nn.Module) -> bool:
    """Return whether the model is causal and reads `position_ids` counted from the mask as it counts by itself."""
    if not is_causal(body) or not takes(body, "position_ids"):
        return False
    inputs = made_up_tokens(body)
    inputs["attention_mask"][0, -2:] = 0
    positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
    attended = inputs["attention_mask"] != 0
    found = _tried(body, {**inputs, "position_ids": positions})
    if found is None:
        return False
    plain = _last_states(body, inputs)
    return float((found - plain)[attended].abs().max()) <= _allowed(body, plain)


@once_per_model(body_of)
def mask_form(body: nn.Module) -> str | None:
    """Return how the model takes a ready mask `[sample, 1, query, key]`: `by_type` of layer, a `tensor`, or not at all."""
    inputs = made_up_tokens(body)
    config: Any = body.config.get_text_config()  # type: ignore[union-attr, operator]
    seen = torch.ones(WIDTH, WIDTH, dtype=torch.bool, device=inputs["input_ids"].device).tril()
    places = torch.arange(WIDTH, device=seen.device)
    near = places[:, None] - places < (getattr(config, "sliding_window", None) or WIDTH)
    dtype: torch.dtype = body.dtype  # type: ignore[assignment]
    masks = {"full_attention": additive(seen[None], dtype), "sliding_attention": additive((seen & near)[None], dtype)}
    plain = _last_states(body, inputs)
    kinds = set(getattr(config, "layer_types", None) or ())
    forms: dict[str, Any] = {"by_type": masks} if kinds and kinds <= set(LAYER_TYPES) else {}
    forms["tensor"] = masks["sliding_attention"] if len(kinds) < 2 else masks["full_attention"]
    options = {"position_ids": places.expand(ROWS, -1)} if takes_positions(body) else {}
    for name, mask in forms.items():
        found = _tried(body, {**inputs, **options, "attention_mask": mask})
        if found is not None and torch.allclose(found, plain, rtol=0, atol=1e-4 * float(plain.abs().amax())):
            return name
    return None


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask `[sample, 1, query, key]` that adds nothing where a query sees a key, and the lowest number elsewhere."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _last_states(body: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """Return the last block's output `[row, position, neuron]` on made-up tokens."""
    blocks: Any = body.get_submodule(found_blocks(body).path)
    seen: list[Tensor | None] = []
    with unwatched(body), run_eagerly(body, *blocks):
        handle = blocks[-1].register_forward_hook(lambda module, taken, output: seen.append(tensor_in(output)))
        try:
            run_made_up(body, inputs)
        finally:
            handle.remove()
    found = seen[-1]
    assert found is not None, "found_blocks saw hidden states come out"
    return found


def _tried(body: nn.Module, inputs: dict[str, Any]) -> Tensor | None:
    try:
        return _last_states(body, inputs)
    except SiteError:
        return None


def _allowed(body: nn.Module, states: Tensor) -> float:
    return rounding(states, experts=any(map(holds_experts, body.modules())))
