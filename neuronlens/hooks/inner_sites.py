"""Finds the sites inside a block: by transformers' own declaration first, then by what a change of each projection does.

A change of the block's input at one position shows where positions mix. The first projection whose input they have mixed
in, and whose own output no longer spreads, is the attention's (or the mixer's): `attn_out`. The last one that does not
move it is the MLP's: `mlp_out`, and what goes into it `mlp_neurons`. Fused experts are no projections: there the module
around them is `mlp_out`, and their neurons cannot be edited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import nn

from neuronlens.hooks.blocks import blocks_of, found_blocks
from neuronlens.hooks.flow import Probed
from neuronlens.hooks.probe import once_per_model, unwatched, watch_made_up
from neuronlens.hooks.wrapped import body_of, run_eagerly

NO_MIXING = "it mixes no positions"
OVERRIDES: Mapping[str, Mapping[str, str]] = {
    "falcon_h1": {"attn_out": "self_attn.o_proj"},  # beside a Mamba mixer
    "mobilebert": {"mlp_out": "output.dense"},  # a bottleneck's projection comes after the MLP's
    "xmod": {"mlp_out": "output.dense"},  # a language's adapter comes after the MLP
}
"""What `model_type`s have their sites elsewhere than their effect shows, as paths below a block."""


@dataclass(frozen=True)
class InnerSites:
    """Where the sites of one block are, as paths below it; None for one that it does not have.

    Attributes:
        attn_out, mlp_out: modules whose output is the site.
        projection: whether `mlp_out` is a projection, so that what goes into it is `mlp_neurons`.
        why_not: what a site that is missing is missing for.
        flat: sites whose tensors have no dimension of positions, `[row x position, neuron]`.
    """

    attn_out: str | None
    mlp_out: str | None
    projection: bool
    why_not: str = ""
    flat: tuple[str, ...] = ()


@once_per_model(body_of)
def found_inner_sites(body: nn.Module) -> tuple[InnerSites, ...]:
    """Return the inner sites of every block; blocks of the same modules are looked at once.

    Raises:
        SiteError: the body has no list of blocks.
    """
    blocks, declared = blocks_of(body), _declared(body)
    config: Any = body.config
    known: dict[Any, InnerSites] = {}
    found = []
    with unwatched(body), run_eagerly(body, *blocks):
        calls = _block_calls(body, blocks)
        for block, (arguments, named) in zip(blocks, calls, strict=True):
            kind = tuple((name, type(module)) for name, module in block.named_modules())
            if kind not in known:
                probed = Probed(block, arguments, named, int(config.get_text_config().hidden_size))
                sites = _sites(probed, declared)
                elsewhere = OVERRIDES.get(config.model_type, {})
                sites = replace(
                    sites,
                    attn_out=elsewhere.get("attn_out", sites.attn_out),
                    mlp_out=elsewhere.get("mlp_out", sites.mlp_out),
                )
                known[kind] = replace(sites, flat=_flat(probed, sites))
            found.append(known[kind])
    return tuple(found)


def _declared(body: nn.Module) -> list[str]:
    """Return the paths below a block of what transformers declares to end a sharded computation, in any of its blocks."""
    config: Any = body.config
    prefix = f"{found_blocks(body).path.rpartition('.')[2]}.*."
    plans = [dict(getattr(one, "base_model_tp_plan", None) or {}) for one in (config.get_text_config(), config)]
    rows = [name for plan in plans for name, how in plan.items() if how == "rowwise"]
    return [name.partition(prefix)[2] for name in rows if prefix in name]


def _block_calls(body: nn.Module, blocks: Iterable[nn.Module]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls.append((arguments, named))

    handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in blocks]
    watch_made_up(body, handles)
    return calls


def _sites(block: Probed, declared: Sequence[str]) -> InnerSites:
    """Return where a block's sites are by declaration and effect."""
    usual = [name for name in block.plain.after if name in block.projections]
    ends = [name for name in usual if name in declared]
    attention, why = _attention(block, usual)
    if attention is None and why != NO_MIXING:
        return InnerSites(None, None, False, why)
    experts = {name.partition(".")[0] for name in block.experts} - {(attention or "").partition(".")[0]}
    follows = partial(block.follows, attention)
    last = next(filter(follows, reversed(usual)), None)
    if experts:
        around = [name for name in block.plain.after if name in experts and block.reaches(name)]
        if len(around) != 1 or (last is not None and last.partition(".")[0] not in experts):
            return InnerSites(attention, None, False, why or "its MLP is a sum of several modules' outputs")
        return InnerSites(attention, around[0], False, why or "its experts are fused in one tensor")
    last = next(filter(follows, reversed(ends)), last)
    return InnerSites(attention, last, last is not None, why or ("" if last else "it has no MLP"))


def _attention(block: Probed, usual: Sequence[str]) -> tuple[str | None, str]:
    """Return the module whose output is `attn_out`, or None and why."""
    order = list(block.plain.after)
    gathering = [name for name in usual if block.gathers(name)]
    mixing = [name for name in order if name in block.children and block.mixes_within(name)]
    before = [name for name in mixing if not gathering or order.index(name) < order.index(gathering[0])]
    if before:  # no projection ends what this module does; in some, each of several experts has one
        held = any(expert.startswith(f"{before[0]}.") for expert in block.experts)
        return (before[0], "") if held else (None, "no projection ends its mixing of positions")
    wide = [name for name in gathering if block.plain.after[name].shape[-1] in block.widths]
    for name in wide or gathering:
        if block.reaches(name):
            return name, ""
        if wide:
            return None, "it mixes positions more than once"
    return None, NO_MIXING


def _flat(block: Probed, sites: InnerSites) -> tuple[str, ...]:
    """Return which of the sites' tensors have their positions flattened."""
    after, before = block.plain.after, block.plain.before
    tensors = {"attn_out": after.get(sites.attn_out or ""), "mlp_out": after.get(sites.mlp_out or "")}
    tensors["mlp_neurons"] = before.get(sites.mlp_out or "") if sites.projection else None
    return tuple(name for name, tensor in tensors.items() if tensor is not None and tensor.dim() == 2)
