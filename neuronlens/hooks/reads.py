"""Finds the position that a classification head reads: where the last block's output moves the logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.errors import SiteError
from neuronlens.hooks.blocks import blocks_of, tensor_in
from neuronlens.hooks.probe import WIDTH, made_up_tokens, once_per_model, unwatched
from neuronlens.hooks.wrapped import bare, body_of, run_eagerly


@once_per_model(bare)
def position_read(model: nn.Module) -> str:
    """Return which position the head reads: `cls`, the first one, `last`, or `mean`, all of them.

    A language model says what comes after the last one.

    Raises:
        SiteError: other positions than these, or the model gives no logits of a whole text.
    """
    blocks = blocks_of(model)
    if getattr(model, "get_output_embeddings", lambda: None)() is not None:
        return "last"
    ids = made_up_tokens(body_of(model))["input_ids"][:1]
    with (
        unwatched(model),
        run_eagerly(model, body_of(model), *blocks),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        moves = _moves(model, blocks[-1], ids.clone())
    places = moves.nonzero()[:, 0].tolist()
    if places == [0]:
        return "cls"
    if places == [WIDTH - 1]:
        return "last"
    if places == list(range(WIDTH)):
        return "mean"
    raise SiteError(
        f"The head of {type(bare(model)).__name__} reads positions {places} of {WIDTH}. Expected the first one, the last or all."
    )


def _moves(model: Any, block: nn.Module, ids: Tensor) -> Tensor:
    """Return how much the logits of one text move with each position's final states `[position]`."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, output: Any) -> Any:
        hidden = tensor_in(output)
        assert hidden is not None, "found_blocks saw hidden states come out"
        kept[:] = [hidden.detach().clone().requires_grad_()]
        return (*kept, *output[1:]) if isinstance(output, tuple) else kept[0]

    handle = block.register_forward_hook(keep)
    try:
        logits = _logits(model, ids)
    finally:
        handle.remove()
    weights = torch.linspace(1, 2, logits.numel(), device=logits.device).view_as(logits)
    (gradient,) = torch.autograd.grad((logits.float() * weights).sum(), kept, allow_unused=True)
    return torch.zeros(ids.shape[1]) if gradient is None else gradient[0].abs().amax(-1)


def _logits(model: Any, ids: Tensor) -> Tensor:
    """Return the logits of a text, which ends with the end token where the head looks for one."""
    end = getattr(model.config.get_text_config(), "eos_token_id", None)
    attempts = [ids]
    if isinstance(end, int):
        attempts.append(torch.cat([ids[:, :-1], torch.full_like(ids[:, :1], end)], 1))
    for tokens in attempts:
        try:
            return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    raise SiteError(f"{type(model).__name__} gives no logits of token ids and an attention mask alone: {reason}")
