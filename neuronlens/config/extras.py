"""Which optional libraries are installed, and which extra of the package installs one that is not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError

EXTRAS = {
    "report": ("altair", "jinja2", "matplotlib", "vl_convert"),
    "wandb": ("wandb",),
    "tensorboard": ("tensorboard",),
    "gguf": ("gguf", "accelerate"),
    "peft": ("peft",),
}
"""What each extra of setup.cfg installs, by the names that are imported."""
LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher",),
    "submitit": ("hydra_plugins.hydra_submitit_launcher",),
    "ray": ("hydra_plugins.hydra_ray_launcher",),
}
"""The same for Hydra's launchers, which the extra `all` leaves out: each brings the engine of a kind of cluster."""

ATTENTIONS = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""Attentions of transformers that a library of their own computes."""


def missing(extra: str) -> list[str]:
    """Return the libraries of an extra that are not installed; nothing is imported."""
    return [name for name in (EXTRAS | LAUNCHERS)[extra] if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of what it lies in
        return False


def to_install(what: str, extra: str) -> str | None:
    """Return the sentence that says what to install for `what`; None where nothing is missing.

    Args:
        what: what needs it, as the sentence begins: "logger.kind=wandb".
    """
    absent = missing(extra)
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    return f"{what} needs {' and '.join(absent)}, which {verb} not installed. Next: pip install 'neuronlens[{extra}]'"


def refuse_missing(config: Config) -> None:
    """Refuse what was asked for and cannot be done with the libraries that are installed.

    Raises:
        ConfigError: one sentence per missing extra, a line each.
    """
    found = list(_missing_for(config))
    if found:
        raise ConfigError("\n".join(found))


def _missing_for(config: Config) -> Iterator[str]:
    kinds = [kind for kind in config.logger.kind.split("+") if kind in EXTRAS]
    for kind in kinds:
        sentence = to_install(f"logger.kind={config.logger.kind}", kind)
        if sentence:
            yield f"{sentence}, or logger=csv."
    attention = config.model.attn_implementation
    if attention in ATTENTIONS and importlib.util.find_spec(ATTENTIONS[attention]) is None:
        yield (
            f"model.attn_implementation={attention} needs {ATTENTIONS[attention]}, which is not installed. Next: "
            "model.attn_implementation=null takes what transformers takes."
        )
    if config.model.gguf:
        sentence = to_install(f"model.gguf={config.model.gguf}", "gguf")
        if sentence:
            yield f"{sentence}."
