"""Composes the configuration with Hydra, builds the objects it names, and fingerprints what they were built from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config.check import check
from neuronlens.config.explain import explain
from neuronlens.config.heads import declared, keep_option
from neuronlens.config.parts import build, config_dir, nodes
from neuronlens.config.schema import Config, SweepConfig
from neuronlens.errors import ConfigError, unknown


def register() -> None:
    """Put the typed schema and the resolvers of conf/ where Hydra looks for them; safe to repeat."""
    ConfigStore.instance().store(name="neuronlens_schema", node=Config)
    for resolver in (dataset_name, reference_confidence, reference_fit_on):
        if not OmegaConf.has_resolver(resolver.__name__):
            OmegaConf.register_new_resolver(resolver.__name__, resolver)


def reference_confidence(head: str) -> str:
    """Return whose probability the published code reports: the label's first token's, where words are read.

    >>> reference_confidence("seq_cls"), reference_confidence("label_logprob")
    ('labels', 'first_token')
    """
    return "first_token" if "confidence" in declared(head) else "labels"


def reference_fit_on(head: str, blocks: int | None) -> str:
    """Return what the published code fits on: correct answers of a prompted model, all samples of a fine-tuned one.

    >>> reference_fit_on("label_logprob", None), reference_fit_on("label_token", 2), reference_fit_on("seq_cls", None)
    ('correct', 'all', 'all')
    """
    return "correct" if declared(head).get("prompted") and blocks is None else "all"


def dataset_name(name: str, path: str | None) -> str:
    """Return the name a dataset goes by: its folder's where `dataset.path` is set, else the config's.

    >>> dataset_name("newsgroups20", "../data/emotions")
    'emotions'
    """
    return Path(path).resolve().name if path else name


def compose(overrides: Sequence[str] = ()) -> Config:
    """Return the checked configuration that these Hydra overrides describe.

    Raises:
        ConfigError: an unknown group, option or key (with the nearest), a wrong type, a value out of range.
    """
    register()
    if GlobalHydra.instance().is_initialized():
        GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
            experiment = composed.hydra.runtime.choices.get("experiment")
            with read_write(composed), open_dict(composed):
                del composed["hydra"]
            return resolve(composed, experiment)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error


def resolve(composed: DictConfig, experiment: str | None = None) -> Config:
    """Return Hydra's composition as checked dataclasses, every interpolation resolved.

    Args:
        experiment: the chosen option of that group, a run's `logger.job_type` where none is given.
    Raises:
        ConfigError: a value is out of its range, or a `_target_` does not take one of its keys.
    """
    _refuse_unknown(composed, OmegaConf.structured(Config))
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    assert isinstance(config, Config)
    config.logger.job_type = config.logger.job_type or experiment
    keep_option(config)
    check(config)
    for group in ("saliency", "range"):
        for node in nodes(config, group).values():
            build(node, where=group)
    return config


def restore(stored: Mapping[str, Any]) -> Config:
    """Return the checked configuration that a manifest holds under `config`.

    Raises:
        ConfigError: it holds a key or value that this version does not know.
    """
    register()
    read = {key: _with_infinity(value) if key in ("saliency", "range") else value for key, value in stored.items()}
    try:
        return resolve(OmegaConf.merge(OmegaConf.structured(Config), read))  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise explain(error) from error


def _with_infinity(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return an untyped node with the infinities that JSON keeps as text; OmegaConf reads those of typed ones."""
    return {key: float(value) if value in ("inf", "-inf") else value for key, value in node.items()}


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
    sweep = SweepConfig(**{name: [value] for name, value in knobs.items() if name != "top_count"})
    own = dataclasses.replace(config, intervention=intervention, sweep=sweep)
    check(own)
    return own


def _refuse_unknown(node: DictConfig, typed: DictConfig, prefix: str = "") -> None:
    """Refuse keys that `+key=value` put into a typed node: Hydra lets them in and nothing would read them."""
    if not dataclasses.is_dataclass(OmegaConf.get_type(typed)):
        return
    for key in node:
        if key not in typed:
            raise ConfigError(unknown("option", f"{prefix}{key!s}", [f"{prefix}{name!s}" for name in typed]))
        child, schema = node._get_node(key), typed._get_node(key)
        if isinstance(child, DictConfig) and isinstance(schema, DictConfig) and not child._is_none():
            reference = schema if not schema._is_none() else OmegaConf.structured(OmegaConf.get_type(child))
            _refuse_unknown(child, reference, f"{prefix}{key!s}.")
