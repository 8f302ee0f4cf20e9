"""What a run sweeps: the parts it names, and the grid of combinations that mean something."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from neuronlens.config.fingerprint import fingerprint, plain
from neuronlens.config.knobs import everywhere, grids, names, swept, widths
from neuronlens.config.nodes import PROTOCOLS, node, option_node, option_of, part
from neuronlens.config.parts import COMPOSED, Node, completed, option_file, option_names
from neuronlens.config.schema import Config, GridConfig
from neuronlens.errors import ConfigError
from neuronlens.records import Knobs


def with_parts(config: Config, chosen: Mapping[str, str] | None = None) -> Config:
    """Return the config with `parts` filled: what every option is built from that the run names or sets parameters of.

    Args:
        chosen: the names of the composed options, by group; without one the name is found by the node's `_target_`.
    Raises:
        ConfigError: an unknown name, a wrong parameter, or a class that does not meet its group's protocol.
    """
    parts: dict[str, dict[str, Node]] = {}
    for group in PROTOCOLS:
        found = parts[group] = {}
        named = [name for name in everywhere(config, group) if name is not None]
        if group in COMPOSED:
            own = (chosen or {}).get(group) or option_of(config, group)
            option_file(group, own)  # refuses two of one name
            found[own] = completed(getattr(config, group), group)
        else:
            named += getattr(config, group)
        found |= {name: stored for name, stored in config.parts.get(group, {}).items() if name not in found}
        for name in named:
            if name not in found:
                found[name] = option_node(config, group, name)
    whole = replace(config, parts=parts)
    for group, found in parts.items():
        for name in found:
            part(whole, group, name)
    return whole


def grid(config: Config) -> list[Knobs]:
    """Return every combination of the swept knobs in every grid, each once; knobs that play no part are None.

    What means something follows from what gates and edits declare. A gate that reads no range has none, and no tau. An
    edit that mixes neurons is made of whole vectors: a gate that decides value by value does not apply to it, and it has
    no ranking unless the gate reads one.

    Raises:
        ConfigError: a grid combines an edit that mixes neurons with gates that decide value by value only.
    """
    found = [knobs for method in grids(config) for knobs in _combinations(config, method)]
    if not found:
        raise ConfigError(
            "The sweep holds no cell: every combination of gate, edit and control means nothing. Next: a range gate for "
            "control other_concept, or a ranking for random_neurons."
        )
    return list(dict.fromkeys(found))


def _combinations(config: Config, method: GridConfig) -> list[Knobs]:
    gates = {name: part(config, "gate", name) for name in swept(config, "gate", method)}
    edits = {name: part(config, "edit", name) for name in swept(config, "edit", method)}
    for name, edit in edits.items():
        if edit.mixes_neurons and all(gate.grain == "value" for gate in gates.values()):
            raise ConfigError(
                f"Edit '{name}' mixes neurons, so a gate per neuron ({', '.join(gates)}) means nothing for it. "
                f"Next: intervention.gate={' or '.join(_gates_of_vectors(config))}."
            )
    made_of = cache(lambda *names: _made_of(config, *names))
    combined = []
    for gate, edit, strength, control in itertools.product(
        gates, edits, swept(config, "strength", method), swept(config, "control", method)
    ):
        mixes = edits[edit].mixes_neurons
        if mixes and gates[gate].grain == "value":
            continue
        ranked = not mixes or gates[gate].reads_ranking
        for saliency, selection, (name, tau) in itertools.product(
            names(config, "saliency", method) if ranked else [None],
            _selections(config, method) if ranked else [(None, None)],
            _ranges(config, method) if gates[gate].reads_range else [(None, None)],
        ):
            made = made_of(None if control == "random_neurons" else saliency, name, gate, edit)
            combined.append(
                Knobs(
                    saliency=saliency,
                    top_fraction=selection[0],
                    top_count=selection[1],
                    scope=config.intervention.scope if ranked else None,
                    range=name,
                    tau=tau,
                    gate=gate,
                    edit=edit,
                    strength=float(strength),
                    control=None if control == "none" else control,
                    parameters=made.parameters,
                    made_of=made.fingerprint,
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


def _gates_of_vectors(config: Config) -> list[str]:
    """Return the gates that apply to edits that mix neurons, the one that decides nothing first."""
    known = {name: part(config, "gate", name) for name in {*option_names("gate"), *config.parts.get("gate", {})}}
    return sorted(
        (name for name, gate in known.items() if gate.grain != "value"),
        key=lambda name: (known[name].grain or "", name),
    )


def _selections(config: Config, method: GridConfig) -> list[tuple[float | None, int | None]]:
    own = method is not config.sweep and method.top_fraction is not None
    if config.intervention.top_count is not None and not own:
        return [(None, config.intervention.top_count)]
    return [(float(fraction), None) for fraction in swept(config, "top_fraction", method)]


def _ranges(config: Config, method: GridConfig) -> list[tuple[str | None, float | None]]:
    return [(name, tau) for name in names(config, "range", method) for tau in widths(config, name, method)]


class _MadeOf(NamedTuple):
    """What a cell's parts are made of: the parameters of its gate and edit as text, and a fingerprint of everything."""

    parameters: str | None
    fingerprint: str


def _made_of(config: Config, saliency: str | None, range_: str | None, gate: str, edit: str) -> _MadeOf:
    named = {"saliency": saliency, "range": range_, "gate": gate, "edit": edit}
    nodes = {group: node(config, group, name) for group, name in named.items() if name is not None}
    if range_ is not None:
        nodes["range"] = {key: value for key, value in nodes["range"].items() if key != "tau"}  # a knob of its own
    told = [
        (group, key, value) for group in ("edit", "gate") for key, value in nodes[group].items() if key != "_target_"
    ]
    twice = {key for group, key, _ in told if group == "gate"} & {key for group, key, _ in told if group == "edit"}
    texts = [f"{f'{group}.{key}' if key in twice else key}={_written(value)}" for group, key, value in told]
    return _MadeOf(", ".join(texts) or None, fingerprint(nodes))


def _written(value: Any) -> str:
    """Return a parameter's value as a config writes it.

    >>> _written("ledoit_wolf"), _written(0.125), _written(True), _written(float("inf")), _written([1, 2])
    ('ledoit_wolf', '0.125', 'true', 'inf', '[1, 2]')
    """
    return value if isinstance(value, str) else str(value) if isinstance(value, float) else json.dumps(plain(value))
