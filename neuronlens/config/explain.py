"""Hydra's and OmegaConf's complaints as one sentence with the nearest valid name, in none of their own words."""

from __future__ import annotations

import dataclasses
import re

from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.groups import group_names, option_names, part_entries
from neuronlens.config.parts import COMPOSED
from neuronlens.config.rules import shown
from neuronlens.config.schema import Config, GridConfig
from neuronlens.config.typed import free_mapping, near_key, schema_keys
from neuronlens.config.values import faults
from neuronlens.errors import ConfigError, unknown

BY_NAME = (
    r"default list use \+(edit|gate|head)=|'[~+]*(edit|gate|head)=|In '(edit|gate)/|assign \w+ to Dict\[str, Any\]()"
)
"""How Hydra's complaints look where a group is chosen whose options are named by a key."""
REFERENCES = {
    r"Interpolation key '([^']+)' not found": "refers to ${%s}, and there is no such key",
    r"Unsupported interpolation type (\S+)": "refers to ${%s:...}, and there is no such function",
    r"Environment variable '([^']+)' not found": "refers to the environment variable %s, which is not set",
    r"()Recursive interpolation": "refers to itself%s",
    r"()(?:GrammarParseError|token recognition error|no viable alternative|mismatched input)": (
        "holds a reference ${...} that cannot be read%s"
    ),
}
"""What OmegaConf says of a reference -> what is wrong with it."""


def is_of_the_config(error: Exception) -> bool:
    """Return whether Hydra or OmegaConf complains, which bad input alone makes them do."""
    return isinstance(error, (HydraException, OmegaConfBaseException))


def explain(error: Exception) -> ConfigError:
    """Return Hydra's or OmegaConf's complaint as one sentence with the nearest valid name."""
    text = str(error.__cause__ or error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return ConfigError(_missing_option(error.missing_cfg_file, list(error.options or ())))
    found = re.search(r"Could not override '([^']+)'", str(error)) or re.search(r"full_key: (\S+)", text)
    key = str(found[1]) if found else ""
    inner = re.search(r"Key '([^']+)' not in '(\w+)'", text)
    if inner and inner[2] == "GridConfig":
        return ConfigError(
            unknown("key of sweep.methods", inner[1], [entry.name for entry in dataclasses.fields(GridConfig)])
        )
    named = re.search(BY_NAME, f"{error} {text}")
    if named:
        return ConfigError(_chosen_by_name(next(filter(None, named.groups()), "edit")))
    for pattern, words in REFERENCES.items():
        reference = re.search(pattern, text)
        if reference and key:
            return ConfigError(f"{key} {words % reference[1]}. Next: write the value itself, or another reference.")
    if key and ("not in" in text or "not in" in str(error)):
        return ConfigError(_unknown_key(key))
    if key:
        return ConfigError(_wrong_value(key, text))
    reason = " ".join(line.strip() for line in text.splitlines() if line.strip() and "_type=" not in line)
    reason = reason.partition("Config search path:")[0].partition("See https://")[0].strip().rstrip(".")
    return ConfigError(f"The configuration does not hold: {reason}. Next: neuronlens --help lists groups and keys.")


def _missing_option(file: str, options: list[str]) -> str:
    group, _, name = file.rpartition("/")
    if not group:
        return f"The configuration has no '{name}.yaml'. Next: neuronlens --help lists groups and options."
    return unknown(f"{group} option", name, options or (option_names(group) if group in group_names() else []))


def _chosen_by_name(group: str) -> str:
    if group == "head":
        return "A head is chosen by name. Next: model.head=<name>; neuronlens help head lists the names."
    return (
        f"Gates and edits are chosen by name. Next: intervention.{group}=<name> or sweep.{group}=[<name>,...]; "
        f"++{group}.<name>.<parameter>=<value> sets a parameter of one."
    )


def _wrong_value(key: str, text: str) -> str:
    """Return the sentence for a value whose type OmegaConf refused: what stands there, and what the schema expects."""
    value = re.search(
        r"Value '(.*?)' of type|value: (.*)|Invalid value assigned: (\w+) is|Cannot merge (\w+) with", text
    )
    got = next((group for group in value.groups() if group is not None), "") if value else ""
    wanted = schema_keys().get(re.sub(r"\[\d+\].*$", "", key))
    if wanted is None:
        return f"{key} has a value of the wrong type{f', {shown(got)}' if got else ''}. Next: neuronlens help {key}."
    if "not Optional" in text or got == "None":
        return faults(key, None, wanted)[0] if faults(key, None, wanted) else f"{key} holds null, expected a value."
    held = ", ".join(rule.words for rule in wanted.rules)
    words = held if held.startswith(wanted.words) else f"{wanted.words}, {held}".strip(", ")
    return f"{key} is {shown(got)}, expected {words}."


def _unknown_key(key: str) -> str:
    with_defaults = OmegaConf.structured(Config)
    parent, _, leaf = key.rpartition(".")
    if key.startswith("hydra."):
        return f"Unknown option '{key}' of Hydra. Next: neuronlens --cfg hydra prints those there are."
    free = free_mapping(key)
    if free in COMPOSED:
        taken = {entry.key for option in option_names(free) for entry in part_entries(free, option)}
        return unknown("option", key, taken, f"neuronlens help {free} lists the options that take them.")
    if free is not None:
        entry = key if free != key else f"{free}.<name>"
        return f"'{free}' has entries of your own, which Hydra adds by a leading ++. Next: ++{entry}=<value>."
    node = OmegaConf.select(with_defaults, parent, throw_on_resolution_failure=False) if parent else with_defaults
    if isinstance(node, DictConfig) and len(node) and leaf not in node:
        options = [f"{parent}.{name!s}" if parent else str(name) for name in node]
        return unknown("option", key, options)
    return f"Unknown option '{key}'.{near_key(key)} Next: neuronlens --help lists groups, neuronlens help KEY a key."
