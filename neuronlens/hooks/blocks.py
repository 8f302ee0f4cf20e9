"""Finds a model's list of blocks by what its lists of modules do in one forward, and says why where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from neuronlens.errors import SiteError
from neuronlens.hooks.probe import ROWS, WIDTH, once_per_model, unwatched, watch_made_up
from neuronlens.hooks.wrapped import body_of, run_eagerly

COUNTED_BY: Mapping[str, str] = {"longcat_flash": "num_layers"}
"""The config entry that counts a type's blocks, where it is not `num_hidden_layers`."""


def layer_count(config: Any) -> int | None:
    """Return how many blocks a model of this config has, before there are weights; None where its config does not count.

    Of an encoder with a decoder, the decoder's: its last block is the one before the head.
    """
    text = config.get_text_config()
    names = ["decoder_layers", "num_decoder_layers"] if getattr(text, "is_encoder_decoder", False) else []
    for name in [COUNTED_BY.get(text.model_type), *names, "num_hidden_layers"]:
        if name is not None and isinstance(count := getattr(text, name, None), int):
            return count
    return None


@dataclass(frozen=True)
class Returned:
    """How a block hands its hidden states on: alone, or first in a tuple or list of so many.

    Attributes:
        kind: of the container; None for a tensor alone.
        carries: whether something else in it is a tensor, that later blocks may read.
    """

    kind: type | None
    length: int
    carries: bool

    @classmethod
    def of(cls, output: Any) -> Returned:
        """Describe one output."""
        if isinstance(output, Tensor):
            return cls(None, 1, False)
        return cls(type(output), len(output), any(entry is not None for entry in output[1:]))

    def around(self, hidden: Tensor) -> Any:
        """Return hidden states as the block would hand them on, everything else None.

        >>> import torch
        >>> Returned(tuple, 2, False).around(torch.zeros(1))
        (tensor([0.]), None)
        """
        if self.kind is None:
            return hidden
        entries = [hidden, *[None] * (self.length - 1)]
        return self.kind(*entries) if hasattr(self.kind, "_fields") else self.kind(entries)


@dataclass(frozen=True)
class Blocks:
    """A model's list of blocks.

    Attributes:
        path: below the body.
        returned: what each block returns.
        width: neurons of its hidden states.
    """

    path: str
    returned: tuple[Returned, ...]
    width: int


@dataclass(frozen=True)
class _Call:
    """One call of a list's entry: which one, and the shapes of what went in and came out."""

    path: str
    entry: int
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None
    returned: Returned | None


@once_per_model(body_of)
def found_blocks(body: nn.Module) -> Blocks:
    """Return the body's list of blocks: its entries fire once each, in order, `[batch, position, neuron]` in and out.

    Raises:
        SiteError: it has none, with the reason.
    """
    lists = {path: list(m) for path, m in body.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    with unwatched(body), run_eagerly(body):
        calls = _calls(body, lists)
    count = layer_count(body.config)
    counted = _outermost([path for path, entries in lists.items() if len(entries) == count])
    main = [path for path in counted if any(call.path == path for call in calls)]
    if not main and count is None:
        main = _outermost([path for path in lists if _complaint(path, lists, calls) is None])
    _refuse_parts(body, main, calls)
    if not main:
        raise SiteError(_no_list(body, counted, lists, calls))
    path = max(main, key=lambda path: max(place for place, call in enumerate(calls) if call.path == path))
    complaint = _complaint(path, lists, calls)
    if complaint is not None:
        raise SiteError(f"{_name(body)} cannot be edited: {complaint}")
    own = [call for call in calls if call.path == path]
    width = own[-1].after[-1] if own[-1].after else 0
    return Blocks(path, tuple(call.returned for call in own if call.returned is not None), width)


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """Return the model's own list of transformer blocks.

    Raises:
        SiteError: it has none, with the reason.
    """
    return body_of(model).get_submodule(found_blocks(model).path)  # type: ignore[return-value]


def _calls(body: nn.Module, lists: Mapping[str, Sequence[nn.Module]]) -> list[_Call]:
    calls: list[_Call] = []

    def note(path: str, entry: int, module: nn.Module, arguments: Any, named: Mapping[str, Any], output: Any) -> None:
        before = hidden_among(arguments, named)
        after = tensor_in(output)
        returned = None if after is None else Returned.of(output)
        calls.append(_Call(path, entry, _shape(before), _shape(after), returned))

    handles = [
        module.register_forward_hook(partial(note, path, entry), with_kwargs=True)
        for path, entries in lists.items()
        for entry, module in enumerate(entries)
    ]
    watch_made_up(body, handles)
    return calls


def hidden_among(arguments: Sequence[Any], named: Mapping[str, Any]) -> Tensor | None:
    """Return a block's input among the arguments of its call: the first one, by place or by name."""
    first = next(iter((*arguments, *named.values())), None)
    return first if isinstance(first, Tensor) else None


def tensor_in(output: Any) -> Tensor | None:
    """Return a module's output, or the first entry of one that is a tuple or list, where that is a tensor."""
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _outermost(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not any(path.startswith(f"{other}.") for other in paths)]


def _complaint(path: str, lists: Mapping[str, Sequence[nn.Module]], calls: Sequence[_Call]) -> str | None:
    """Return what keeps a list from being the list of blocks, or None."""
    own = [call for call in calls if call.path == path]
    order = [call.entry for call in own]
    if len(order) > len(set(order)):
        return (
            f"the blocks in '{path}' run {len(order) // len(set(order))} times in one forward: its layers are shared."
        )
    if order != list(range(len(lists[path]))):
        return (
            f"of the {len(lists[path])} blocks in '{path}', {len(order)} fire in one forward, expected each, in order."
        )
    for call in own:
        for shape in (call.before, call.after):
            if shape is None or len(shape) != 3 or shape[:2] != (ROWS, WIDTH):
                return f"the blocks in '{path}' pass on {_described(shape)} expected [batch, position, neuron]."
    if len({call.after for call in own} | {call.before for call in own}) > 1:
        return f"the blocks in '{path}' are not all of one width."
    return None


def _described(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "no hidden states,"
    if shape[:2] == (WIDTH, ROWS):
        return "[position, batch, neuron],"
    if len(shape) != 3:
        return f"several streams per position, {list(shape)} for a batch of {ROWS} texts of {WIDTH} tokens,"
    return f"another number of positions, {shape[1]} for {WIDTH} tokens,"


def _refuse_parts(body: nn.Module, main: Sequence[str], calls: Sequence[_Call]) -> None:
    """Refuse a model whose blocks lie in pieces in several lists that take turns."""
    order = [call.path for call in calls if call.path in main]
    turns = sum(one != other for one, other in itertools.pairwise(order)) + 1
    if len(main) > 1 and turns > len(main):
        raise SiteError(
            f"{_name(body)} cannot be edited: it has no single list of blocks: {', '.join(main[:4])} take turns."
        )


def _no_list(
    body: nn.Module, counted: Sequence[str], lists: Mapping[str, Sequence[nn.Module]], calls: Sequence[_Call]
) -> str:
    complaints = (_complaint(path, lists, calls) for path in lists if any(call.path == path for call in calls))
    why = next(filter(None, complaints), f"none of its lists of modules has {layer_count(body.config)} blocks.")
    if counted:
        why = f"the blocks in '{counted[0]}' are never called as modules."
    return f"{_name(body)} cannot be edited: {why}"


def _name(body: Any) -> str:
    return f"Model type '{body.config.model_type}'"
