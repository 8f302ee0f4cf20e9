"""Tiny random causal models, padded prompts, and what a model looks like from outside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.conftest import VOCABULARY

NEW = 9


def prompts(samples: int, *, side: str = "left", seed: int = 0) -> dict[str, Tensor]:
    """Return prompts of different lengths, padded on one side."""
    generator = torch.Generator().manual_seed(seed)
    lengths = [3 + (5 * row) % 7 for row in range(samples)]
    width = max(lengths)
    ids, mask = torch.zeros(2, samples, width, dtype=torch.long)
    for row, length in enumerate(lengths):
        columns = slice(width - length, None) if side == "left" else slice(0, length)
        ids[row, columns] = torch.randint(4, len(VOCABULARY), (length,), generator=generator)
        mask[row, columns] = 1
    return {"input_ids": ids, "attention_mask": mask}


def generate(model: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
    """Return what the model writes greedily, with its raw logits, unless `options` say otherwise."""
    settings = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0} | options
    return model.generate(**inputs, **settings, return_dict_in_generate=True, output_logits=True)


def state(model: Any) -> tuple[Any, ...]:
    """Return all that a context could leave behind besides weights: hooks, configs, attributes."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    settings = model.config.to_json_string(), model.generation_config.to_json_string()
    return hooks, *settings, dict(vars(model)), model.generate
