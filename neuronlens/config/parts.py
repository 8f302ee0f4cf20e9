"""Parts that a config names by `_target_`: where their YAML options lie, what each takes, and the object itself.

Options are YAML files in folders: ours, and those that Hydra's search path adds (`--config-dir`). A part's parameters are
its constructor's arguments.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from neuronlens.errors import ConfigError, unknown

COMPOSED = ("saliency", "range")
"""Groups of which Hydra composes one option into the config; of the others a config holds names alone."""

Node = dict[str, Any]
_SEARCHED: ContextVar[tuple[Path, ...]] = ContextVar("folders with options beside ours", default=())


def config_dir() -> Path:
    """Return the folder of YAML groups: beside the installed package in a wheel, `<repo>/conf` in a bare checkout."""
    spec = importlib.util.find_spec("neuronlens.conf")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    places.append(Path(__file__).resolve().parents[2] / "conf")
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(f"The configuration folder is missing; looked in {', '.join(map(str, places))}. Reinstall.")


@contextmanager
def searching(folders: Iterable[Path]) -> Iterator[None]:
    """Look for options in these folders too while the block runs, as Hydra does with its search path."""
    token = _SEARCHED.set(tuple(folders))
    try:
        yield
    finally:
        _SEARCHED.reset(token)


def search_path() -> list[Path]:
    """Return the folders that options are looked for in, ours first."""
    return [config_dir(), *_SEARCHED.get()]


def option_names(group: str) -> list[str]:
    """Return the names of a group's YAML files, sorted: what `group=<name>` accepts."""
    return sorted({path.stem for folder in search_path() for path in (folder / group).glob("*.yaml")})


def option_file(group: str, name: str) -> Path | None:
    """Return the YAML file of an option; None where there is none.

    Raises:
        ConfigError: two folders have one, of which Hydra would take ours.
    """
    files = [folder / group / f"{name}.yaml" for folder in search_path()]
    found = {file.resolve(): file for file in reversed(files) if file.is_file()}
    if len(found) > 1:
        raise ConfigError(f"{group} '{name}' is both {' and '.join(map(str, found))}. Next: give yours another name.")
    return next(iter(found.values()), None)


def completed(found: Mapping[str, Any], where: str) -> Node:
    """Return a node with every parameter that its target takes: those left out have the constructor's defaults.

    Raises:
        ConfigError: no such target, or a key that it does not take.
    """
    taken = _parameters(_target(found, where))
    for key in found:
        if key != "_target_" and key not in taken:
            raise ConfigError(unknown("option", f"{where}.{key}", [f"{where}.{name}" for name in taken]))
    defaults = {name: one.default for name, one in taken.items() if one.default is not inspect.Parameter.empty}
    return {"_target_": found["_target_"], **defaults, **found}


def build(found: Mapping[str, Any], where: str = "config", **more: Any) -> Any:
    """Return the object that `found['_target_']` names, made from the node's other keys.

    Args:
        found: `_target_` and keyword arguments; not modified.
        where: how the node is written, for messages.
        more: keyword arguments that replace the node's.
    Raises:
        ConfigError: no such target, a key that its constructor does not take, or one that it needs.
    """
    arguments = {key: value for key, value in completed({**found, **more}, where).items() if key != "_target_"}
    try:
        return _target(found, where)(**arguments)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error
    except ConfigError as error:
        raise error if str(error).startswith(f"{where}.") else ConfigError(f"{where}: {error}") from error


def _target(found: Mapping[str, Any], where: str) -> Any:
    """Return the class or function that a node names."""
    target = found.get("_target_")
    if not target:
        raise ConfigError(f"{where} names no _target_. Next: choose an option of the group, or name a class of yours.")
    try:
        return imported(str(target))
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{where}._target_ '{target}' cannot be imported: {error}. Next: install its package, or add the folder that "
            "holds it to PYTHONPATH."
        ) from error


def imported(target: str) -> Any:
    """Return the class or function of a dotted name."""
    module, _, attribute = target.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def _parameters(factory: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments that can be given by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: one for name, one in inspect.signature(factory).parameters.items() if one.kind in named}


def read_option(group: str, name: str) -> Node:
    """Return what the YAML file of an option holds, interpolations as they are written; {} where there is none."""
    file = option_file(group, name)
    return {} if file is None else mapping(OmegaConf.to_container(OmegaConf.load(file)), str(file))


def mapping(loaded: Any, what: str) -> Node:
    """Return a loaded node, if it is a mapping.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(loaded, dict):
        raise ConfigError(f"{what} holds no mapping. Expected _target_ and the parameters of a part.")
    return {str(key): value for key, value in loaded.items()}
