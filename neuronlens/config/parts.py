"""Parts that a config names by `_target_`: which options there are, what each takes, and the object itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from neuronlens.config.arguments import factory_of, parameters, wrong_arguments
from neuronlens.config.groups import config_dir, option_names
from neuronlens.config.schema import DEFAULT_TAU, Config, GridConfig, everywhere, grids, swept
from neuronlens.errors import ConfigError, unknown

PART_GROUPS = ("saliency", "range")
"""Groups whose options name a class and give its constructor's arguments."""


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
    return argument in parameters(factory_of(node, "config"))


def build(node: Mapping[str, Any], where: str = "config", **more: Any) -> Any:
    """Return the object that `node['_target_']` names, made from the node's other keys.

    Args:
        node: `_target_` and keyword arguments; not modified.
        where: the group's name, for messages.
        more: keyword arguments that replace the node's.
    Raises:
        ConfigError: no such target, or a key or value that its constructor does not take; all of them, a line each.
    """
    factory = factory_of(node, where)
    arguments = _arguments(node) | more
    wrong = [sentence for _, sentence in wrong_arguments(arguments, factory, where)]
    if wrong:
        raise ConfigError("\n".join(wrong))
    try:
        return factory(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def wrong_parts(config: Config) -> Iterator[tuple[str, str]]:
    """Give key and sentence of everything wrong with the parts that a run names, the composed ones included."""
    for group in PART_GROUPS:
        used = [getattr(config, group)]
        try:
            used += [node for node in nodes(config, group).values() if node not in used]
        except ConfigError as error:
            yield f"sweep.{group}", str(error)
        for node in used:
            try:
                factory = factory_of(node, group)
                wrong = list(wrong_arguments(_arguments(node), factory, group))
                yield from wrong
                if not wrong:
                    build(node, group)
            except ConfigError as error:
                yield group, str(error)


def _arguments(node: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in node.items() if key != "_target_"}
