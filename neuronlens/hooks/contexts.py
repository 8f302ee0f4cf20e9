"""Reads and edits activations in a running model. The only file that registers hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.errors import SiteError, unknown
from neuronlens.hooks.masks import EDITED, edit_mask, read_index
from neuronlens.hooks.sites import Point, resolve_site
from neuronlens.records import Site

Edit = Callable[[Tensor, Tensor | None], Tensor]
"""Takes hidden states `[cell, sample, position, neuron]` and a mask `[sample, position]`; gives the edited ones."""


@contextmanager
def capture(model: nn.Module, sites: Iterable[Site]) -> Iterator[dict[Site, Tensor]]:
    """Record the sites' vectors of every forward in the block, as they are before any edit (TRAPS 5).

    Yields:
        A dict that holds, after a forward, `[sample, position, neuron]` per site: the latest forward's.
    Raises:
        SiteError: a site matches nothing, or its hook never fired though the model ran.
    """
    recorded: dict[Site, Tensor] = {}

    def record(site: Site) -> Callable[[Tensor], None]:
        def keep(hidden: Tensor) -> None:
            recorded[site] = hidden

        return keep

    points = {site: resolve_site(model, site) for site in sites}
    with _watched(model, points) as (seen, handles):
        for site, point in points.items():
            handles.enter_context(_hooked(point, record(site), seen, site, prepend=True))
        yield recorded


@contextmanager
def edited(
    model: nn.Module,
    edits: Mapping[Site, Edit],
    *,
    positions: str = "all",
    cells: int = 1,
    attended: Tensor | None = None,
    prompt: Tensor | None = None,
) -> Iterator[nn.Module]:
    """Edit the sites' vectors in every forward in the block, and leave the model as it was found.

    Args:
        edits: what to do at each site; pads are never edited.
        positions: `all` attended ones, or only the record position `cls` or `last`.
        cells: how many cells a batch holds one after the other, each with all the samples.
    Raises:
        SiteError: a site matches nothing, or its hook never fired though the model ran (TRAPS 13).
    """
    if positions not in EDITED:
        raise SiteError(unknown("edit position", positions, EDITED))
    mask_of_forward: list[Tensor | None] = [None]

    def change(edit: Edit) -> Callable[[Tensor], Tensor]:
        def changed(hidden: Tensor) -> Tensor:
            by_cell = hidden.unflatten(0, (cells, -1))
            mask = position_mask(mask_of_forward[0], by_cell[0], positions)
            if attended is not None:
                mask = edit_mask(attended, attended if prompt is None else prompt, positions)
            return edit(by_cell, mask).flatten(0, 1)

        return changed

    def remember_mask(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind_partial(*arguments, **named).arguments
        mask = bound.get("attention_mask", bound.get("kwargs", {}).get("attention_mask"))
        mask_of_forward[0] = mask[: mask.shape[0] // cells] if isinstance(mask, Tensor) and mask.dim() == 2 else None

    points = {site: resolve_site(model, site) for site in edits}
    with _watched(model, points) as (seen, handles):
        handles.callback(model.register_forward_pre_hook(remember_mask, with_kwargs=True).remove)
        for site, point in points.items():
            handles.enter_context(_hooked(point, change(edits[site]), seen, site, prepend=False))
        yield model


def hidden_of(output: Any) -> Tensor:
    """Return the hidden states of a block's output, a tensor or a tuple that starts with one (TRAPS 4)."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """Return a block's output with other hidden states, a tuple's tail passed through."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def position_mask(attention_mask: Tensor | None, hidden: Tensor, positions: str) -> Tensor | None:
    """Return which positions are edited `[sample, position]`, or None for all of them.

    `cls` is position 0, which is what an encoder's head reads; `last` is the last attended one on either padding side.
    """
    samples, width = hidden.shape[:2]
    if attention_mask is None and positions == "all":
        return None
    if attention_mask is None:
        attention_mask = torch.ones(samples, width, dtype=torch.long, device=hidden.device)
    attended = attention_mask[:, -width:].to(hidden.device) != 0  # with a cache, the mask covers the past as well
    return edit_mask(attended, attended, positions)


def read_positions(hidden: Tensor, attention_mask: Tensor, position: str) -> Tensor:
    """Return one vector per sample `[sample, neuron]`: at `cls`, at `last`, or the `mean` or `max` over attended tokens."""
    attended = attention_mask != 0
    if position == "mean":
        weights = attended.to(torch.float32)[..., None]
        return ((hidden.float() * weights).sum(1) / weights.sum(1)).to(hidden.dtype)
    if position == "max":
        return hidden.masked_fill(~attended[..., None], -torch.inf).amax(1)
    if position not in ("cls", "last"):
        raise SiteError(unknown("record position", position, ["cls", "last", "mean", "max"]))
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    return hidden[rows, read_index(attended, position)]


@contextmanager
def _watched(model: nn.Module, points: Mapping[Site, Point]) -> Iterator[tuple[dict[Site, int], ExitStack]]:
    """Count the model's forwards against each site's, remove every hook at the end, and refuse a silent site."""
    seen = dict.fromkeys(points, 0)
    forwards = [0]

    def count(module: nn.Module, arguments: Any, output: Any) -> None:
        forwards[0] += 1

    with ExitStack() as handles:
        handles.callback(model.register_forward_hook(count).remove)
        yield seen, handles
    silent = [str(site) for site, times in seen.items() if forwards[0] and not times]
    if silent:
        raise SiteError(f"The model ran and {', '.join(silent)} never fired. Next: neuronlens doctor.")


@contextmanager
def _hooked(
    point: Point, use: Callable[[Tensor], Tensor | None], seen: dict[Site, int], site: Site, *, prepend: bool
) -> Iterator[None]:
    """Hand a site's vector to `use` in every forward, and put what it returns, if anything, in its place."""

    def on_output(module: nn.Module, arguments: Any, output: Any) -> Any:
        seen[site] += 1
        changed = use(hidden_of(output))
        return None if changed is None else with_hidden(output, changed)

    def on_input(module: nn.Module, arguments: tuple[Any, ...]) -> Any:
        seen[site] += 1
        changed = use(arguments[0])
        return None if changed is None else (changed, *arguments[1:])

    if point.is_input:
        handle = point.module.register_forward_pre_hook(on_input, prepend=prepend)
    else:
        handle = point.module.register_forward_hook(on_output, prepend=prepend)
    try:
        yield
    finally:
        handle.remove()
