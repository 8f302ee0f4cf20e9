"""A model with its edits in one module: saved and moved together, and compiled as one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from neuronlens.edits.base import EditBatch
from neuronlens.errors import ModelError
from neuronlens.hooks.contexts import edited, hidden_of, with_hidden
from neuronlens.hooks.forwards import Forward
from neuronlens.hooks.masks import position_mask
from neuronlens.hooks.resolver import Point, resolve_site
from neuronlens.hooks.wrapped import body_of
from neuronlens.lens.order import InOrder
from neuronlens.records import Site


class SiteEdits(nn.Module):
    """The edits at one site, made one after the other; their numbers are buffers that keep their own precision."""

    def __init__(self, edits: Sequence[EditBatch]) -> None:
        """Take edits of one cell each."""
        super().__init__()
        self._forms = tuple(edits)
        for number, edit in enumerate(edits):
            for path, tensor in _tensors(edit):
                self.register_buffer(f"{number}_{path}", tensor.clone())

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the edited hidden states `[cell, sample, position, neuron]`; see `EditBatch`."""
        for number, form in enumerate(self._forms):
            hidden = _rebuilt(form, self._buffers, f"{number}_")(hidden, mask)
        return hidden

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SiteEdits:
        """Move the numbers with the module, but never to a coarser dtype: a rounded bound is another bound (TRAPS 9)."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, own in before.items():
            moved = self._buffers[name]
            if own is not None and moved is not None and moved.dtype != own.dtype:
                self._buffers[name] = own.to(moved.device)
        return self


class AttachedModel(nn.Module):
    """A model that is edited in every forward, until it is detached.

    `state_dict` holds the model's weights below `model.` and the edits' numbers below `edits.`; `to` moves both, and
    `torch.compile` compiles the edits with the rest. `generate` runs uncompiled. It is not pickled: save its state.

    Attributes:
        model: the model itself, which is edited only where it is called through this module.
        sites: where it is edited.
        positions: which positions are.
    """

    def __init__(self, model: nn.Module, edits: Mapping[Site, InOrder], positions: str) -> None:
        """Hook the edits into the model.

        Args:
            positions: as `nl.edited` takes it; in a plain forward every attended position is prompt.

        Raises:
            ModelError: a site whose tensor has no position of its own, as that of fused experts.
        """
        super().__init__()
        self.model, self.positions, self.sites = model, positions, tuple(edits)
        points = {site: resolve_site(model, site) for site in edits}
        for site, point in points.items():
            if point.flat:
                raise ModelError(f"The tensor at {site} has no positions of its own here. Next: lens.erase instead.")
        self.edits = nn.ModuleList(SiteEdits(edit.edits) for edit in edits.values())
        self.edits.to(next(model.parameters()).device)
        self._names = tuple(inspect.signature(model.forward).parameters)
        self._mask: Tensor | None = None
        self._active = False
        self._handles = [self._hooked(point, edit) for point, edit in zip(points.values(), self.edits, strict=True)]

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """Return what the model gives with its edits: the same arguments, the same output.

        Raises:
            SiteError: the mask does not tell pads from tokens, or the position to be edited is a pad.
        """
        if not torch.compiler.is_compiling():
            Forward.of(body_of(self.model), arguments, named, None, positions=self.positions)
        self._mask = {**dict(zip(self._names, arguments, strict=False)), **named}.get("attention_mask")
        self._active = True
        try:
            return self.model(*arguments, **named)
        finally:
            self._active, self._mask = False, None

    @torch.no_grad()
    def generate(self, *arguments: Any, **named: Any) -> Any:
        """Return what `model.generate` writes with the edits."""
        edits = dict(zip(self.sites, self.edits, strict=True))
        with edited(self.model, edits, positions=self.positions):
            return self.model.generate(*arguments, **named)  # type: ignore[operator]

    def detach(self) -> nn.Module:
        """Take the edits out and return the model as it was found."""
        for handle in self._handles:
            handle.remove()
        return self.model

    def __getattr__(self, name: str) -> Any:
        """Return the model's attribute where this module has none of its own: `config`, `device`, `dtype`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(self.model, name)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be pickled or copied: hooks belong to one model.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "An attached model is not pickled or copied. Next: save attached.state_dict(), and lens.attach the other model."
        )

    def _hooked(self, point: Point, edit: nn.Module) -> Any:
        def changed(hidden: Tensor) -> Tensor:
            mask = position_mask(self._mask, hidden, self.positions)
            found: Tensor = edit(hidden[None], mask)[0]
            return found

        def on_output(module: nn.Module, arguments: Any, output: Any) -> Any:
            return with_hidden(output, changed(hidden_of(output))) if self._active else None

        def on_input(module: nn.Module, arguments: tuple[Any, ...]) -> Any:
            return (changed(arguments[0]), *arguments[1:]) if self._active else None

        if point.is_input:
            return point.module.register_forward_pre_hook(on_input)
        return point.module.register_forward_hook(on_output, prepend=True)


def _tensors(batch: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Give every tensor of an edit, those of the edits inside it too, by its path."""
    for declared in fields(batch):
        value = getattr(batch, declared.name)
        if isinstance(value, Tensor):
            yield f"{prefix}{declared.name}", value
        elif is_dataclass(value):
            yield from _tensors(value, f"{prefix}{declared.name}_")


def _rebuilt(batch: Any, tensors: Mapping[str, Tensor | None], prefix: str) -> Any:
    """Return an edit with other tensors in the places of its own."""
    values = {}
    for declared in fields(batch):
        value = getattr(batch, declared.name)
        path = f"{prefix}{declared.name}"
        if isinstance(value, Tensor):
            value = tensors[path]
        elif is_dataclass(value):
            value = _rebuilt(value, tensors, f"{path}_")
        values[declared.name] = value
    return type(batch)(**values)
