"""A head's option, a YAML of conf/head/ or of a folder of one's own: read without importing the class that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronlens.config.fingerprint import plain
from neuronlens.config.groups import config_dir, option_names
from neuronlens.config.parts import option_file
from neuronlens.config.schema import Config, ModelConfig
from neuronlens.errors import ConfigError, unknown


@dataclass(frozen=True)
class HeadOption:
    """What an option declares of a head.

    Attributes:
        name: as in `model.head`.
        target: the class, as its import path.
        prompted: whether a causal language model is asked by `dataset.prompt` and answers in words; else the head is a
            classification head in the model's checkpoint, or one that fine-tuning adds.
        parameters: the keyword arguments of the class.
    """

    name: str
    target: str
    prompted: bool
    parameters: Mapping[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """What a fingerprint rests on.

        The package's own classes are known by their option's name, which stays when a module moves.
        """
        own = {} if self.target.startswith("neuronlens.") else {"head.target": self.target}
        return {"head": self.name, **own, **{f"head.{key}": value for key, value in self.parameters.items()}}


def head_option(model: ModelConfig) -> HeadOption:
    """Return the option that `model.head` names, with the values of `model` where it refers to them.

    Raises:
        ConfigError: no such option, or one without a class or without `prompted`.
    """
    node = dict(model.head_options.get(model.head) or _resolved(model.head, {"model": model}))
    target, prompted = node.pop("_target_", None), node.pop("prompted", None)
    if not isinstance(target, str) or not isinstance(prompted, bool):
        raise ConfigError(
            f"head/{model.head}.yaml has _target_: {target} and prompted: {prompted}, expected the import path of a class, "
            "and true (a language model is asked by dataset.prompt) or false (a classification head)."
        )
    return HeadOption(model.head, target, prompted, node)


def keep_option(config: Config, folders: Sequence[Path] = ()) -> None:
    """Put the option into the config where it is none of the package's, so that a restored run finds it again.

    Raises:
        ConfigError: no such option, with the nearest name; or two folders have one.
    """
    name, kept = config.model.head, config.model.head_options
    if name in kept:
        return
    file = option_file("head", name, _searched(folders), key="model.head")
    if file.parent.parent != config_dir():
        config.model.head_options = {**kept, name: _resolved(name, plain(config), folders)}


def declared(name: str, folders: Sequence[Path] = ()) -> Mapping[str, Any]:
    """Return the keys of a head's option as they are written; none where there is no such option."""
    from omegaconf import OmegaConf  # here, so that a lens is read without it

    file = _file(name, folders)
    found = OmegaConf.to_container(OmegaConf.load(file)) if file is not None else {}
    assert isinstance(found, dict), "an option's YAML is a mapping"
    return {str(key): value for key, value in found.items()}


def _file(name: str, folders: Sequence[Path] = ()) -> Path | None:
    """Return the YAML file of a head's option, ours or one in a folder that is searched; None where there is none."""
    files = (folder / "head" / f"{name}.yaml" for folder in [config_dir(), *_searched(folders)])
    return next((file for file in files if file.is_file()), None)


def _searched(folders: Sequence[Path]) -> list[Path]:
    """Return the folders beside ours: those given, and those that Hydra searches while it composes or runs a job."""
    from hydra.core.global_hydra import GlobalHydra  # here, so that a lens is read without it

    hydra = GlobalHydra.instance()
    if not hydra.is_initialized():
        return list(folders)
    sources = hydra.config_loader().get_search_path().get_path()
    own = [Path(source.path.removeprefix("file://")) for source in sources if source.path.startswith("file://")]
    return [*folders, *own]


def _resolved(name: str, values: Mapping[str, Any], folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return an option's keys, its references resolved against `values`."""
    keys = declared(name, folders)
    if not keys:
        raise ConfigError(unknown("model.head", name, option_names("head")))
    from omegaconf import OmegaConf

    root = OmegaConf.create({**plain(values), "option": keys})
    found = OmegaConf.to_container(root.option, resolve=True)
    assert isinstance(found, dict), "a mapping stays one"
    return {str(key): value for key, value in found.items()}
