"""The shape and the weights of the model that a lens was fitted on, and other models held against them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from neuronlens.errors import ModelError
from neuronlens.hooks.resolver import blocks_of, width_at
from neuronlens.hooks.wrapped import bare
from neuronlens.models.identity import Sample, difference, precision_of, weight_sample
from neuronlens.records import Site


def check_shape(model: nn.Module, *, model_type: str, layer_count: int, widths: Mapping[Site, int]) -> None:
    """Refuse a model of another family, depth or width than the one that a lens was fitted on.

    Args:
        model: any module.
        model_type: the family that is expected, as transformers calls it.
        layer_count: how many blocks are expected.
        widths: how many neurons are expected at the sites that are edited.

    Raises:
        ModelError: it has another shape, with both in words.
    """
    kind = str(getattr(getattr(bare(model), "config", None), "model_type", type(model).__name__))
    layers = len(blocks_of(model)) if kind == model_type else None
    found = {site: width_at(model, site) or width for site, width in widths.items()} if layers == layer_count else {}
    if found != widths:
        raise ModelError(
            f"The lens was fitted on a {shape_text(model_type, layer_count, widths)}; this model is a "
            f"{shape_text(kind, layers, found)}. Next: lens.load_model()."
        )


def check_weights(model: nn.Module, expected: Sample, *, deepest: int) -> None:
    """Refuse a model whose weights are not those that a lens was fitted on, up to the rounding of its dtype.

    Args:
        model: of the shape that is expected.
        expected: of the lens's model.
        deepest: the last block that was fitted at; what lies above it is not compared.

    Raises:
        ModelError: it has other weights, with the first one that differs.
    """
    differs = difference(expected, weight_sample(model, deepest), precision_of(model))
    if differs is not None:
        raise ModelError(
            f"The lens was fitted on another model with the shape of this one: {differs}. Its ranges are of that model's "
            "activations. Next: lens.load_model(), or other_model=True to edit this one all the same."
        )


def check_widths(model: nn.Module, widths: Mapping[Site, int]) -> None:
    """Refuse a model without the sites, or with another number of neurons there: an edit would not fit.

    Raises:
        SiteError: no such site.
        ModelError: another number of neurons.
    """
    for site, width in widths.items():
        found = width_at(model, site)
        if found is not None and found != width:
            raise ModelError(f"The lens has {width} neurons at {site}, and this model has {found} there.")


def shape_text(model_type: str, layers: int | None, widths: Mapping[Site, int]) -> str:
    """Return a model's shape in words, as far as it is known.

    >>> shape_text("bert", 3, {Site(2): 16}), shape_text("llama", None, {})
    ('bert of 3 layers with 16 neurons at resid_post.2', 'llama')
    >>> shape_text("bert", 1, {Site(0): 16, Site(0, "mlp_out"): 16, Site(0, "mlp_neurons"): 64})
    'bert of 1 layer with 16 neurons at resid_post.0 and mlp_out.0, 64 at mlp_neurons.0'
    """
    text = model_type
    if layers is not None:
        text += f" of {layers} layer{'s' * (layers != 1)}"
    sites: dict[int, list[str]] = {}
    for site, width in widths.items():
        sites.setdefault(width, []).append(str(site))
    groups = [f"{width} at {_listed(names)}" for width, names in sites.items()]
    return f"{text} with {', '.join(groups).replace(' at ', ' neurons at ', 1)}" if groups else text


def _listed(names: list[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
