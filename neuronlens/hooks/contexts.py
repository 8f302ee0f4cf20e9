"""Reads and edits activations in a running model. The only file that registers hooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.config.schema import RECORD_POSITIONS, TOKEN_POSITIONS
from neuronlens.errors import SiteError, unknown
from neuronlens.hooks.blocks import blocks_of, found_blocks, tensor_in
from neuronlens.hooks.forwards import Forward, Running, kept_through_checkpoints, refuse_unread_end
from neuronlens.hooks.generation import by_name, generate_calls
from neuronlens.hooks.masks import EDITED, read_index
from neuronlens.hooks.resolver import Point, resolve_site
from neuronlens.hooks.takes import is_causal
from neuronlens.hooks.tokens import reads_tokens, run_edit
from neuronlens.hooks.wrapped import bare, body_of, run_eagerly
from neuronlens.records import Site

Edit = Callable[[Tensor, Tensor | None], Tensor]
"""Takes hidden states `[cell, sample, position, neuron]` and a mask `[sample, position]`; gives the edited ones."""


class Recorded(Mapping[Site, Tensor]):
    """What `capture` recorded of the latest forward `[sample, position, neuron]` by site: this thread's, if it ran one."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._latest: dict[Site, Tensor] = {}
        self._own = threading.local()

    def keep(self, site: Site, hidden: Tensor) -> None:
        """Keep a site's vectors of the forward that this thread runs."""
        self._latest[site] = vars(self._own)[site] = hidden  # type: ignore[index]

    def __getitem__(self, site: Site) -> Tensor:
        """Return a site's vectors."""
        return vars(self._own).get(site, self._latest[site])  # type: ignore[call-overload]

    def __iter__(self) -> Iterator[Site]:
        """Give the sites that were recorded."""
        return iter(self._latest)

    def __len__(self) -> int:
        """Return how many sites were recorded."""
        return len(self._latest)


