"""Starts the model's own forward at a stored state, so that a cell of a sweep never runs what it cannot change.

Block l is replaced by a stub that returns the stored output and the blocks below it by ones that do nothing, so the
model's own code still makes masks, positions, norms and head, and per-layer settings keep their index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from neuronlens.hooks.masks import attention_of
from neuronlens.hooks.resolver import blocks_of
from neuronlens.records import Site


class _PassThrough(nn.Module):
    """A block that hands its input on."""

    def forward(self, hidden: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return hidden


class _StoredState(nn.Module):
    """A block whose output was computed before."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state

    def forward(self, hidden: Tensor, *arguments: Any, **named: Any) -> Tensor:
        return self.state


@contextmanager
def replaced_blocks(model: nn.Module, replacements: Mapping[int, nn.Module]) -> Iterator[nn.Module]:
    """Put other modules in the place of some blocks, and the model's own back at the end, whatever happens."""
    blocks = blocks_of(model)
    own = {index: blocks[index] for index in replacements}
    try:
        for index, module in replacements.items():
            blocks[index] = module
        yield model
    finally:
        for index, module in own.items():
            blocks[index] = module


@contextmanager
def only_up_to(model: nn.Module, layer: int) -> Iterator[nn.Module]:
    """Skip every block above `layer`: for capturing at a lower layer without paying for the rest."""
    above = range(layer + 1, len(blocks_of(model)))
    with replaced_blocks(model, {index: _PassThrough() for index in above}):
        yield model


@contextmanager
def starting_from(model: nn.Module, layer: int, state: Tensor) -> Iterator[nn.Module]:
    """Make the model's forward start with `state` as the output of block `layer`.

    Args:
        layer: -1 starts at the embeddings, and no state is used.
        state: `[row, position, neuron]`, for inputs of `[row, position]`; gradients flow into the blocks above.
    """
    if layer < 0:
        yield model
        return
    below = {index: _PassThrough() for index in range(layer)}
    with replaced_blocks(model, {**below, layer: _StoredState(state)}):
        yield model


def starts_at(site: Site) -> int:
    """Return the layer whose stored output a replay for this site starts from: a site inside block l needs l's input.

    >>> starts_at(Site(3)), starts_at(Site(3, "mlp_out")), starts_at(Site(0, "attn_out"))
    (3, 2, -1)
    """
    return site.layer if site.name == "resid_post" else site.layer - 1


@contextmanager
def replaying(
    model: nn.Module, layer: int, inputs: Mapping[str, Tensor], states: Tensor
) -> Iterator[dict[str, Tensor]]:
    """Make the model's forward start at several cells' states, and hand out the inputs that go with them.

    Args:
        layer: -1 starts at the embeddings; of `states` only the number of cells counts then.
        inputs: the tokenised samples `[sample, position]` the states were computed from.
        states: `[cell, sample, position, neuron]`; the cells run as extra rows of one forward.

    Yields:
        The inputs with the cells' rows one after the other `[cell x sample, position]`.
    """
    rows = {name: tensor.repeat(len(states), *[1] * (tensor.dim() - 1)) for name, tensor in inputs.items()}
    with starting_from(model, layer, states.flatten(0, 1)):
        yield rows


def replay(model: nn.Module, layer: int, inputs: Mapping[str, Tensor], states: Tensor) -> Tensor:
    """Return the logits `[cell, sample, ...]` that the model gives when block `layer`'s output is `states`.

    Args as for `replaying`.
    """
    with replaying(model, layer, inputs, states) as rows:
        return forward(model, rows).unflatten(0, (len(states), -1))


def forward(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the logits of a plain forward; a decoder keeps no cache, and label continuations share their prompt."""
    return model(**arguments(model, inputs)).logits


def run_body(model: nn.Module, inputs: Mapping[str, Tensor], *, deepest: int) -> None:
    """Run the blocks up to `deepest` and nothing above them, head included, for whoever captures there."""
    with only_up_to(model, deepest):
        model.base_model(**arguments(model, inputs))  # type: ignore[operator]


def arguments(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a batch's inputs as the model takes them."""
    taken: dict[str, Any] = {name: tensor for name, tensor in inputs.items() if name != "segment"}
    if "position_ids" in inputs:
        taken |= {"attention_mask": attention_of(model, inputs), "use_cache": False}
    return taken
