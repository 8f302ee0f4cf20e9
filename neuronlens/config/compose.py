"""Composes the configuration with Hydra, builds the objects it names, and fingerprints what they were built from."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.conf import ConfigSourceInfo, RuntimeConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from neuronlens.config import groups
from neuronlens.config.check import Problem, faults_of_values, problems, refuse
from neuronlens.config.explain import explain
from neuronlens.config.folding import with_infinity
from neuronlens.config.heads import declared, head_option, keep_option
from neuronlens.config.launchers import launcher_problems
from neuronlens.config.names import source_name
from neuronlens.config.plan import filled
from neuronlens.config.schema import Config, GridConfig
from neuronlens.config.trust import as_text, strangers, trust
from neuronlens.config.typed import typed_problems
from neuronlens.errors import ConfigError, file_name, unknown


def register() -> None:
    """Put the typed schema and the resolvers of conf/ where Hydra looks for them; safe to repeat."""
    ConfigStore.instance().store(name="neuronlens_schema", node=Config)
    for resolver in (source_name, file_name, reference_confidence, reference_fit_on):
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


def compose(overrides: Sequence[str] = (), *, config_dir: Path | str | None = None) -> Config:
    """Return the checked configuration that these Hydra overrides describe.

    Args:
        config_dir: a folder with options of your own beside ours, as `--config-dir` on the command line; several are
            `hydra.searchpath=[file://<folder>,pkg://<package>]` among the overrides.

    Raises:
        ConfigError: an unknown group, option or key (with the nearest), a wrong type, a value out of range.
    """
    elsewhere = any(override.startswith("hydra.searchpath") for override in overrides)
    typed = typed_problems(overrides, None if elsewhere else [] if config_dir is None else [Path(config_dir)])
    wrong = [Problem(*one) for one in typed.sentences]
    launchers = launcher_problems(overrides, [] if config_dir is None else [Path(config_dir)])
    wrong += [Problem(*one) for one in launchers]
    if not typed.whole or launchers:
        refuse(wrong)
    try:
        with composing(typed.rest, config_dir) as found:
            runtime = found.hydra.runtime
            with read_write(found), open_dict(found):
                del found["hydra"]
            return resolve(found, runtime, wrong)
    except (
        HydraException,
        OmegaConfBaseException,
        OverflowError,
        ValueError,
    ) as error:  # numbers of hundreds of digits
        refuse([*wrong, Problem("", str(explain(error)))])
        raise


@contextmanager
def composing(overrides: Sequence[str], config_dir: Path | str | None = None) -> Iterator[DictConfig]:
    """Give what Hydra composes of these overrides, its own node `hydra` included; Hydra is open in the block."""
    register()
    search = [] if config_dir is None else [_search(config_dir, overrides)]
    if GlobalHydra.instance().is_initialized():
        GlobalHydra.instance().clear()
    with initialize_config_dir(str(groups.config_dir()), version_base="1.3"):
        yield hydra_compose("config", overrides=[*overrides, *search], return_hydra_config=True)


def _search(folder: Path | str, overrides: Sequence[str]) -> str:
    """Return the override that adds a folder to Hydra's search path."""
    path = Path(folder).resolve()
    if not path.is_dir():
        raise ConfigError(f"The folder of options '{folder}' is not there. Next: --config-dir <folder of YAML groups>.")
    if any(override.startswith("hydra.searchpath=") for override in overrides):
        raise ConfigError(
            "Both a config folder and hydra.searchpath are given. Next: hydra.searchpath=[file://<folder>]."
        )
    quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"hydra.searchpath=['file://{quoted}']"


def resolve(composed: DictConfig, runtime: RuntimeConf | None = None, beside: Sequence[Problem] = ()) -> Config:
    """Return Hydra's composition as checked dataclasses, every interpolation resolved, its parts found and built.

    Args:
        runtime: what Hydra composed it from: the search path, and the options that were chosen. The experiment's is a
            run's `logger.job_type` where none is given.
        beside: problems that are known already, of overrides that were left out.

    Raises:
        ConfigError: every value that is out of its range, and every key or value that a `_target_` does not take.
    """
    found = [*beside, *_unknown_keys(composed, OmegaConf.structured(Config)), *_missing(composed)]
    folders: list[Path] = []
    choices: Mapping[str, str] = {}
    if runtime is not None:
        folders, choices = _folders(runtime.config_sources), runtime.choices
        found += _unknown_choices(choices, folders)
        trust(folders, OmegaConf.to_container(composed))
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        refuse([*found, Problem("", str(explain(error)))])
        raise
    assert isinstance(config, Config)
    config.model.name, config.dataset.name = source_name(config.model), source_name(config.dataset)
    config.logger.job_type = config.logger.job_type or choices.get("experiment")
    return _checked(config, folders, choices, found)


