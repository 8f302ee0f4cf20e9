"""The grid of a sweep: which knobs are combined, and which combinations make no sense."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from neuronlens.config.parts import nodes, option_of, widths
from neuronlens.config.schema import PROJECTIONS, Config, GridConfig, grids, swept
from neuronlens.errors import ConfigError
from neuronlens.records import Knobs


def grid(config: Config) -> list[Knobs]:
    """Return every combination of the swept knobs in every grid, each once; knobs that play no part are None.

    The gates `neuron` and `joint` have no range and no tau; an edit that mixes neurons has no ranking unless the joint
    gate reads one, and is combined with these two gates alone.

    Raises:
        ConfigError: a grid combines an edit that mixes neurons with gates that are per neuron only.
    """
    found: list[Knobs] = []
    for method in grids(config):
        found += _combinations(config, method)
    if not found:
        raise ConfigError(
            "The sweep holds no cell: every combination of gate, edit and control means nothing. Next: a range gate for "
            "control other_concept, or a ranking for random_neurons."
        )
    return list(dict.fromkeys(found))


def _combinations(config: Config, method: GridConfig) -> list[Knobs]:
    gates, edits = swept(config, "gate", method), swept(config, "edit", method)
    for edit in edits:
        if edit in PROJECTIONS and not {"neuron", "joint"} & set(gates):
            raise ConfigError(
                f"Edit '{edit}' mixes neurons, so a gate per neuron ({', '.join(gates)}) means nothing for it. "
                "Next: intervention.gate=neuron or joint."
            )
    combined = []
    ranges = nodes(config, "range")
    for gate, edit, strength, control in itertools.product(
        gates, edits, swept(config, "strength", method), swept(config, "control", method)
    ):
        if edit in PROJECTIONS and gate not in ("neuron", "joint"):
            continue
        ranked = not (edit in PROJECTIONS and gate == "neuron")
        for saliency, selection, (name, tau) in itertools.product(
            _names(config, method, "saliency") if ranked else [None],
            _selections(config, method) if ranked else [(None, None)],
            _widths(config, method, ranges) if gate in ("range", "outside") else [(None, None)],
        ):
            combined.append(
                Knobs(
                    saliency=saliency,
                    top_fraction=selection[0],
                    top_count=selection[1],
                    range=name,
                    tau=tau,
                    gate=gate,
                    edit=edit,
                    strength=float(strength),
                    control=None if control == "none" else control,
                )
            )
    return [knobs for knobs in combined if _differs(knobs)]


def _differs(knobs: Knobs) -> bool:
    """Return whether a control changes anything: another concept's ranges need ranges, random neurons a selection."""
    if knobs.control == "other_concept":
        return knobs.range is not None
    if knobs.control == "random_neurons":
        return knobs.saliency is not None
    return True


def _names(config: Config, method: GridConfig, group: str) -> list[str]:
    return list(dict.fromkeys(name or option_of(config, group) for name in swept(config, group, method)))


def _selections(config: Config, method: GridConfig) -> list[tuple[float | None, int | None]]:
    own = method is not config.sweep and method.top_fraction is not None
    if config.intervention.top_count is not None and not own:
        return [(None, config.intervention.top_count)]
    return [(float(fraction), None) for fraction in swept(config, "top_fraction", method)]


def _widths(
    config: Config, method: GridConfig, ranges: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str | None, float | None]]:
    return [(name, tau) for name in _names(config, method, "range") for tau in widths(config, ranges[name], method)]
