"""Where the sites and layers that a user may write are inside a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from neuronlens.config.layers import resolve_layer
from neuronlens.config.schema import SITES
from neuronlens.errors import SiteError, unknown
from neuronlens.hooks.blocks import blocks_of, found_blocks
from neuronlens.hooks.flow import projected
from neuronlens.hooks.inner_sites import found_inner_sites
from neuronlens.hooks.wrapped import bare
from neuronlens.records import Site


@dataclass(frozen=True)
class Point:
    """A site found in a model: the vector is the module's output, or what goes into it.

    Attributes:
        block: around it.
        flat: whether its tensor is `[row x position, neuron]`.
    """

    module: nn.Module
    block: nn.Module
    is_input: bool = False
    flat: bool = False


def resolve_site(model: nn.Module, site: Site) -> Point:
    """Return where the site's vector is.

    Raises:
        SiteError: no such site name, no such layer (TRAPS 13), or a block that has no such site.
    """
    if site.name not in SITES:
        raise SiteError(unknown("site", site.name, SITES, f"neuronlens doctor layers.site={SITES[0]}"))
    blocks = blocks_of(model)
    layer = resolve_layer(site.layer, len(blocks))
    if site.name == "resid_post":
        return Point(blocks[layer], blocks[layer])
    found = found_inner_sites(model)[layer]
    path = found.attn_out if site.name == "attn_out" else found.mlp_out
    is_input = site.name == "mlp_neurons"
    if path is None or (is_input and not found.projection):
        kind = getattr(bare(model).config, "model_type", type(model).__name__)
        raise SiteError(
            f"Block {layer} of model type '{kind}' has no {site.name}: {found.why_not}. Next: layers.site=resid_post."
        )
    return Point(blocks[layer].get_submodule(path), blocks[layer], is_input, site.name in found.flat)


def width_at(model: nn.Module, site: Site) -> int | None:
    """Return how many neurons the site has in this model, or None where that shows in a forward only.

    Raises:
        SiteError: no such site.
    """
    point = resolve_site(model, site)
    sizes = projected(point.module)
    if sizes is not None:
        return sizes[0] if point.is_input else sizes[1]
    return found_blocks(model).width


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
