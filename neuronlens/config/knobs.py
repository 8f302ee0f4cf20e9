"""The values that every knob takes in a run: the sweep's lists, else the single value of the knob's own group."""

from __future__ import annotations

from typing import Any

from neuronlens.config.nodes import node, option_of, part
from neuronlens.config.parts import COMPOSED
from neuronlens.config.schema import Config, GridConfig


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


def needs_select(config: Config) -> bool:
    """Return whether anything is chosen on the select split: an operating point, or a gate's threshold."""
    gates = (part(config, "gate", name) for name in everywhere(config, "gate"))
    return config.evaluation.select != "none" or any(gate.needs_select for gate in gates)


def gates_per_sample(config: Config) -> list[str]:
    """Return the gates of a run that decide for whole samples: they read every token of a text."""
    return [name for name in everywhere(config, "gate") if part(config, "gate", name).grain == "sample"]


def needs_gradients(config: Config) -> bool:
    """Return whether any ranker of a run reads the model's gradients."""
    return any(getattr(part(config, "saliency", name), "needs_gradients", False) for name in names(config, "saliency"))
