"""Finds the transformers model inside what it may be wrapped in, and where its tensors are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.errors import SiteError


def bare(model: nn.Module) -> nn.Module:
    """Return the transformers model inside torch.compile, DataParallel, DistributedDataParallel and PEFT wrappers.

    Its modules are the wrapper's own, so what is hooked there fires whichever of them is called.

    Raises:
        SiteError: the wrapper splits batches over devices, or adds positions that the text does not have.
    """
    while True:
        if isinstance(model, nn.parallel.DataParallel) and len(model.device_ids) > 1:
            raise SiteError(
                f"DataParallel over {len(model.device_ids)} devices splits each batch, so nobody could say whose "
                "activations are whose. Next: pass model.module, or run one process per device."
            )
        if isinstance(model, (nn.parallel.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif "_orig_mod" in model._modules:  # torch.compile's wrapper
            model = model._modules["_orig_mod"]  # type: ignore[assignment]
        elif hasattr(type(model), "get_base_model"):  # PEFT's
            adapter: Any = model
            if getattr(adapter.active_peft_config, "is_prompt_learning", False):
                raise SiteError(
                    f"{adapter.active_peft_config.peft_type.value} puts virtual tokens before the text, so positions are not "
                    "the text's. Next: an adapter that changes weights, such as LoRA."
                )
            model = adapter.get_base_model()
        else:
            return model


def body_of(model: nn.Module) -> nn.Module:
    """Return the model without its head, which every forward of the model runs with the masks it was given."""
    found = bare(model)
    body: Any = getattr(found, "base_model", found)
    assert isinstance(body, nn.Module), "base_model is a module"
    while _only_hands_on(type(body).forward) and len(body._modules) == 1:  # a wrapper that the model itself goes around
        body = next(iter(body.children()))
    return body


@functools.cache
def _only_hands_on(forward: Callable[..., Any]) -> bool:
    return list(inspect.signature(forward).parameters)[1:] == ["args", "kwargs"]


@contextmanager
def run_eagerly(*modules: nn.Module) -> Iterator[None]:
    """Keep torch.compile out of the block where one of the modules is compiled: a compiled forward leaves hooks out."""
    if not any(map(_compiled, modules)):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _compiled(module: nn.Module) -> bool:
    own = vars(module)
    return (
        own.get("_compiled_call_impl") is not None
        or "_orig_mod" in module._modules
        or hasattr(own.get("forward"), "_torchdynamo_orig_callable")
    )


def device_of(module: nn.Module) -> torch.device:
    """Return the device that a module computes on, from any tensor it holds; the CPU where it holds none.

    Offloaded parameters lie on `meta` between forwards: accelerate knows where they come to. Quantised modules may have
    no parameters at all, only buffers or plain tensors.
    """
    for inner in module.modules():
        placed = getattr(getattr(inner, "_hf_hook", None), "execution_device", None)
        if placed is not None:
            return torch.device(placed)
    for inner in module.modules():
        for tensor in (*inner._parameters.values(), *inner._buffers.values(), *vars(inner).values()):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                return tensor.device
    return torch.device("cpu")
