"""Separates a model's prompt from what it wrote while `model.generate` runs, with a KV cache and without one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.errors import SiteError


@dataclass(frozen=True)
class GenerateCall:
    """One call of `model.generate`, by columns: column 0 is the first one of its input, cached ones counted.

    Attributes:
        width: how many columns the prompt has; every later column holds a generated token.
        given: the attention mask of the call `[sample, column]`, or None where it was left out.
    """

    width: int
    given: Tensor | None

    @classmethod
    def of(cls, passed: Mapping[str, Any]) -> GenerateCall:
        """Read the prompt's width and mask off a call's arguments; transformers writes one token where it has no input.

        A cache that is passed in holds columns of the prompt: the mask covers them, or, without a mask, the input does.

        Raises:
            SiteError: the call packs sequences into one row, or runs forwards of a second, unconditional one.
        """
        config = passed.get("generation_config")
        settings = {**({} if config is None else vars(config)), **passed}
        if settings.get("cache_implementation") == "paged" or settings.get("guidance_scale") not in (None, 1):
            raise SiteError(
                "A paged cache and classifier-free guidance run forwards whose columns are not the text's, so an edit "
                "could not tell the prompt. Next: model.generate without cache_implementation='paged' and guidance_scale."
            )
        mask = passed.get("attention_mask")
        if mask is not None:
            return cls(mask.shape[1], mask)
        inputs = [passed.get(name) for name in ("inputs_embeds", "inputs", "input_ids")]
        return cls(next((tensor.shape[1] for tensor in inputs if tensor is not None), 1), None)

    def attended(self, mask: Any, rows: int, total: int, device: torch.device) -> Tensor:
        """Return which columns are no pads `[row, column]`, over `total` columns or the prompt's where that is more.

        Args:
            mask: the attention mask of one forward of the call; a 4D one says nothing about pads.
            rows: of that forward: a sample has one row per beam or returned sequence, side by side.
            total: columns up to the end of that forward.

        Raises:
            SiteError: the call left its mask out and the forward's does not cover the prompt.
        """
        open_columns = torch.ones(rows, max(total, self.width), dtype=torch.bool, device=device)
        known = self.given
        if known is None and mask is not None:
            known = mask
            if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[1] < self.width:
                raise SiteError(
                    "This kind of cache or prefill hides the padding that transformers found by itself. "
                    "Next: model.generate(..., attention_mask=<the tokenizer's>)."
                )
        if known is not None:
            known = known.to(device)[:, : self.width].repeat_interleave(rows // len(known), dim=0) != 0
            open_columns[:, : self.width] = known
        return open_columns


def by_name(function: Callable[..., Any], arguments: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call passes by the function's own argument names, those that it takes as `**kwargs` among them.

    >>> def sample(inputs, seed=0, **more): ...
    >>> by_name(sample, ["text"], {"top_k": 5})
    {'inputs': 'text', 'top_k': 5}
    """
    signature = inspect.signature(function)
    passed = signature.bind_partial(*arguments, **named).arguments
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            passed |= passed.pop(name, {})
    return passed


@contextmanager
def generate_calls(model: nn.Module) -> Iterator[Sequence[GenerateCall]]:
    """Note the calls of `model.generate` in the block, the innermost last, by wrapping it on the instance.

    While it is wrapped, transformers does not compile the model for generation: a compiled forward may leave hooks out.
    A model that cannot generate has nothing to note. At the end the instance is as it was found.
    """
    calls: list[GenerateCall] = []
    declared: Callable[..., Any] | None = getattr(type(model), "generate", None)
    if declared is None:
        yield calls
        return
    own: Callable[..., Any] = model.generate  # type: ignore[assignment]

    @functools.wraps(own)
    def generate(*arguments: Any, **named: Any) -> Any:
        calls.append(GenerateCall.of(by_name(declared, (model, *arguments), named)))
        try:
            return own(*arguments, **{**named, "disable_compile": True})
        finally:
            calls.pop()

    found = vars(model).get("generate")
    object.__setattr__(model, "generate", generate)
    try:
        yield calls
    finally:
        if found is None:
            object.__delattr__(model, "generate")
        else:
            object.__setattr__(model, "generate", found)
