"""Composes the configuration with Hydra, builds the objects it names, and fingerprints what they were built from."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from neuronlens.checks import check
from neuronlens.errors import ConfigError, nearest, unknown
from neuronlens.schema import DEFAULT_TAU, Config, GridConfig, SweepConfig, everywhere, grids, swept

FORMAT_VERSION = 1  # raised when a stored stage changes its meaning, so that no old file is found again


def config_dir() -> Path:
    """Return the folder of YAML groups: beside the installed package in a wheel, `<repo>/conf` in a bare checkout."""
    spec = importlib.util.find_spec("neuronlens.conf")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    places.append(Path(__file__).resolve().parent.parent / "conf")
    for place in places:
        if (place / "config.yaml").is_file():
            return place
    raise ConfigError(f"The configuration folder is missing; looked in {', '.join(map(str, places))}. Reinstall.")


def register() -> None:
    """Put the typed schema and the resolver for a run's dataset name where Hydra looks for them; safe to repeat."""
    ConfigStore.instance().store(name="neuronlens_schema", node=Config)
    if not OmegaConf.has_resolver("dataset_name"):
        OmegaConf.register_new_resolver("dataset_name", dataset_name)
        OmegaConf.register_new_resolver("reference_confidence", reference_confidence)
        OmegaConf.register_new_resolver("reference_fit_on", reference_fit_on)


def reference_confidence(head: str) -> str:
    """Return whose probability the published code reports: the label's first token's, where words are read.

    >>> reference_confidence("seq_cls"), reference_confidence("label_logprob")
    ('labels', 'first_token')
    """
    return "labels" if head == "seq_cls" else "first_token"


def reference_fit_on(head: str, blocks: int | None) -> str:
    """Return what the published code fits on: correct answers of a prompted model, all samples of a fine-tuned one.

    >>> reference_fit_on("label_logprob", None), reference_fit_on("label_token", 2), reference_fit_on("seq_cls", None)
    ('correct', 'all', 'all')
    """
    return "correct" if head != "seq_cls" and blocks is None else "all"


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
    if found and ("not in" in text or "not in" in str(error)):
        return ConfigError(_unknown_key(str(found[1])))
    reason = " ".join(line.strip() for line in text.splitlines() if line.strip() and "object_type" not in line)
    reason = re.sub(r"\bfull_key: (\S+)", r"(at \1)", reason)
    return ConfigError(f"The configuration does not hold: {reason} Next: neuronlens --help lists groups and keys.")


def _unknown_key(key: str) -> str:
    with_defaults = OmegaConf.structured(Config)
    parent, _, leaf = key.rpartition(".")
    for free in (key, parent):
        if (
            free
            and isinstance(OmegaConf.select(with_defaults, free), DictConfig)
            and not OmegaConf.select(with_defaults, free)
        ):
            entry = f"{free}.{leaf}" if free == parent else f"{free}.<name>"
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


def plain(value: Any) -> Any:
    """Return `value` as JSON types: dataclasses and containers unfolded, paths as text, numbers as Python's own."""
    if isinstance(value, (DictConfig, ListConfig)):
        value = OmegaConf.to_container(value, resolve=True)
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value


def fingerprint(inputs: Any) -> str:
    """Return the SHA-256 (first 16 hex digits) of a stage's inputs: equal inputs, equal text, in every process.

    >>> fingerprint({"a": 1, "b": 0}) == fingerprint({"b": 0, "a": 1})
    True
    >>> fingerprint({"seed": 0}) == fingerprint({"seed": None})
    False
    """
    text = json.dumps([FORMAT_VERSION, plain(inputs)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
