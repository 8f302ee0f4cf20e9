"""Separates a model's prompt from what it wrote while `model.generate` runs, with a KV cache and without one."""

from __future__ import annotations

import functools
import inspect
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
        beams: how many texts a beam search writes at once for each sample.
        kept: what an edit's forwards hand on to the next ones, by whose it is.
    """

    width: int
    given: Tensor | None
    beams: int = 1
    kept: dict[Any, dict[int, Any]] = field(default_factory=dict)

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
        own = getattr(passed.get("self"), "generation_config", None)
        beams = settings.get("num_beams") or getattr(own, "num_beams", None) or 1
        mask = passed.get("attention_mask")
        if mask is not None:
            return cls(mask.shape[1], mask, beams)
        inputs = [passed.get(name) for name in ("inputs_embeds", "inputs", "input_ids")]
        return cls(next((tensor.shape[1] for tensor in inputs if tensor is not None), 1), None, beams)

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


class _Generate:
    """Stands in for `model.generate` on one instance while contexts are active on it, and notes its calls by thread."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.contexts = model, 0
        self.found = vars(model).get("generate")
        self.own: Callable[..., Any] = model.generate  # type: ignore[assignment]
        self.declared: Callable[..., Any] = getattr(type(model), "generate")  # noqa: B009
        self.running = _Calls()
        functools.update_wrapper(self, self.own)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Note the call and run the model's own generate, never compiled: a compiled forward may leave hooks out."""
        self.running.calls.append(GenerateCall.of(by_name(self.declared, (self.model, *arguments), named)))
        try:
            return self.own(*arguments, **{**named, "disable_compile": True})
        finally:
            self.running.calls.pop()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the copied model's own method: a copy is nobody's context."""
        return types.MethodType(self.declared, memo[id(self.model)])


class _Calls(threading.local):
    """The generate calls that this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.calls: list[GenerateCall] = []


class _Refusal:
    """Stands in for a method that would run forwards whose columns are not the text's."""

    def __init__(self, generate: _Generate, name: str, why: str) -> None:
        self.generate, self.name, self.why = generate, name, why
        self.own: Callable[..., Any] = getattr(generate.model, name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the model's own method inside a generate call that is noted, and refuse it outside."""
        if not self.generate.running.calls:
            raise SiteError(self.why)
        return self.own(*arguments, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the copied model's own method."""
        return types.MethodType(getattr(type(self.generate.model), self.name), memo[id(self.generate.model)])


_BATCHED = (
    "Continuous batching packs texts into one row, so an edit could not tell one from the next. "
    "Next: model.generate with a padded batch."
)
_BOUND = (
    "This generate was taken from the model before the edit's context was entered, so an edit could not tell the prompt. "
    "Next: call model.generate inside the block."
)
_REFUSED = {"init_continuous_batching": _BATCHED, "generate_batch": _BATCHED, "_prepare_generation_config": _BOUND}
"""Methods that are refused outside a noted call; the last one is what every generate calls first."""


@contextmanager
def generate_calls(model: nn.Module) -> Iterator[Callable[[], GenerateCall | None]]:
    """Note the calls of `model.generate` in the block, by wrapping it on the instance; yields the one this thread is in.

    Contexts on one model share the wrapper, in whatever order they are left; the last one leaves the instance as the first
    one found it. A model that cannot generate has nothing to note.
    """
    if getattr(type(model), "generate", None) is None:
        yield lambda: None
        return
    found = vars(model).get("generate")
    shared = found if isinstance(found, _Generate) else _Generate(model)
    if shared is not found:
        names = [name for name in _REFUSED if hasattr(type(model), name) and name not in vars(model)]
        vars(model).update({"generate": shared, **{name: _Refusal(shared, name, _REFUSED[name]) for name in names}})
    shared.contexts += 1
    try:
        yield lambda: shared.running.calls[-1] if shared.running.calls else None
    finally:
        shared.contexts -= 1
        if not shared.contexts:
            _leave(model, shared)


def _leave(model: nn.Module, shared: _Generate) -> None:
    own = vars(model)
    for name in _REFUSED:
        if isinstance(own.get(name), _Refusal):
            del own[name]
    if own.get("generate") is shared:
        if shared.found is None:
            del own["generate"]
        else:
            own["generate"] = shared.found