@contextmanager
def capture(model: nn.Module, sites: Iterable[Site]) -> Iterator[Recorded]:
    """Record the sites' vectors of every forward in the block, as they are before any edit (TRAPS 5).

    What is recorded and what the model goes on with are two tensors: changing one in place leaves the other (TRAPS 38).

    Yields:
        A mapping that holds, after a forward, `[sample, position, neuron]` per site: the latest forward's.

    Raises:
        SiteError: a site matches nothing, or its hook never fired though the model ran.
    """
    recorded, running = Recorded(), Running()

    def record(site: Site) -> Use:
        def keep(hidden: Tensor) -> Tensor | None:
            if running.again:
                return None
            if hidden.requires_grad:  # gradients with respect to what was recorded are to be had
                recorded.keep(site, hidden)
                return hidden.clone()
            recorded.keep(site, hidden.clone())
            return None

        return keep

    points = {site: resolve_site(model, site) for site in sites}
    with _watched(model, points, running, edits=False) as (seen, handles):
        for site, point in points.items():
            handles.enter_context(_hooked(site, point, record(site), running, seen, order=0))
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
    segment: Tensor | None = None,
) -> Iterator[nn.Module]:
    """Edit the sites' vectors in every forward in the block, and leave the model as it was found.

    In `model.generate` the prompt is the columns of its input and every later column is generated; the same columns are
    edited with a KV cache and without one. In a plain forward every attended position is prompt unless `prompt` says.
    `hidden_states` that are asked for beside an edit are the edited ones.

    Args:
        model: a transformers model, as it is or wrapped by torch.compile (which then runs uncompiled), PEFT or accelerate.
        edits: what to do at each site; pads are never edited.
        positions: `all` attended ones, those of the `prompt`, the `generated` ones, or only the record position `cls`
            or `last`, the last attended one of the prompt.
        cells: how many cells a batch holds one after the other, each with all the samples.
        prompt: which positions are prompt `[sample, position]` bool, for one cell; for plain forwards.
        attended: which positions are no pads `[sample, position]` bool, for one cell, where the forward's own attention
            mask does not say: one of four dimensions, or none.
        segment: which label's continuation a position belongs to `[sample, position]`, where several share one prompt.

    Raises:
        SiteError: a site matches nothing, or its hook never fired though the model ran (TRAPS 13); the masks do not fit
            the forward, or do not tell pads from tokens; the position to be edited is a pad, or one that the head skips.
    """
    if positions not in EDITED:
        raise SiteError(unknown("edit position", positions, EDITED))
    running, own = Running(), bare(model)
    causal = reads_tokens(edits) and is_causal(model)

    def change(site: Site, edit: Edit) -> Use:
        at: dict[torch.device, Edit] = {}

        def changed(hidden: Tensor) -> Tensor:
            if running.forward is None:
                raise SiteError(
                    f"Part of {type(own).__name__} was run by itself, so the edit does not know which positions are pads. "
                    "Next: call the model, or its base_model."
                )
            by_cell = hidden.unflatten(0, (cells, -1))
            mask = running.forward.mask(by_cell, positions)
            if hidden.device not in at:
                at[hidden.device] = edit.to(hidden.device) if hasattr(edit, "to") else edit
            tokens = None
            if reads_tokens({site: edit}):
                tokens = running.forward.tokens(by_cell, causal=causal, owner=(running, site))
            return run_edit(at[hidden.device], by_cell, mask, tokens).flatten(0, 1)

        return changed

    points = {site: resolve_site(model, site) for site in edits}
    with _watched(model, points, running, edits=True) as (seen, handles):
        call = handles.enter_context(generate_calls(own))

        def look(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            running.depth += 1
            if running.depth > 1:
                return
            given: dict[str, Any] = {"prompt": prompt, "attended": attended, "segment": segment}
            running.forward = Forward.of(module, arguments, named, call(), positions=positions, **given)
            if positions == "last" and attended is None and running.forward.call is None:
                refuse_unread_end(own, by_name(module.forward, arguments, named))

        def leave(module: nn.Module, arguments: Any, output: Any) -> None:
            running.depth = max(0, running.depth - 1)

        for module in _around(model):
            handles.callback(module.register_forward_pre_hook(_Hook(look), with_kwargs=True).remove)
            handles.callback(module.register_forward_hook(_Hook(leave), always_call=True).remove)
        for site, point in points.items():
            handles.enter_context(_hooked(site, point, change(site, edits[site]), running, seen, order=1))
        yield model


Use = Callable[[Tensor], Tensor | None]
"""Takes a site's vectors; what it returns, if anything, is put in their place."""


def hidden_of(output: Any) -> Tensor:
    """Return the hidden states of a block's output, a tensor or a tuple or list that starts with one (TRAPS 4)."""
    return output[0] if isinstance(output, (tuple, list)) else output


def with_hidden(output: Any, hidden: Tensor) -> Any:
    """Return a block's output with other hidden states, the rest of a tuple or list passed through."""
    if not isinstance(output, (tuple, list)):
        return hidden
    entries = [hidden, *output[1:]]
    return type(output)(*entries) if hasattr(output, "_fields") else type(output)(entries)


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
def _watched(
    model: nn.Module, points: Mapping[Site, Point], running: Running, *, edits: bool
) -> Iterator[tuple[dict[Site, int], ExitStack]]:
    """Count the model's forwards against each site's, remove every hook at the end, and refuse a silent site."""
    body, blocks, seen, forwards = body_of(model), blocks_of(model), dict.fromkeys(points, 0), [0]

    def count(module: nn.Module, arguments: Any, output: Any) -> None:
        forwards[0] += 1

    inside = [point.block for point in points.values() if point.module is not point.block]
    with ExitStack() as handles:
        handles.enter_context(run_eagerly(model, bare(model), body, *blocks))
        handles.enter_context(kept_through_checkpoints(inside, running, needed=edits))
        handles.callback(_around(model)[-1].register_forward_hook(_Hook(count)).remove)
        yield seen, handles
    silent = [str(site) for site, times in seen.items() if forwards[0] and not times]
    if silent:
        raise SiteError(f"The model ran and {', '.join(silent)} never fired. Next: neuronlens doctor.")


def _around(model: nn.Module) -> list[nn.Module]:
    """Return the modules around the list of blocks, the body first: a head may go around the outer ones."""
    found = [body_of(model)]
    for name in found_blocks(model).path.split(".")[:-1]:
        found.append(found[-1].get_submodule(name))
    return found


class _Hook:
    """A hook of one context. A copy of the model that is made inside it is nobody's: its hooks do nothing (TRAPS 36).

    Attributes:
        order: 0 for what records, 1 for what edits.
    """

    def __init__(self, call: Callable[..., Any], order: int = 2) -> None:
        self.call, self.order = call, order

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Do what the context does."""
        return self.call(*arguments, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Hook:
        """Return a hook that does nothing."""
        return _Hook(lambda *arguments, **named: None)


@contextmanager
def _hooked(
    site: Site, point: Point, use: Use, running: Running, seen: dict[Site, int], *, order: int
) -> Iterator[None]:
    """Hand a site's vector to `use` in every forward, and put what it returns, if anything, in its place.

    What records comes before what edits, and both before anybody else's hooks, such as those of transformers that collect
    hidden states (TRAPS 35).
    """

    def used(hidden: Tensor) -> Tensor | None:
        seen[site] += 1
        if not point.flat:
            return use(hidden)
        changed = use(hidden.unflatten(0, running.shapes[id(point.block)]))
        return None if changed is None else changed.flatten(0, 1)

    def on_output(module: nn.Module, arguments: Any, output: Any) -> Any:
        changed = used(hidden_of(output))
        return None if changed is None else with_hidden(output, changed)

    def on_input(module: nn.Module, arguments: tuple[Any, ...]) -> Any:
        changed = used(arguments[0])
        return None if changed is None else (changed, *arguments[1:])

    def measure(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        hidden = tensor_in(arguments) if arguments else tensor_in(tuple(named.values()))
        assert hidden is not None, "a block's first argument is its hidden states"
        running.shapes[id(point.block)] = hidden.shape[0], hidden.shape[1]

    with ExitStack() as handles:
        if point.flat:
            handles.callback(point.block.register_forward_pre_hook(_Hook(measure), with_kwargs=True).remove)
        if point.is_input:
            handle = point.module.register_forward_pre_hook(_Hook(on_input, order))
            hooks: Any = point.module._forward_pre_hooks
        else:
            handle = point.module.register_forward_hook(_Hook(on_output, order))
            hooks = point.module._forward_hooks
        handles.callback(handle.remove)
        ours = sorted((hook.order, place) for place, hook in hooks.items() if isinstance(hook, _Hook))
        for _, place in reversed(ours):
            hooks.move_to_end(place, last=False)
        yield
