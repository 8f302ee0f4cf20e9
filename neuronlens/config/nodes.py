"""What the rankers, ranges, gates and edits of a config are built from, by group and name, and the objects themselves."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronlens.config.fingerprint import plain
from neuronlens.config.groups import option_names
from neuronlens.config.parts import (
    COMPOSED,
    Node,
    build,
    completed,
    imported,
    mapping,
    option_file,
    read_option,
)
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError

PROTOCOLS = {
    "saliency": "neuronlens.saliency.base.Ranker",
    "range": "neuronlens.ranges.base.RangeEstimator",
    "gate": "neuronlens.edits.gates.base.Gate",
    "edit": "neuronlens.edits.base.Edit",
}
"""Group of parts -> the protocol that they meet, imported by name when a part of that group is checked."""
WIDTHS_PROTOCOL = "neuronlens.ranges.base.WidthEstimator"
"""What a range meets whose constructor takes `tau`."""


def option_of(config: Config, group: str, folders: Sequence[Path] = ()) -> str:
    """Return the name of the option that a composed node came from: the stored one, else the first of its `_target_`.

    Args:
        group: one of `COMPOSED`.
    """
    composed: Node = getattr(config, group)
    for name, stored in config.parts.get(group, {}).items():
        if all(key in stored and stored[key] == value for key, value in composed.items()):
            return name
    target = str(composed.get("_target_"))
    for name in option_names(group, folders):
        if read_option(option_file(group, name, folders)).get("_target_") == target:
            return name
    return target.rpartition(".")[0].rpartition(".")[2] or target


def node(config: Config, group: str, name: str) -> Node:
    """Return what an option is built from: `_target_` and every parameter, interpolations resolved, defaults filled in.

    That is the composed node where the name is its own, else the one that the config holds under `parts`, else its YAML's.

    Raises:
        ConfigError: as `option_node` does.
    """
    if group in COMPOSED and name == option_of(config, group):
        return completed(getattr(config, group), group)
    return config.parts.get(group, {}).get(name) or option_node(config, group, name)


def option_node(config: Config, group: str, name: str, folders: Sequence[Path] = (), *, key: str | None = None) -> Node:
    """Return what an option's YAML says it is built from, overlaid by the config's `edit.<name>` or `gate.<name>`.

    Args:
        folders: with options beside ours.
        key: the setting that names the option, for messages.

    Raises:
        ConfigError: no such option, a target that cannot be imported, or a key that it does not take.
    """
    overlay = {} if group in COMPOSED else getattr(config, group).get(name, {})
    stored = config.parts.get(group, {})
    own = {} if "_target_" in overlay else read_option(option_file(group, name, folders, stored=stored, key=key))
    return completed(_resolved(config, group, name, own) | overlay, where(group, name))


def part(config: Config, group: str, name: str) -> Any:
    """Return the object of an option, which meets its group's protocol.

    Raises:
        ConfigError: as `node` does; or a value that the part refuses, or a class that does not meet the protocol.
    """
    found = node(config, group, name)
    built = build(found, where(group, name))
    protocol = WIDTHS_PROTOCOL if group == "range" and "tau" in found else PROTOCOLS[group]
    missing = _missing(built, imported(protocol))
    if missing:
        raise ConfigError(
            f"{where(group, name)}: {found['_target_']} is no {protocol.rpartition('.')[2]}, for it has no "
            f"{', no '.join(missing)}. Next: see {protocol}."
        )
    return built


def where(group: str, name: str) -> str:
    """Return how an option's keys are written: `range` for a composed group, `edit.zero` for the others."""
    return group if group in COMPOSED else f"{group}.{name}"


def _missing(built: Any, protocol: type) -> list[str]:
    """Return the members of a protocol that an object lacks; one that the protocol gives a value may be left out."""
    members: dict[str, Any] = {}
    for kind in reversed(protocol.__mro__):
        if kind.__module__ not in ("builtins", "typing"):
            members |= dict.fromkeys(inspect.get_annotations(kind)) | vars(kind)
    wanted = {name: member for name, member in members.items() if not name.startswith("_")}
    return [
        f"{name}()" if callable(member) else name
        for name, member in wanted.items()
        if (not hasattr(built, name) and (member is None or callable(member)))
        or (callable(member) and not callable(getattr(built, name)))
    ]


def _resolved(config: Config, group: str, name: str, found: Node) -> Node:
    """Return a node with its interpolations (`${intervention.beta}`) resolved by the config's own values."""
    if "${" not in str(found):
        return found
    from omegaconf import OmegaConf  # here, so that a lens is read without it
    from omegaconf.errors import OmegaConfBaseException

    try:
        root = OmegaConf.create(plain(replace(config, parts={group: {name: found}})))
        resolved = OmegaConf.to_container(root.parts[group][name], resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where(group, name)} cannot be resolved: {' '.join(str(error).split())}.") from error
    return mapping(resolved, where(group, name))
