"""Runs many continuations of one prompt in a single forward: each cell is a branch after the unedited prompt's keys.

Where an edit touches nothing before the record position, the prompt's keys and values stay what they are. They are
computed once per batch; a cell then costs the record token (and the tokens of label continuations), not the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronlens.hooks.masks import as_model_takes, attention_in_full, prompt_mask, scored_index, see_each_other
from neuronlens.hooks.readout import reading
from neuronlens.hooks.replay import starting_from
from neuronlens.hooks.wrapped import body_of


class _Recording:
    """A cache that keeps what the blocks write, as it is written."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
        self.kept[layer] = keys, values
        return keys, values

    def get_seq_length(self, layer: int = 0) -> int:
        return 0


class _Prefixed:
    """A cache that puts the prompt's keys and values before those of each forward, and keeps nothing."""

    def __init__(self, kept: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        self.kept = kept

    def update(self, keys: Tensor, values: Tensor, layer: int, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
        before = self.kept[layer]
        return torch.cat([before[0], keys], dim=-2), torch.cat([before[1], values], dim=-2)

    def get_seq_length(self, layer: int = 0) -> int:
        return max((keys.shape[-2] for keys, _ in self.kept.values()), default=0)


@dataclass(frozen=True)
class Prompt:
    """What a batch's cells share: the blocks' keys and values for it, and the tokens that each cell runs.

    Attributes:
        layer: the stored state's; the blocks above it have keys and values here.
        kept: by block `[sample, head, position, channel]`.
        before: prompt tokens before the record position, bool `[sample, position]`.
        places: position of each of these in its sequence `[sample, position]`.
        tail: `input_ids`, `position_ids`, `attention_mask` and `segment` of the record token and the continuations
            `[sample, tail]`.
        index: where the tail stands in the batch `[sample, tail]`.
    """

    layer: int
    kept: dict[int, tuple[Tensor, Tensor]]
    before: Tensor
    places: Tensor
    tail: dict[str, Tensor]
    index: Tensor


def read_prompt(model: Any, layer: int, inputs: Mapping[str, Tensor], states: Tensor) -> Prompt:
    """Return what the unedited model keeps of a batch above block `layer`.

    Args:
        inputs: the batch `[sample, position]`, `position_ids` included.
        states: block `layer`'s output `[sample, position, neuron]`; ignored where `layer` is -1.
    """
    cache = _Recording()
    with starting_from(model, layer, states):
        body_of(model)(
            input_ids=inputs["input_ids"],
            attention_mask=attention_in_full(model, inputs),
            position_ids=inputs["position_ids"],
            past_key_values=cache,
            use_cache=True,
        )
    index = scored_index(inputs)
    before = prompt_mask(inputs).scatter(1, index[:, :1], False)
    tail = {name: tensor.gather(1, index) for name, tensor in inputs.items()}
    tail.setdefault("segment", torch.zeros_like(index))
    return Prompt(layer, cache.kept, before, inputs["position_ids"], tail, index)


def run_branches(model: Any, prompt: Prompt, states: Tensor, *, words: Tensor | None = None) -> Tensor:
    """Return the logits after every tail token of every cell `[sample, cell, tail, word]`: as they are made, not copied.

    Args:
        states: of the tail at the prompt's layer, each cell's own, `[cell, sample, tail, neuron]`; only its shape
            counts where that layer is -1.
        words: token ids whose logits are wanted; None for the whole vocabulary.
    """
    cells, samples, width = states.shape[:3]
    places = prompt.tail["position_ids"].repeat(1, cells)
    mask = as_model_takes(model, _seen(prompt, cells), places, torch.cat([prompt.places, places], dim=1))
    hidden = states.transpose(0, 1).flatten(1, 2)
    with starting_from(model, prompt.layer, hidden), reading(model, None, words):
        logits = model(
            input_ids=prompt.tail["input_ids"].repeat(1, cells),
            attention_mask=mask,
            position_ids=places,
            past_key_values=_Prefixed(prompt.kept),
            use_cache=True,
        ).logits
    return logits.view(samples, cells, width, -1)


def _seen(prompt: Prompt, cells: int) -> Tensor:
    """Return `[sample, query, key]`: the prompt before the record token, and in the own cell what came earlier."""
    segment = prompt.tail["segment"]
    samples, width = segment.shape
    earlier = torch.ones(width, width, dtype=torch.bool, device=segment.device).tril()
    within = see_each_other(segment, segment) & earlier
    same = torch.eye(cells, dtype=torch.bool, device=segment.device)
    own = (same[None, :, None, :, None] & within[:, None, :, None, :]).reshape(samples, cells * width, cells * width)
    before = prompt.before[:, None, :].expand(-1, cells * width, -1)
    return torch.cat([before, own], dim=2)
