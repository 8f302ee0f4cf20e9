"""Starts the model's own forward at a stored state, so that a cell of a sweep never runs what it cannot change.

Calling block l returns the stored output and calling one below it does nothing, so the model's own code still makes
masks, positions, norms and head. The blocks stay where they are, of their own class and with all that the model reads off
them; only their call is replaced, and it returns what the block itself would: a tensor, or a tuple or list as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from neuronlens.hooks.blocks import blocks_of, found_blocks, hidden_among
from neuronlens.hooks.masks import attention_of
from neuronlens.hooks.wrapped import bare, body_of
from neuronlens.records import Site

Call = Callable[..., Any]
"""What stands in for a block: takes the arguments of its call and returns what it would."""


@contextmanager
def replaced_blocks(model: nn.Module, replacements: Mapping[int, Call]) -> Iterator[nn.Module]:
    """Call something else in the place of some blocks, and the model's own again at the end, whatever happens.

    The call itself is replaced, not `forward`: a hook on a block that is not run must not fire. PyTorch keeps that place
    for compiled calls.
    """
    blocks = blocks_of(model)
    own = {index: vars(blocks[index]).get("_compiled_call_impl") for index in replacements}
    try:
        for index, call in replacements.items():
            if not callable(call):
                raise TypeError(f"{call!r} cannot stand in for a block: it is no function.")
            vars(blocks[index])["_compiled_call_impl"] = call
        yield model
    finally:
        for index, before in own.items():
            if before is None:
                vars(blocks[index]).pop("_compiled_call_impl", None)
            else:
                vars(blocks[index])["_compiled_call_impl"] = before


@contextmanager
def only_up_to(model: nn.Module, layer: int) -> Iterator[nn.Module]:
    """Skip every block above `layer`: for capturing at a lower layer without paying for the rest."""
    above = range(layer + 1, len(blocks_of(model)))
    with replaced_blocks(model, {index: _hands_on(model, index) for index in above}):
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
    below = {index: _hands_on(model, index) for index in range(layer)}
    with replaced_blocks(model, {**below, layer: _gives(model, layer, state)}):
        yield model


def _hands_on(model: nn.Module, index: int) -> Call:
    """Return a call in the place of block `index` that hands its input on."""
    returned = found_blocks(model).returned[index]

    def call(*arguments: Any, **named: Any) -> Any:
        hidden = hidden_among(arguments, named)
        assert hidden is not None, "a block's first argument is its hidden states"
        return returned.around(hidden)

    return call


def _gives(model: nn.Module, index: int, state: Tensor) -> Call:
    """Return a call in the place of block `index` that returns a state computed before."""
    output = found_blocks(model).returned[index].around(state)
    return lambda *arguments, **named: output


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
    """Run the blocks up to `deepest` and nothing above them, for whoever captures there.

    The head is spared too, but where it makes the decoder's input of the text: there it runs on nothing worth reading.
    """
    run = bare(model) if _decodes(model) else body_of(model)
    with only_up_to(model, deepest):
        run(**arguments(model, inputs))


def _decodes(model: nn.Module) -> bool:
    config: Any = body_of(model).config
    return bool(getattr(config, "is_encoder_decoder", False))


def arguments(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a batch's inputs as the model takes them."""
    taken: dict[str, Any] = {name: tensor for name, tensor in inputs.items() if name != "segment"}
    if "position_ids" in inputs:
        taken |= {"attention_mask": attention_of(model, inputs), "use_cache": False}
    return taken
