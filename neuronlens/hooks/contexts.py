"""Reads and edits activations in a running model. The only file that registers hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.config.schema import RECORD_POSITIONS, TOKEN_POSITIONS
from neuronlens.errors import SiteError, unknown
from neuronlens.hooks.generation import GenerateCall, by_name, generate_calls
from neuronlens.hooks.masks import EDITED, edit_mask, read_index
from neuronlens.hooks.resolver import Point, body_of, resolve_site
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
    prompt: Tensor | None = None,
    attended: Tensor | None = None,
) -> Iterator[nn.Module]:
    """Edit the sites' vectors in every forward in the block, and leave the model as it was found.

    In `model.generate` the prompt is the columns of its input and every later column is generated; the same columns are
    edited with a KV cache and without one. In a plain forward every attended position is prompt unless `prompt` says.

    Args:
        edits: what to do at each site; pads are never edited.
        positions: `all` attended ones, those of the `prompt`, the `generated` ones, or only the record position `cls`
            or `last`, the last attended one of the prompt.
        cells: how many cells a batch holds one after the other, each with all the samples.
        prompt: which positions are prompt `[sample, position]` bool, for one cell; for plain forwards.
        attended: which positions are no pads `[sample, position]` bool, for one cell, where the forward's own attention
            mask does not say: one of four dimensions, or none.

    Raises:
        SiteError: a site matches nothing, or its hook never fired though the model ran (TRAPS 13); the masks do not fit
            the forward, or do not tell pads from tokens.
    """
    if positions not in EDITED:
        raise SiteError(unknown("edit position", positions, EDITED))
    latest: list[_Forward] = []

    def change(edit: Edit) -> Callable[[Tensor], Tensor]:
        def changed(hidden: Tensor) -> Tensor:
            by_cell = hidden.unflatten(0, (cells, -1))
            mask = latest[0].mask(by_cell, positions) if latest else None
            return edit(by_cell, mask).flatten(0, 1)

        return changed

    points = {site: resolve_site(model, site) for site in edits}
    with _watched(model, points) as (seen, handles):
        calls = handles.enter_context(generate_calls(model))

        def look(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            latest[:] = [_Forward.of(module, arguments, named, calls, prompt=prompt, attended=attended)]

        handles.callback(body_of(model).register_forward_pre_hook(look, with_kwargs=True).remove)
        for site, point in points.items():
            handles.enter_context(_hooked(point, change(edits[site]), seen, site, prepend=False))
        yield model


@dataclass(frozen=True)
class _Forward:
    """One forward of the body as it was called, from which the edited positions follow.

    Attributes:
        attention_mask: for all cells, as passed, or `attended` for one cell in its place.
        past: columns that the cache holds already.
        call: the generate call it serves, or None for a plain forward.
        prompt: as given to `edited`.
    """

    attention_mask: Any
    past: int
    call: GenerateCall | None
    prompt: Tensor | None

    @classmethod
    def of(
        cls,
        module: nn.Module,
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        calls: Sequence[GenerateCall],
        *,
        prompt: Tensor | None,
        attended: Tensor | None,
    ) -> _Forward:
        passed = by_name(module.forward, arguments, named)
        mask = passed.get("attention_mask")
        if calls:
            if prompt is not None or attended is not None:
                raise SiteError("prompt= and attended= describe plain forwards; model.generate knows its own prompt.")
            cache = passed.get("past_key_values")
            return cls(mask, 0 if cache is None else int(cache.get_seq_length()), calls[-1], None)
        if attended is None and mask is not None and not (isinstance(mask, Tensor) and mask.dim() == 2):
            raise SiteError(
                "This forward's attention mask is not [sample, position] and does not say which positions are pads. "
                "Next: nl.edited(..., attended=<bool tensor [sample, position]>)."
            )
        return cls(mask if attended is None else attended, 0, None, prompt)

    def mask(self, by_cell: Tensor, positions: str) -> Tensor | None:
        """Return which positions are edited `[sample, position]`, None for all, of `[cell, sample, position, neuron]`."""
        cells, samples, width = by_cell.shape[:3]
        if self.call is None:
            known = None if self.attention_mask is None else self.attention_mask[:samples]
            return position_mask(known, by_cell[0], positions, self.prompt)
        columns = self.call.attended(self.attention_mask, cells * samples, self.past + width, by_cell.device)[:samples]
        asked = columns.clone()
        asked[:, self.call.width :] = False
        return edit_mask(columns, asked, positions)[:, self.past : self.past + width]


def hidden_of(output: Any) -> Tensor:
    """Return the hidden states of a block's output, a tensor or a tuple that starts with one (TRAPS 4)."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """Return a block's output with other hidden states, a tuple's tail passed through."""
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def position_mask(
    attention_mask: Tensor | None, hidden: Tensor, positions: str, prompt: Tensor | None = None
) -> Tensor | None:
    """Return which positions are edited `[sample, position]`, or None for all of them.

    `cls` is position 0, which is what an encoder's head reads; `last` is the last attended one of the prompt on either
    padding side. With a cache the masks may cover the past as well: their last columns count.

    Args:
        hidden: `[sample, position, neuron]`.
        prompt: which positions are prompt `[sample, position]`; None for all.

    Raises:
        SiteError: a mask covers other samples, or fewer positions.
    """
    if attention_mask is None and prompt is None and positions == "all":
        return None
    attended = asked = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    if attention_mask is not None:
        attended = asked = _last_columns("attention mask", attention_mask, hidden)
    if prompt is not None:
        asked = attended & _last_columns("prompt mask", prompt, hidden)
    return edit_mask(attended, asked, positions)


def _last_columns(name: str, mask: Tensor, hidden: Tensor) -> Tensor:
    samples, width = hidden.shape[:2]
    if mask.dim() != 2 or mask.shape[0] != samples or mask.shape[1] < width:
        raise SiteError(f"The {name} is {list(mask.shape)}, expected [sample, position], here {[samples, width]}.")
    return mask[:, -width:].to(hidden.device) != 0


def read_positions(hidden: Tensor, attention_mask: Tensor, position: str) -> Tensor:
    """Return one vector per sample `[sample, neuron]`: at `cls`, at `last`, or the `mean` or `max` over attended tokens.

    Args:
        position: one of `schema.RECORD_POSITIONS`, `live_mean` resolved by `recorded_position`.

    Raises:
        SiteError: another word.
    """
    attended = attention_mask != 0
    if position == "mean":
        weights = attended.to(torch.float32)[..., None]
        return ((hidden.float() * weights).sum(1) / weights.sum(1)).to(hidden.dtype)
    if position == "max":
        return hidden.masked_fill(~attended[..., None], -torch.inf).amax(1)
    if position not in TOKEN_POSITIONS:
        known = [name for name in RECORD_POSITIONS if name != "live_mean"]
        raise SiteError(unknown("record position", position, known))
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
        handles.callback(body_of(model).register_forward_hook(count).remove)
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
