"""The values that every knob takes in a run: the sweep's lists, else the single value of the knob's own group."""

from __future__ import annotations

from typing import Any

from neuronlens.config.layers import resolve_layers
from neuronlens.config.nodes import node, option_of, part
from neuronlens.config.parts import COMPOSED
from neuronlens.config.schema import Config, GridConfig
from neuronlens.errors import ConfigError


def swept(config: Config, knob: str, grid: GridConfig | None = None) -> list[Any]:
    """Return the values a knob takes: the grid's list, else the sweep's, else the one value of the knob's own group.

    `saliency` and `range` are option names here; None stands for the composed group itself.
    """
    for owner in (grid, config.sweep):
        values = getattr(owner, knob, None)
        if values is not None:
            return list(dict.fromkeys(values))
    if knob == "layers":
        return [config.layers.select]
    if knob in COMPOSED:
        return [None]
    if knob == "tau":
        return [config.headline_tau]
    return [getattr(config.intervention, knob)]


def layers_of(config: Config, count: int, width: int | None = None) -> tuple[int, ...]:
    """Return the layers that a run reads in a model of `count` blocks and `width` neurons between them, ascending.

    Raises:
        SiteError: a layer past the end, or a word that is neither `last` nor `all`.
        ConfigError: more neurons are asked for than there are.
    """
    top = config.intervention.top_count
    if top is not None and width is not None and config.layers.site != "mlp_neurons" and top > width:
        raise ConfigError(f"intervention.top_count is {top}, expected 0 to {width}, the number of neurons.")
    chosen = swept(config, "layers")
    return resolve_layers(chosen if config.sweep.layers is not None else chosen[0], count)


def grids(config: Config) -> list[GridConfig]:
    """Return the grids a sweep runs through: its methods, or itself where it lists none."""
    return list(config.sweep.methods) or [config.sweep]


def everywhere(config: Config, knob: str) -> list[Any]:
    """Return every value that a knob takes in any grid, each once."""
    return list(dict.fromkeys(value for grid in grids(config) for value in swept(config, knob, grid)))


def names(config: Config, group: str, grid: GridConfig | None = None) -> list[str]:
    """Return the options of a group of parts that a grid names, or all grids, each once."""
    values = everywhere(config, group) if grid is None else swept(config, group, grid)
    return list(dict.fromkeys(option_of(config, group) if name is None else name for name in values))


def widths(config: Config, name: str, grid: GridConfig | None = None) -> list[float | None]:
    """Return the taus at which a range is wanted, each once: the lists', else its own; [None] for a range without one.

    Args:
        name: of the range's option.
        grid: the one whose list counts; None for all of the run's.
    """
    found = node(config, "range", name)
    if "tau" not in found:
        return [None]
    taus: list[float | None] = []
    for one in grids(config) if grid is None else [grid]:
        listed = one.tau is not None or config.sweep.tau is not None
        taus += [float(tau) for tau in swept(config, "tau", one)] if listed else [float(found["tau"])]
    return list(dict.fromkeys(taus))


def fits_on_tokens(config: Config) -> bool:
    """Return whether everything is fitted on tokens instead of record vectors: where several tokens are edited, if auto."""
    own = config.intervention
    return own.fit_positions == "tokens" or (own.fit_positions == "auto" and own.edit_positions != "record")


def reads_covariance(config: Config) -> bool:
    """Return whether an edit or a gate of the run inverts a covariance."""
    parts = (part(config, group, name) for group in ("gate", "edit") for name in everywhere(config, group))
    return any(getattr(own, "reads_covariance", False) for own in parts)


def needs_select(config: Config) -> bool:
    """Return whether anything is chosen on the select split: an operating point, a gate's threshold or a shrinkage."""
    parts = (part(config, group, name) for group in ("gate", "edit") for name in everywhere(config, group))
    return config.evaluation.select != "none" or any(getattr(own, "needs_select", False) for own in parts)


def gates_per_sample(config: Config) -> list[str]:
    """Return the gates of a run that decide for whole samples: they read every token of a text."""
    return [name for name in everywhere(config, "gate") if part(config, "gate", name).grain == "sample"]


def needs_gradients(config: Config) -> bool:
    """Return whether any ranker of a run reads the model's gradients."""
    return any(getattr(part(config, "saliency", name), "needs_gradients", False) for name in names(config, "saliency"))
