"""Runs a model on made-up tokens to see what it does, and leaves no trace of it."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuronlens.errors import SiteError
from neuronlens.hooks.wrapped import device_of

T = TypeVar("T")
ROWS, WIDTH = 2, 7
"""Of the made-up batch: numbers that no model's own sizes are, or its shapes could be mixed up."""
_ONE_AT_A_TIME = threading.RLock()


class _Thread(threading.local):
    probing = False


THREAD = _Thread()
"""Whether this thread runs a model on made-up tokens: then nothing in it stands in for anything."""


def once_per_model(
    part: Callable[[nn.Module], nn.Module],
) -> Callable[[Callable[[nn.Module], T]], Callable[[nn.Module], T]]:
    """Return a decorator: what a function finds out about `part` of a model is remembered as long as that lives.

    Args:
        part: `body_of` or `bare`; the function gets what it returns, whatever wrapper of the model it is called with.
    """

    def remember(find: Callable[[nn.Module], T]) -> Callable[[nn.Module], T]:
        known: WeakKeyDictionary[nn.Module, T] = WeakKeyDictionary()

        @functools.wraps(find)
        def found(model: nn.Module) -> T:
            own = part(model)
            if own not in known:
                with _ONE_AT_A_TIME:
                    known[own] = find(own)
            return known[own]

        return found

    return remember


def made_up_tokens(body: nn.Module) -> dict[str, Tensor]:
    """Return a batch of `[ROWS, WIDTH]` token ids, none of them special or a pad, with its attention mask."""
    config: Any = body.config.get_text_config()  # type: ignore[union-attr, operator]
    count = getattr(config, "vocab_size", None) or 128  # a model of characters has none
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(count // 8, count // 2, (ROWS, WIDTH), generator=generator)
    for special in (getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)):
        ids += ids == special if isinstance(special, int) else 0
    ids = ids.to(device_of(body))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@contextmanager
def unwatched(body: nn.Module) -> Iterator[None]:
    """Run the model in the block as it is by itself: nobody's hooks and replacements, no gradients, in eval mode.

    Random states are put back after it, so that it costs a training run no draw.
    """
    modules = list(body.modules())
    hooks = [(m, m._forward_hooks, m._forward_pre_hooks) for m in modules if m._forward_hooks or m._forward_pre_hooks]
    replaced = [(m, vars(m).pop("_compiled_call_impl")) for m in modules if "_compiled_call_impl" in vars(m)]
    training = [module for module in modules if module.training]
    device = device_of(body)
    with ExitStack() as stack:
        stack.enter_context(_ONE_AT_A_TIME)
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stack.enter_context(torch.no_grad())
        before, THREAD.probing = THREAD.probing, True
        try:
            for module, _, _ in hooks:
                module._forward_hooks, module._forward_pre_hooks = OrderedDict(), OrderedDict()
            for module in training:
                module.training = False
            yield
        finally:
            THREAD.probing = before
            for module, own, own_pre in hooks:
                module._forward_hooks, module._forward_pre_hooks = own, own_pre
            for module, instead in replaced:
                module._compiled_call_impl = instead
            for module in training:
                module.training = True


def watch_made_up(body: nn.Module, handles: Sequence[RemovableHandle]) -> None:
    """Run the made-up batch under hooks that are there already, and take them away.

    Raises:
        SiteError: as `run_made_up` does.
    """
    try:
        run_made_up(body, made_up_tokens(body))
    finally:
        for handle in handles:
            handle.remove()


def run_made_up(body: nn.Module, inputs: dict[str, Any]) -> Any:
    """Return the output of one forward of the body.

    Raises:
        SiteError: it does not run on tokens alone.
    """
    options: dict[str, Any] = {"use_cache": False} if takes(body, "use_cache") else {}
    if "decoder_input_ids" in inspect.signature(body.forward).parameters:
        options["decoder_input_ids"] = inputs["input_ids"]
    try:
        return body(**inputs, **options)
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise SiteError(
            f"{type(body).__name__} does not run on token ids and an attention mask alone: {type(error).__name__}: {reason}"
        ) from error


def takes(module: nn.Module, name: str) -> bool:
    """Return whether a module's forward has an argument of this name, or hands on whatever it is given."""
    parameters = inspect.signature(module.forward).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    return name in parameters or kinds == {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def holds_experts(module: nn.Module) -> bool:
    """Return whether a module keeps the weights of several experts in one tensor."""
    convolution = type(module).__name__.startswith("Conv")
    return not convolution and any(p is not None and p.dim() == 3 for p in module._parameters.values())


def rounding(tensor: Tensor, *, experts: bool) -> float:
    """Return how far two runs' numbers may be apart where other positions differ and these should not notice.

    A position's own numbers are the same to the last bit whatever the others hold, but not among experts, where the
    tokens of each are counted together.
    """
    return 8 * torch.finfo(tensor.dtype).eps * float(tensor.abs().amax()) if experts else 0.0