def _checked(
    config: Config,
    folders: Sequence[Path] = (),
    choices: Mapping[str, str] | None = None,
    beside: Sequence[Problem] = (),
) -> Config:
    """Return the config with its parts, or refuse everything that is wrong with it at once."""
    if _nested(config):
        refuse([*beside, *faults_of_values(config)])  # a list is no name that could be looked up
    whole, wrong = filled(config, folders, choices)
    try:
        keep_option(whole, folders)
        head_option(whole.model)
    except ConfigError as error:
        wrong.append(("model.head", str(error)))
    refuse(problems(whole, beside=[*beside, *(Problem(*one) for one in wrong)]))
    return whole


def _nested(config: Config) -> bool:
    """Return whether a list of the sweep holds a list or mapping."""
    knobs = [entry.name for entry in dataclasses.fields(GridConfig)]
    lists = [getattr(grid, knob) or () for grid in (config.sweep, *config.sweep.methods) for knob in knobs]
    return any(isinstance(value, (list, dict)) for values in lists for value in values)


def _missing(composed: DictConfig) -> list[Problem]:
    """Return a problem for each key that an option leaves open and nobody set, as `path` of `dataset=local`."""
    return [
        Problem(key, f"{key} is not set, and the option that was chosen asks for it. Next: {key}=<value>.")
        for key in sorted(OmegaConf.missing_keys(composed))
    ]


def _unknown_choices(choices: Mapping[str, str], folders: Sequence[Path]) -> list[Problem]:
    """Return a problem for each option that was chosen and is not there, which Hydra lets pass in an optional group."""
    return [
        Problem(group, unknown(f"{group} option", name, groups.option_names(group, folders)))
        for group, name in choices.items()
        if isinstance(name, str) and not group.startswith("hydra") and not groups.is_option(group, name, folders)
    ]


def _folders(sources: Iterable[ConfigSourceInfo]) -> list[Path]:
    """Return the folders of Hydra's search path: `file://` as they are, `pkg://` where the package lies."""
    folders = []
    for source in sources:
        if source.schema == "pkg" and source.provider != "hydra":
            spec = importlib.util.find_spec(source.path)
            folders += [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
        elif source.schema == "file":
            folders.append(Path(source.path))
    return folders


def restore(stored: Mapping[str, Any]) -> Config:
    """Return the checked configuration that a manifest holds under `config`.

    Raises:
        ConfigError: it holds a key or value that this version does not know, or names a class that nobody registered
            in this process.
    """
    register()
    strange = [Problem(*one) for one in strangers(stored)]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), as_text(with_infinity(stored)))
    except OmegaConfBaseException as error:
        refuse([*strange, Problem("", str(explain(error)))])
        raise
    refuse(strange)
    assert isinstance(merged, DictConfig)
    return resolve(merged)


def _unknown_keys(node: DictConfig, typed: DictConfig, prefix: str = "") -> list[Problem]:
    """Return a problem for each key that `+key=value` put into a typed node: Hydra lets it in and nothing would read it."""
    if not dataclasses.is_dataclass(OmegaConf.get_type(typed)):
        return []
    found = []
    for key in node:
        name = f"{prefix}{key!s}"
        if key not in typed:
            found.append(Problem(name, unknown("option", name, [f"{prefix}{other!s}" for other in typed])))
            continue
        child, schema = node._get_node(key), typed._get_node(key)
        if isinstance(child, DictConfig) and isinstance(schema, DictConfig) and not child._is_none():
            reference = schema if not schema._is_none() else OmegaConf.structured(OmegaConf.get_type(child))
            found += _unknown_keys(child, reference, f"{name}.")
    return found
