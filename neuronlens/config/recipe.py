"""The part of a config that edits are made from: what a lens file keeps of it, and reads without Hydra and OmegaConf."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from neuronlens.config.check import Problem, problems, refuse
from neuronlens.config.fingerprint import plain
from neuronlens.config.folding import folded, with_infinity
from neuronlens.config.groups import option_names
from neuronlens.config.heads import head_option
from neuronlens.config.nodes import PROTOCOLS, node
from neuronlens.config.plan import filled
from neuronlens.config.schema import Config, SweepConfig
from neuronlens.config.trust import strangers
from neuronlens.errors import ConfigError

KEPT = ("seed", "model", "layers", "saliency", "range", "gate", "edit", "intervention")
"""What is kept whole; of the dataset its name and prompt."""


def recipe_of(config: Config) -> dict[str, Any]:
    """Return what edits are made from as plain values: no sweep, no paths of data, no logger.

    Every ranker, range, gate and edit of the package is in it with its parameters, so that no YAML is read with it.
    """
    kept = {name: plain(getattr(config, name)) for name in KEPT}
    kept["dataset"] = {"name": config.dataset.name, "prompt": plain(config.dataset.prompt)}
    head = head_option(config.model)
    kept["model"]["head_options"] = {head.name: {"_target_": head.target, "prompted": head.prompted, **head.parameters}}
    kept["parts"] = {
        group: {name: node(config, group, name) for name in {**dict.fromkeys(option_names(group)), **named}}
        for group, named in ((group, config.parts.get(group, {})) for group in PROTOCOLS)
    }
    found: dict[str, Any] = plain(kept)
    return found


def from_recipe(stored: Mapping[str, Any]) -> Config:
    """Return the checked config of a recipe, everything else at its default.

    Raises:
        ConfigError: it holds what this version does not know, or names a class that nobody registered in this process.
    """
    refuse(Problem(*one) for one in strangers(stored))
    config = folded(Config, with_infinity(stored))
    return _checked(config)


def narrowed(config: Config, knobs: Mapping[str, Any]) -> Config:
    """Return the checked config of one cell: the run's own single values, some of them replaced, and nothing swept.

    Args:
        knobs: values by the names of `records.Knobs`; the run's `control` is left out.

    Raises:
        ConfigError: a value out of its range, or both `top_fraction` and `top_count`.
    """
    if {"top_fraction", "top_count"} <= set(knobs):
        raise ConfigError("Give one of top_fraction and top_count.")
    intervention = dataclasses.replace(config.intervention, control="none")
    if {"top_fraction", "top_count"} & set(knobs):
        intervention = dataclasses.replace(intervention, top_count=knobs.get("top_count"))
    lists: dict[str, Any] = {name: [value] for name, value in knobs.items() if name != "top_count"}
    sweep = SweepConfig(**lists)
    return _checked(dataclasses.replace(config, intervention=intervention, sweep=sweep))


def _checked(config: Config) -> Config:
    own, wrong = filled(config)
    found = problems(own, beside=[Problem(*one) for one in wrong])
    refuse(Problem(key, sentence.replace("sweep.", "")) for key, sentence in found)  # a cell's knobs, not lists
    return own
