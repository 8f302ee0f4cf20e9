"""Runs one block again with something changed, to see what flows where in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronlens.hooks.blocks import tensor_in
from neuronlens.hooks.probe import WIDTH, holds_experts, rounding

AT = 2
"""The position that is changed."""


@dataclass(frozen=True)
class Flow:
    """One run of a block: what went into and came out of its modules, in the order in which they finished."""

    before: dict[str, Tensor]
    after: dict[str, Tensor]
    output: Tensor


class Probed:
    """One block with the arguments of a call, which can be run again with something changed.

    Attributes:
        projections, children, experts: names of its matrix products, of its direct children, and of what holds experts.
        widths: what counts as hidden states: the block's own width, and the model's.
        plain, moved: what flows as it is, and with the block's input changed at one position.
    """

    def __init__(self, block: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], hidden_size: int) -> None:
        """Run the block as it was called, and with its input changed."""
        self.block, self.arguments, self.named = block, arguments, named
        self.hidden: Tensor = arguments[0] if arguments else next(iter(named.values()))
        inner = dict(block.named_modules())
        del inner[""]
        self.projections = [name for name in inner if is_projection(inner[name]) and not _within(name, inner)]
        self.children = [name for name, _ in block.named_children()]
        self.experts = [name for name in inner if holds_experts(inner[name])]
        watched = {name: inner[name] for name in (*self.projections, *self.children)}
        self.watched = {name: module for name, module in watched.items() if not isinstance(module, nn.ModuleList)}
        self.plain = self.run()
        self.widths = {self.plain.output.shape[-1], hidden_size}
        self.moved = self.run(self._changed(self.hidden))

    def run(self, hidden: Tensor | None = None, *, change: str | None = None) -> Flow:
        """Return what flows through the block, from another input or with one module's output changed."""
        before: dict[str, Tensor] = {}
        after: dict[str, Tensor] = {}
        twice: set[str] = set()

        def note(name: str, module: nn.Module, arguments: Any, named: Any, output: Any) -> Any:
            took, gave = tensor_in(next(iter((*arguments, *named.values())), None)), tensor_in(output)
            twice.update({name} & set(after))
            if took is None or gave is None or _by_position(took) is None or _by_position(gave) is None:
                return None
            before[name], after[name] = took, gave
            if name != change:
                return None
            changed = self._changed(gave)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handles = [
            module.register_forward_hook(partial(note, name), with_kwargs=True) for name, module in self.watched.items()
        ]
        try:
            output = self._call(self.hidden if hidden is None else hidden)
        finally:
            for handle in handles:
                handle.remove()
        for name in twice:
            del before[name], after[name]
        return Flow(before, after, output)

    def gathers(self, name: str) -> bool:
        """Return whether positions were mixed in what goes into a module."""
        return name in self.moved.before and self._elsewhere(self.plain.before[name], self.moved.before[name])

    def mixes_within(self, name: str) -> bool:
        """Return whether positions are mixed inside a module."""
        plain, moved = self.plain, self.moved
        return self._elsewhere(plain.after[name], moved.after[name]) and not self.gathers(name)

    def reaches(self, name: str) -> bool:
        """Return whether a change of a module's output moves the block's, and at its own position alone."""
        output = self.run(change=name).output
        return not torch.equal(output, self.plain.output) and not self._elsewhere(output, self.plain.output)

    def follows(self, attention: str | None, name: str) -> bool:
        """Return whether a module gives hidden states that reach the block's output and leave the attention's alone."""
        if name == attention or self.plain.after[name].shape[-1] not in self.widths or not self.reaches(name):
            return False
        return attention is None or torch.equal(self.run(change=name).after[attention], self.plain.after[attention])

    def _elsewhere(self, one: Tensor, other: Tensor) -> bool:
        """Return whether two tensors differ at another position than the one that was changed."""
        first, second = _by_position(one), _by_position(other)
        assert first is not None
        assert second is not None
        kept = [place for place in range(WIDTH) if place != AT]
        difference = float((first[:, kept] - second[:, kept]).abs().max())
        return difference > rounding(one, experts=bool(self.experts))

    def _call(self, hidden: Tensor) -> Tensor:
        named = self.named
        if self.arguments:
            output = self.block(hidden, *self.arguments[1:], **named)
        else:
            first = next(iter(named))
            output = self.block(**{**named, first: hidden})
        found = tensor_in(output)
        assert found is not None, "found_blocks saw hidden states come out"
        return found

    def _changed(self, tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        place = _by_position(changed)
        assert place is not None
        step = torch.linspace(-1, 1, changed.shape[-1], device=changed.device).to(changed.dtype)
        place[:, AT] += step * (1 + tensor.abs().amax())
        return changed


def is_projection(module: nn.Module) -> bool:
    """Return whether a module is a matrix product: torch's, GPT-2's, a quantised one's, or one with an adapter around it."""
    return projected(module) is not None


def projected(module: nn.Module) -> tuple[int, int] | None:
    """Return how many neurons go into a projection and come out of it, or None for another module."""
    names = ("nx", "nf") if type(module).__name__ == "Conv1D" else ("in_features", "out_features")
    before, after = (getattr(module, name, None) for name in names)
    return (before, after) if isinstance(before, int) and isinstance(after, int) else None


def _within(name: str, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether a module lies inside a projection, as an adapter's own matrices do."""
    parts = name.split(".")
    return any(is_projection(modules[".".join(parts[:end])]) for end in range(1, len(parts)))


def _by_position(tensor: Tensor) -> Tensor | None:
    """Return a view `[row, position, neuron]` of a tensor that has one, its positions flattened or not."""
    if tensor.dim() == 3 and tensor.shape[1] == WIDTH:
        return tensor
    if tensor.dim() == 2 and tensor.shape[0] % WIDTH == 0:
        return tensor.view(-1, WIDTH, tensor.shape[-1])
    return None
