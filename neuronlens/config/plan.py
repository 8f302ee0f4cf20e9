"""What a run sweeps: the parts it names, and the grid of combinations that mean something."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from neuronlens.config.fingerprint import fingerprint, plain
from neuronlens.config.groups import option_names
from neuronlens.config.knobs import everywhere, grids, names, swept, widths
from neuronlens.config.nodes import PROTOCOLS, node, option_node, option_of, part
from neuronlens.config.parts import COMPOSED, Node, completed, option_file
from neuronlens.config.schema import Config, GridConfig
from neuronlens.errors import ConfigError
from neuronlens.records import Knobs


def filled(
    config: Config, folders: Sequence[Path] = (), chosen: Mapping[str, str] | None = None
) -> tuple[Config, list[tuple[str, str]]]:
    """Return the config with `parts`: what every option is built from that the run names or sets parameters of.

    Args:
        folders: with options beside ours.
        chosen: the names of the composed options, by group; without one the name is found by the node's `_target_`.

    Returns:
        The config, and key and sentence of everything wrong with a part: an unknown name, a wrong parameter, or a class
        that does not meet its group's protocol. Such a part is left out.
    """
    parts: dict[str, dict[str, Node]] = {}
    wrong: list[tuple[str, str]] = []
    for group in PROTOCOLS:
        found = parts[group] = {}
        own = None
        if group in COMPOSED:
            own = (chosen or {}).get(group) or option_of(config, group, folders)
        for name, key in _named(config, group, own).items():
            try:
                if name == own:
                    if own in option_names(group, folders):
                        option_file(group, own, folders)  # refuses two of one name
                    found[name] = completed(getattr(config, group), group)
                else:
                    stored = config.parts.get(group, {}).get(name)
                    found[name] = stored or option_node(config, group, name, folders, key=key)
                part(replace(config, parts={group: found}), group, name)
            except ConfigError as error:
                found.pop(name, None)
                wrong.append((key, str(error)))
    return replace(config, parts=parts), wrong


def _named(config: Config, group: str, own: str | None) -> dict[str, str]:
    """Return the options of a group that a config names anywhere, each with the setting that names it.

    The single value beside a sweep is among them, so that it is checked too.

    Args:
        own: the composed option; None in a group that composes none.
    """
    named = {} if own is None else {own: group}
    if own is None:
        named[getattr(config.intervention, group)] = f"intervention.{group}"
    named |= {name: f"sweep.{group}" for name in everywhere(config, group) if name is not None and name not in named}
    if own is None:
        named |= {name: group for name in getattr(config, group) if name not in named}
    return named | {name: f"parts.{group}.{name}" for name in config.parts.get(group, {}) if name not in named}


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
            "control other_concept, a ranking for random_neurons, or an edit that mixes neurons for random_direction."
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
        if getattr(edit, "needs_gate", False) and all(gate.grain in (None, "value") for gate in gates.values()):
            known = [name for name in _gates_of_vectors(config) if part(config, "gate", name).grain is not None]
            raise ConfigError(
                f"Edit '{name}' is right for the concept's samples alone, and gate {', '.join(gates)} detects none. "
                f"Next: intervention.gate={' or '.join(known)}."
            )
    made_of = cache(lambda *names: _made_of(config, *names))
    combined = []
    for gate, edit, strength, control in itertools.product(
        gates, edits, swept(config, "strength", method), swept(config, "control", method)
    ):
        mixes = edits[edit].mixes_neurons
        if mixes and gates[gate].grain == "value":
            continue
        if getattr(edits[edit], "needs_gate", False) and gates[gate].grain is None:
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
    return [knobs for knobs in combined if _differs(knobs, gates[knobs.gate].grain, edits[knobs.edit].mixes_neurons)]


def _differs(knobs: Knobs, grain: str | None, mixes_neurons: bool) -> bool:
    """Return whether a control changes anything.

    Another concept's gate needs a range or a decision by position, random neurons a selection, and a random direction an
    edit that has one.
    """
    if knobs.control == "other_concept":
        return knobs.range is not None or grain in ("position", "sample")
    if knobs.control == "random_neurons":
        return knobs.saliency is not None
    return knobs.control != "random_direction" or mixes_neurons


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


def headline_selection(config: Config) -> dict[str, Any]:
    """Return the `top_fraction` or `top_count` by which one set of salient neurons stands for a run that sweeps several.

    The configured one where the run sweeps it, chosen before the run; else the swept fraction nearest to it, the smaller of
    two; else the smallest swept count.
    """
    swept_ones = list(dict.fromkeys(found for method in grids(config) for found in _selections(config, method)))
    own = config.intervention
    configured = (None, own.top_count) if own.top_count is not None else (float(own.top_fraction), None)
    fractions = sorted(fraction for fraction, _ in swept_ones if fraction is not None)
    if configured in swept_ones:
        fraction, count = configured
    elif fractions:
        fraction, count = min(fractions, key=lambda one: abs(one - own.top_fraction)), None
    else:
        fraction, count = None, min(count for _, count in swept_ones if count is not None)
    return {"top_count": count} if fraction is None else {"top_fraction": fraction}


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
    settings = [
        (group, key, value) for group in ("edit", "gate") for key, value in nodes[group].items() if key != "_target_"
    ]
    twice = {key for group, key, _ in settings if group == "gate"} & {
        key for group, key, _ in settings if group == "edit"
    }
    texts = [f"{f'{group}.{key}' if key in twice else key}={_written(value)}" for group, key, value in settings]
    return _MadeOf(", ".join(texts) or None, fingerprint(nodes))


def _written(value: Any) -> str:
    """Return a parameter's value as a config writes it.

    >>> _written("ledoit_wolf"), _written(0.125), _written(True), _written(float("inf")), _written([1, 2])
    ('ledoit_wolf', '0.125', 'true', 'inf', '[1, 2]')
    """
    return value if isinstance(value, str) else str(value) if isinstance(value, float) else json.dumps(plain(value))
