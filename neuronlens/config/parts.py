"""Parts that a config names by `_target_`: which options there are, what each takes, and the object itself."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from neuronlens.config.schema import DEFAULT_TAU, Config, GridConfig, everywhere, grids, swept
from neuronlens.errors import ConfigError, unknown


def config_dir() -> Path:
    """Return the folder of YAML groups: beside the installed package in a wheel, `<repo>/conf` in a bare checkout."""
    spec = importlib.util.find_spec("neuronlens.conf")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    places.append(Path(__file__).resolve().parents[2] / "conf")
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(f"The configuration folder is missing; looked in {', '.join(map(str, places))}. Reinstall.")


def nodes(config: Config, group: str) -> dict[str, dict[str, Any]]:
    """Return the `saliency` or `range` nodes that a run uses, by option name; the composed one where none is named.

    An option that is also the composed group keeps the overrides typed for it.

    Raises:
        ConfigError: a name that is no option of the group.
    """
    composed = getattr(config, group)
    own = option_of(config, group)
    found = {}
    for name in everywhere(config, group):
        if name is None or name == own:
            found[own] = composed
        elif name in option_names(group):
            found[name] = _option(group, name)
        else:
            raise ConfigError(unknown(f"{group} option", name, option_names(group)))
    return found


def option_of(config: Config, group: str) -> str:
    """Return the name of the option that a composed `saliency` or `range` node came from."""
    target = str(getattr(config, group).get("_target_"))
    for name in option_names(group):
        if _option(group, name).get("_target_") == target:
            return name
    return target.rpartition(".")[0].rpartition(".")[2] or target


def _option(group: str, name: str) -> dict[str, Any]:
    loaded = OmegaConf.to_container(OmegaConf.load(config_dir() / group / f"{name}.yaml"))
    assert isinstance(loaded, dict), "an option's YAML is a mapping"
    return {str(key): value for key, value in loaded.items()}


def widths(config: Config, node: Mapping[str, Any], grid: GridConfig | None = None) -> list[float | None]:
    """Return the taus at which a range is wanted, each once: the lists', else its own; [None] for a range without one.

    Args:
        grid: the one whose list counts; None for all of the run's.
    """
    if not takes(node, "tau"):
        return [None]
    found: list[float | None] = []
    for one in grids(config) if grid is None else [grid]:
        listed = one.tau is not None or config.sweep.tau is not None
        own = float(node.get("tau", DEFAULT_TAU))
        found += [float(tau) for tau in swept(config, "tau", one)] if listed else [own]
    return list(dict.fromkeys(found))


def takes(node: Mapping[str, Any], argument: str) -> bool:
    """Return whether the constructor that a node names takes an argument of this name."""
    module_name, _, attribute = str(node.get("_target_")).rpartition(".")
    return argument in inspect.signature(getattr(importlib.import_module(module_name), attribute)).parameters


def build(node: Mapping[str, Any], where: str = "config", **more: Any) -> Any:
    """Return the object that `node['_target_']` names, made from the node's other keys.

    Args:
        node: `_target_` and keyword arguments; not modified.
        where: the group's name, for messages.
        more: keyword arguments that replace the node's.
    Raises:
        ConfigError: no such target, or a key that its constructor does not take.
    """
    target = node.get("_target_")
    if not target:
        raise ConfigError(f"{where} names no _target_. Next: choose an option of the group, as in {where}=<name>.")
    module_name, _, attribute = str(target).rpartition(".")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{where}._target_ '{target}' cannot be imported: {error}.") from error
    accepted = inspect.signature(factory).parameters
    arguments = {key: value for key, value in node.items() if key != "_target_"} | more
    for key in arguments:
        if key not in accepted:
            raise ConfigError(unknown("option", f"{where}.{key}", [f"{where}.{name}" for name in accepted]))
    try:
        return factory(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def option_names(group: str) -> list[str]:
    """Return the names of a group's YAML files, sorted: what `group=<name>` accepts."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def option_file(group: str, name: str) -> Path | None:
    """Return the YAML file of a group's option, the package's own or one in a folder given by Hydra's `--config-dir`.

    Such a folder is searched while Hydra composes a config or runs a job. None where there is no such file.
    """
    folders = [config_dir()]
    hydra = GlobalHydra.instance()
    if hydra.is_initialized():
        entries = hydra.config_loader().get_search_path().get_path()
        folders += [Path(entry.path.removeprefix("file://")) for entry in entries if entry.provider == "command-line"]
    files = (folder / group / f"{name}.yaml" for folder in folders)
    return next((file for file in files if file.is_file()), None)
