"""A few values of every weight that an edited site's activations come from: by these a lens knows its own model again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuronlens.config.fingerprint import fingerprint
from neuronlens.hooks.blocks import found_blocks
from neuronlens.hooks.wrapped import body_of

Sample = Mapping[str, NDArray[np.float32]]
"""Values by the name of their weight in the body, `[VALUES]` each; a weight that lies nowhere (meta) is left out."""
VALUES = 2
"""Values of each weight. Training moves all of them."""
SMALLEST = 1e-7
"""Half precision knows no finer steps next to 0."""


def weight_sample(model: nn.Module, deepest: int) -> Sample:
    """Return some values of the weights below the blocks and in the blocks up to `deepest`, float32, on the CPU.

    Nothing above the site is read: a head that is trained anew, or a model loaded without one, changes no activation there.

    Args:
        model: in any wrapper that `hooks.wrapped.bare` knows.
        deepest: a block's number, counted from 0.

    Raises:
        SiteError: no blocks are found in the model.
    """
    body = body_of(model)
    start = f"{found_blocks(body).path}."
    chosen: dict[str, Tensor] = {}
    met = False
    for name, weight in body.named_parameters():
        inside = name.startswith(start)
        met = met or inside
        below = not met if not inside else int(name.removeprefix(start).split(".")[0]) <= deepest
        if below and weight.numel() and not weight.is_meta:
            chosen[name] = weight.detach()
    return dict(zip(chosen, _values(list(chosen.values())), strict=True))


def identity_of(sample: Sample) -> str:
    """Return the fingerprint of a sample of weights, for a card."""
    return fingerprint({name: [float(value) for value in values] for name, values in sample.items()})


def difference(expected: Sample, found: Sample, precision: float) -> str | None:
    """Return in words where two samples differ by more than rounding; None where they do not.

    Args:
        expected: of the model that a lens was fitted on.
        found: of the model at hand.
        precision: relative step of the coarser of the two models' dtypes.
    """
    missing, more = [name for name in expected if name not in found], [name for name in found if name not in expected]
    if missing or more:
        return f"it has no weight {missing[0]}" if missing else f"it has one weight more, {more[0]}"
    for name, values in expected.items():
        if not np.allclose(found[name], values, rtol=precision, atol=SMALLEST, equal_nan=True):
            return f"{name} holds {found[name][0]:.6g} where the other has {values[0]:.6g}"
    return None


def precision_of(model: nn.Module) -> float:
    """Return the relative step of the coarsest numbers among a model's weights; 0 where these are all float32 or finer."""
    steps = [torch.finfo(weight.dtype).eps for weight in model.parameters() if weight.is_floating_point()]
    return max([0.0, *(step for step in steps if step > torch.finfo(torch.float32).eps)])


def _values(weights: list[Tensor]) -> list[NDArray[np.float32]]:
    """Return `VALUES` values of each weight at even steps, from one copy to the CPU per device."""
    picked: list[Tensor] = []
    for weight in weights:
        places = (torch.arange(VALUES, device=weight.device) * 2 + 1) * weight.numel() // (2 * VALUES)
        index = torch.unravel_index(places, weight.shape)
        picked.append((weight[index] if weight.dim() else weight.expand(VALUES)).float())
    by_device: dict[torch.device, list[int]] = {}
    for at, values in enumerate(picked):
        by_device.setdefault(values.device, []).append(at)
    found: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(picked)
    for places_there in by_device.values():
        rows = torch.stack([picked[at] for at in places_there]).cpu().numpy()
        for at, row in zip(places_there, rows, strict=True):
            found[at] = row
    return found
