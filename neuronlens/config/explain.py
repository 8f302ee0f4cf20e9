"""Hydra's and OmegaConf's complaints as one sentence with the nearest valid name."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.schema import Config, GridConfig
from neuronlens.errors import ConfigError, nearest, unknown


def is_of_the_config(error: Exception) -> bool:
    """Return whether Hydra or OmegaConf complains, which bad input alone makes them do."""
    return isinstance(error, (HydraException, OmegaConfBaseException))


def explain(error: Exception) -> ConfigError:
    """Return Hydra's or OmegaConf's complaint as one sentence with the nearest valid name."""
    text = str(error.__cause__ or error)
    if isinstance(error, MissingConfigException) and error.options is not None and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return ConfigError(unknown(f"{group!s} option", name, error.options))
    found = re.search(r"Could not override '([^']+)'", str(error)) or re.search(r"full_key: (\S+)", text)
    inner = re.search(r"Key '([^']+)' not in '(\w+)'", text)
    if inner and inner[2] == "GridConfig":
        return ConfigError(
            unknown("key of sweep.methods", inner[1], [entry.name for entry in dataclasses.fields(GridConfig)])
        )
    named = re.search(
        r"default list use \+(edit|gate|head)=|In '(edit|gate)/|assign \w+ to Dict\[str, Any\]()", f"{error} {text}"
    )
    if named:
        group = named[1] or named[2] or "edit"
        if group == "head":
            return ConfigError(
                "A head is chosen by name. Next: model.head=<name>; neuronlens help head lists the names."
            )
        return ConfigError(
            f"Gates and edits are chosen by name. Next: intervention.{group}=<name> or sweep.{group}=[<name>,...]; "
            f"++{group}.<name>.<parameter>=<value> sets a parameter of one."
        )
    if found and ("not in" in text or "not in" in str(error)):
        return ConfigError(_unknown_key(str(found[1])))
    reason = " ".join(line.strip() for line in text.splitlines() if line.strip() and "_type=" not in line)
    reason = re.sub(r"\bfull_key: (\S+)", r"(at \1)", reason)
    return ConfigError(f"The configuration does not hold: {reason} Next: neuronlens --help lists groups and keys.")


def _unknown_key(key: str) -> str:
    with_defaults = OmegaConf.structured(Config)
    parent, _, leaf = key.rpartition(".")
    words = key.split(".")
    for free in (".".join(words[:count]) for count in range(len(words), 0, -1)):
        own = OmegaConf.select(with_defaults, free)
        if isinstance(own, DictConfig) and not own:
            entry = key if free != key else f"{free}.<name>"
            return f"'{free}' has entries of your own, which Hydra adds by a leading ++. Next: ++{entry}=<value>."
    node = OmegaConf.select(with_defaults, parent) if parent else with_defaults
    if isinstance(node, DictConfig) and len(node):
        return unknown("option", key, [f"{parent}.{name!s}" if parent else str(name) for name in node])
    everywhere = list(_flat(OmegaConf.to_container(with_defaults)))
    near = nearest(key, everywhere) or nearest(leaf, everywhere)
    return f"Unknown option '{key}'." + (f" Did you mean '{near}'?" if near else "") + " Next: neuronlens --help."


def _flat(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict) or not node:
        return [prefix]
    return [key for name, child in node.items() for key in _flat(child, f"{prefix}.{name}" if prefix else str(name))]
