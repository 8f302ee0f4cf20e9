"""Layers as a config names them: numbers from either end, `last`, `all`."""

from __future__ import annotations

from typing import Any

from neuronlens.errors import SiteError, unknown


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
