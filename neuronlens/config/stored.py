"""Reads the config that a finished run stored, as far as this version of the package knows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.folding import with_infinity
from neuronlens.config.schema import Config


def known_part(stored: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Return the config that a run stored, and the part of it that this version does not know.

    The config is good for naming, showing and comparing what a run did: what is not known has its default, and no value
    is checked. To run or to edit with it, `compose.restore` it.

    Args:
        stored: JSON types; not modified.
    """
    typed = OmegaConf.structured(Config)
    unknown = _take_over(typed, with_infinity(stored))
    config = OmegaConf.to_object(typed)
    assert isinstance(config, Config)
    return config, unknown


def _take_over(typed: DictConfig, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Write the stored values into a typed node; return those for which it has no key or no such type."""
    unknown: dict[str, Any] = {}
    for key, value in stored.items():
        if key not in typed:
            unknown[key] = value
            continue
        child = typed._get_node(key)
        if isinstance(value, Mapping) and dataclasses.is_dataclass(OmegaConf.get_type(child)):
            assert isinstance(child, DictConfig)
            left = _take_over(child, value)
            unknown |= {key: left} if left else {}
            continue
        try:
            typed.merge_with({key: value})
        except OmegaConfBaseException:
            unknown[key] = value
    return unknown


def completed(config: Mapping[str, Any], unknown: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config in plain form with the values put back that this version does not know.

    >>> completed({"seed": 0, "model": {"name": "a"}}, {"model": {"heads": 2}})
    {'seed': 0, 'model': {'name': 'a', 'heads': 2}}
    """
    whole = dict(config)
    for key, value in unknown.items():
        both = isinstance(value, Mapping) and isinstance(whole.get(key), Mapping)
        whole[key] = completed(whole[key], value) if both else value
    return whole


def dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Give the dotted names of a nested mapping's values.

    >>> list(dotted({"seed": 0, "model": {"name": "a", "heads": {}}}))
    ['seed', 'model.name', 'model.heads']
    """
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
