"""Which of the fitted sites a call of the lens asks for."""

from __future__ import annotations

from collections.abc import Sequence

from neuronlens.config.layers import resolve_layer
from neuronlens.errors import ConfigError, SiteError, unknown
from neuronlens.records import Site


def asked_sites(
    fitted: tuple[Site, ...],
    layer: int | Sequence[int] | None,
    site: Site | str | None,
    *,
    mode: str,
    layer_count: int,
) -> tuple[Site, ...]:
    """Return the sites to edit, in the order of the model.

    Args:
        fitted: where the run fitted, in the order of the model.
        layer: which layers, negatives from the end; None for all that the run edited at once.
        site: one site instead, as a `Site` or in its written form `resid_post.5`.
        mode: the run's `layers.mode`.
        layer_count: how many blocks the model has.

    Raises:
        ConfigError: both are given, or neither where the run edited its layers one by one.
        SiteError: a site that was not fitted.
    """
    if layer is not None and site is not None:
        raise ConfigError("Give one of layer and site.")
    if layer is None and site is None:
        if len(fitted) > 1 and mode != "together":
            how = "each on its own" if mode == "each" else "one under the other's edits, which a folder does not hold"
            raise ConfigError(
                f"The run fitted {', '.join(map(str, fitted))} {how}. Next: layer={fitted[-1].layer}, "
                "or layer=[...] for several at once."
            )
        return fitted
    if layer is not None:
        numbers = layer if isinstance(layer, Sequence) else [layer]
        asked = [str(fitted[0]._replace(layer=resolve_layer(number, layer_count))) for number in numbers]
    else:
        asked = [str(site)]
    known = {str(place): place for place in fitted}
    for name in asked:
        if name not in known:
            raise SiteError(unknown("site", name, known, "a run that fits it: neuronlens run layers.select=<layer>."))
    return tuple(place for name, place in known.items() if name in asked)
