"""Parts that a config names by `_target_`: where their YAML options lie, what each takes, and the object itself.

Options are YAML files in folders: ours, and those that Hydra's search path adds (`--config-dir`). A part's parameters are
its constructor's arguments.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuronlens.config.arguments import factory_of, parameters, wrong_arguments
from neuronlens.config.groups import COMPOSED, config_dir, option_names
from neuronlens.errors import ConfigError, unknown

Node = dict[str, Any]


def option_file(
    group: str, name: str, folders: Sequence[Path] = (), *, stored: Iterable[str] = (), key: str | None = None
) -> Path:
    """Return the YAML file of an option.

    Args:
        folders: searched beside ours.
        stored: options that have no file and are named as available too.
        key: the setting that names it, for the message; None for the group alone.

    Raises:
        ConfigError: there is none, with the nearest name; or two folders have one, of which Hydra would take ours.
    """
    places = dict.fromkeys((folder / group / f"{name}.yaml").resolve() for folder in (config_dir(), *folders))
    found = [path for path in places if path.is_file()]
    if len(found) > 1:
        raise ConfigError(f"{group} '{name}' is both {found[0]} and {found[1]}. Next: give yours another name.")
    if not found:
        kind = key or (f"{group} option" if group in COMPOSED else group)
        own = f"an option of your own is {group}/{name}.yaml in a folder that --config-dir names."
        raise ConfigError(unknown(kind, name, {*option_names(group, folders), *stored}, own))
    return found[0]


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
    except ConfigError as error:
        raise error if str(error).startswith(f"{where}.") else ConfigError(f"{where}: {error}") from error


def imported(target: str) -> Any:
    """Return the class or function of a dotted name."""
    module, _, attribute = target.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def read_option(path: Path) -> Node:
    """Return what an option's YAML file holds, interpolations as they are written."""
    from omegaconf import OmegaConf  # here, so that a lens is read without it

    return mapping(OmegaConf.to_container(OmegaConf.load(path)), str(path))


def mapping(loaded: Any, what: str) -> Node:
    """Return a loaded node, if it is a mapping.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(loaded, dict):
        raise ConfigError(f"{what} holds no mapping. Expected _target_ and the parameters of a part.")
    return {str(key): value for key, value in loaded.items()}
