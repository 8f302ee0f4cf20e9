"""Parts that a config names by `_target_`: where their YAML options lie, what each takes, and the object itself.

A part is a ranker, a range, a gate or an edit. Its options are YAML files in folders: ours, and those that Hydra's search
path adds (`--config-dir`). Its parameters are its constructor's arguments.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.arguments import factory_of, parameters, wrong_arguments
from neuronlens.config.groups import config_dir, option_names
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError, unknown

PROTOCOLS = {
    "saliency": "neuronlens.saliency.base.Ranker",
    "range": "neuronlens.ranges.base.RangeEstimator",
    "gate": "neuronlens.edits.gates.base.Gate",
    "edit": "neuronlens.edits.base.Edit",
}
"""Group of parts -> the protocol that they meet, imported by name when a part of that group is checked."""
WIDTHS_PROTOCOL = "neuronlens.ranges.base.WidthEstimator"
"""What a range meets whose constructor takes `tau`."""
COMPOSED = ("saliency", "range")
"""Groups of which Hydra composes one option into the config; of the others a config holds names alone."""

Node = dict[str, Any]


def option_file(group: str, name: str, folders: Sequence[Path] = ()) -> Path:
    """Return the YAML file of an option.

    Args:
        folders: searched beside ours.
    Raises:
        ConfigError: there is none, with the nearest name; or two folders have one, of which Hydra would take ours.
    """
    places = dict.fromkeys((folder / group / f"{name}.yaml").resolve() for folder in (config_dir(), *folders))
    found = [path for path in places if path.is_file()]
    if len(found) > 1:
        raise ConfigError(f"{group} '{name}' is both {found[0]} and {found[1]}. Next: give yours another name.")
    if not found:
        kind = f"{group} option" if group in COMPOSED else group
        own = f"an option of your own is {group}/{name}.yaml in a folder that --config-dir names."
        raise ConfigError(unknown(kind, name, option_names(group, folders), own))
    return found[0]


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
        if _read(option_file(group, name, folders)).get("_target_") == target:
            return name
    return target.rpartition(".")[0].rpartition(".")[2] or target


def node(config: Config, group: str, name: str, folders: Sequence[Path] = ()) -> Node:
    """Return what an option is built from: `_target_` and every parameter, interpolations resolved, defaults filled in.

    That is the composed node where the name is its own, else the one that the config holds under `parts`, else the
    option's YAML, overlaid by what the config says under `edit.<name>` or `gate.<name>`.

    Raises:
        ConfigError: no such option, a target that cannot be imported, or a key that it does not take.
    """
    if group in COMPOSED and name == option_of(config, group, folders):
        return completed(getattr(config, group), group)
    stored = config.parts.get(group, {}).get(name)
    if stored is not None:
        return stored
    overlay = {} if group in COMPOSED else getattr(config, group).get(name, {})
    own = {} if "_target_" in overlay else _read(option_file(group, name, folders))
    return completed(_resolved(config, group, name, own | overlay), where(group, name))


def part(config: Config, group: str, name: str) -> Any:
    """Return the object of an option, which meets its group's protocol.

    Raises:
        ConfigError: as `node` does; or a value that the part refuses, or a class that does not meet the protocol.
    """
    found = node(config, group, name)
    built = build(found, where(group, name))
    protocol = WIDTHS_PROTOCOL if group == "range" and "tau" in found else PROTOCOLS[group]
    missing = _missing(built, _imported(protocol))
    if missing:
        raise ConfigError(
            f"{where(group, name)}: {found['_target_']} is no {protocol.rpartition('.')[2]}, for it has no "
            f"{', no '.join(missing)}. Next: see {protocol}."
        )
    return built


def where(group: str, name: str) -> str:
    """Return how an option's keys are written: `range` for a composed group, `edit.zero` for the others."""
    return group if group in COMPOSED else f"{group}.{name}"


def completed(found: Mapping[str, Any], where: str) -> Node:
    """Return a node with every parameter that its target takes: those left out have the constructor's defaults.

    Raises:
        ConfigError: no such target.
    """
    taken = parameters(factory_of(found, where))
    defaults = {name: one.default for name, one in taken.items() if one.default is not inspect.Parameter.empty}
    return {"_target_": found["_target_"], **defaults, **found}


def build(found: Mapping[str, Any], where: str = "config", **more: Any) -> Any:
    """Return the object that `found['_target_']` names, made from the node's other keys.

    Args:
        found: `_target_` and keyword arguments; not modified.
        where: how the node is written, for messages.
        more: keyword arguments that replace the node's.
    Raises:
        ConfigError: no such target, or a key or value that its constructor does not take; all of them, a line each.
    """
    factory = factory_of(found, where)
    arguments = {key: value for key, value in completed({**found, **more}, where).items() if key != "_target_"}
    wrong = [sentence for _, sentence in wrong_arguments(arguments, factory, where)]
    if wrong:
        raise ConfigError("\n".join(wrong))
    try:
        return factory(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def _imported(target: str) -> Any:
    module, _, attribute = target.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _missing(built: Any, protocol: type) -> list[str]:
    """Return the members of a protocol that an object lacks."""
    members: dict[str, Any] = {}
    for kind in reversed(protocol.__mro__):
        if kind.__module__ not in ("builtins", "typing"):
            members |= dict.fromkeys(inspect.get_annotations(kind)) | vars(kind)
    wanted = {name: member for name, member in members.items() if not name.startswith("_")}
    return [
        f"{name}()" if callable(member) else name
        for name, member in wanted.items()
        if not hasattr(built, name) or (callable(member) and not callable(getattr(built, name)))
    ]


def _read(path: Path) -> Node:
    return _mapping(OmegaConf.to_container(OmegaConf.load(path)), str(path))


def _mapping(loaded: Any, what: str) -> Node:
    if not isinstance(loaded, dict):
        raise ConfigError(f"{what} holds no mapping. Expected _target_ and the parameters of a part.")
    return {str(key): value for key, value in loaded.items()}


def _resolved(config: Config, group: str, name: str, found: Node) -> Node:
    """Return a node with its interpolations (`${intervention.beta}`) resolved by the config's own values."""
    if "${" not in str(found):
        return found
    try:
        root = OmegaConf.structured(replace(config, parts={group: {name: found}}))
        resolved = OmegaConf.to_container(root.parts[group][name], resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where(group, name)} cannot be resolved: {' '.join(str(error).split())}.") from error
    return _mapping(resolved, where(group, name))
