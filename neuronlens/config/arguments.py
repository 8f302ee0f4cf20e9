"""Compares what a part's YAML gives with what its constructor is annotated to take."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

from neuronlens.config.values import expected, faults
from neuronlens.errors import ConfigError, unknown


def factory_of(node: Mapping[str, Any], where: str) -> Callable[..., Any]:
    """Return what `node['_target_']` names.

    Args:
        where: the group's name, for messages.

    Raises:
        ConfigError: it names nothing, or nothing that can be imported.
    """
    target = node.get("_target_")
    if not target:
        raise ConfigError(f"{where} names no _target_. Next: choose an option of the group, or name a class of yours.")
    module, _, attribute = str(target).rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{where}._target_ '{target}' cannot be imported: {error}. Next: install its package, or add the folder that "
            "holds it to PYTHONPATH."
        ) from error
    return found


def parameters(factory: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters that can be given by name, with their annotations resolved as far as they can be."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = {name: one for name, one in inspect.signature(factory).parameters.items() if one.kind in named}
    try:
        hints = get_type_hints(factory.__init__ if inspect.isclass(factory) else factory, include_extras=True)
    except (NameError, TypeError):  # of names that are imported for type checkers alone
        hints = {}
    return {name: one.replace(annotation=hints.get(name, Any)) for name, one in found.items()}


def wrong_arguments(arguments: Mapping[str, Any], factory: Callable[..., Any], where: str) -> Iterator[tuple[str, str]]:
    """Give key and sentence of every argument that the constructor does not take, or not with this value.

    Args:
        arguments: by name, without `_target_`.
        where: the group's name, for messages.
    """
    taken = parameters(factory)
    for name, value in arguments.items():
        key = f"{where}.{name}"
        if name not in taken:
            yield key, unknown("option", key, [f"{where}.{one}" for one in taken])
            continue
        for sentence in faults(key, value, expected(taken[name].annotation)):
            yield key, sentence
