"""Where things are inside a model: one row per architecture family, and the names and layers a user may write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from neuronlens.config.schema import SITES
from neuronlens.errors import SiteError, unknown
from neuronlens.records import Site


@dataclass(frozen=True)
class Family:
    """One architecture family's table.

    Attributes:
        blocks: path of the block list below the base model.
        reads: position its classification head reads, `cls` (position 0) or `last`.
        position_ids: whether batches carry positions counted from the mask.
        attn_out, mlp_out: path, below a block, of the projection whose output is the site; the input of `mlp_out`'s is
            `mlp_neurons`, which means the same for gated and plain MLPs.
        layers_key: the config entry that counts blocks.
        masks_by_layer_type: whether a ready attention mask is given per layer type, full and sliding.
    """

    blocks: str
    reads: str
    position_ids: bool
    attn_out: str
    mlp_out: str
    layers_key: str = "num_hidden_layers"
    masks_by_layer_type: bool = False


_ENCODER = Family("encoder.layer", "cls", False, attn_out="attention.output.dense", mlp_out="output.dense")
_DECODER = Family("layers", "last", True, attn_out="self_attn.o_proj", mlp_out="mlp.down_proj")
_MIXED_WINDOWS = replace(_DECODER, masks_by_layer_type=True)

FAMILIES: Mapping[str, Family] = {
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "distilbert": Family("transformer.layer", "cls", False, "attention.out_lin", "ffn.lin2", layers_key="n_layers"),
    "gpt2": Family("h", "last", True, attn_out="attn.c_proj", mlp_out="mlp.c_proj", layers_key="n_layer"),
    "gpt_neox": Family("layers", "last", True, attn_out="attention.dense", mlp_out="mlp.dense_4h_to_h"),
    "llama": _DECODER,
    "mistral": _DECODER,
    "qwen2": _MIXED_WINDOWS,
    "qwen3": _MIXED_WINDOWS,
    "gemma": _DECODER,
    "gemma2": _MIXED_WINDOWS,
    "gemma3_text": _MIXED_WINDOWS,
}


@dataclass(frozen=True)
class Point:
    """A site found in a model: the vector is the module's output, or what goes into it."""

    module: nn.Module
    is_input: bool = False


def family_of(model_type: str) -> Family:
    """Return the table for a transformers `model_type`.

    Raises:
        SiteError: the family is not supported.
    """
    if model_type not in FAMILIES:
        raise SiteError(unknown("model family", model_type, FAMILIES, "choose a model of a family listed here."))
    return FAMILIES[model_type]


def body_of(model: nn.Module) -> nn.Module:
    """Return the model without its head, which every forward of the model runs with the masks it was given."""
    body = getattr(model, "base_model", model)
    assert isinstance(body, nn.Module), "base_model is a module"
    return body


def blocks_of(model: nn.Module) -> nn.ModuleList:
    """Return the model's own list of transformer blocks."""
    family = family_of(_model_type(model))
    return body_of(model).get_submodule(family.blocks)  # type: ignore[return-value]


def _model_type(model: Any) -> str:
    return str(model.config.model_type)


def resolve_site(model: nn.Module, site: Site) -> Point:
    """Return where the site's vector is.

    Raises:
        SiteError: no such site name, or no such layer (TRAPS 13).
    """
    if site.name not in SITES:
        raise SiteError(unknown("site", site.name, SITES, f"neuronlens doctor layers.site={SITES[0]}"))
    blocks = blocks_of(model)
    block = blocks[resolve_layer(site.layer, len(blocks))]
    family = family_of(_model_type(model))
    if site.name == "resid_post":
        return Point(block)
    path = family.attn_out if site.name == "attn_out" else family.mlp_out
    return Point(block.get_submodule(path), is_input=site.name == "mlp_neurons")


def width_at(model: nn.Module, site: Site) -> int | None:
    """Return how many neurons the site has in this model, or None where that shows in a forward only.

    Raises:
        SiteError: no such site.
    """
    point = resolve_site(model, site)
    if not point.is_input:
        return int(model.config.hidden_size)  # type: ignore[union-attr, arg-type]
    found = getattr(point.module, "in_features", getattr(point.module, "nx", None))  # nx: GPT-2's Conv1D
    return None if found is None else int(found)


def recorded_position(model: nn.Module, site: Site, position: str, *, reads: str) -> str:
    """Return what `read_positions` takes at a site: `position`, with `live_mean` resolved.

    `live_mean` is the mean over those attended tokens that anything above the site can still read: all of them below the
    last block; in the last one, above which no position is mixed with another, the one that the head reads.

    Args:
        reads: the position the head reads, `cls` or `last`.
    """
    if position != "live_mean":
        return position
    count = len(blocks_of(model))
    return reads if resolve_layer(site.layer, count) == count - 1 else "mean"


def resolve_layer(layer: int, count: int) -> int:
    """Return a layer number counted from 0; negatives count from the end.

    >>> resolve_layer(-1, 6)
    5
    """
    if isinstance(layer, bool) or not isinstance(layer, int):
        raise SiteError(f"Layer {layer!r} is not a number. Expected 0 to {count - 1}, a negative, 'last' or 'all'.")
    if not -count <= layer < count:
        raise SiteError(
            f"Layer {layer} is past the end: the model has {count} layers, 0 to {count - 1} (or -1 to -{count})."
        )
    return layer % count


def resolve_layers(select: Any, count: int) -> tuple[int, ...]:
    """Return layer numbers, ascending and once each, for a number, `last`, `all` or a list of these.

    Raises:
        SiteError: a layer past the end, or a word that is neither.

    >>> resolve_layers(["last", 0, -6], 6)
    (0, 5)
    """
    if isinstance(select, str):
        if select == "all":
            return tuple(range(count))
        if select == "last":
            return (count - 1,)
        raise SiteError(unknown("layer", select, ["last", "all"], f"or a number from 0 to {count - 1}."))
    if isinstance(select, (list, tuple)):
        if not select:
            raise SiteError("No layer is chosen: the list is empty. Next: layers=last.")
        return tuple(sorted({layer for entry in select for layer in resolve_layers(entry, count)}))
    return (resolve_layer(select, count),)
