"""Which classes may be built from a config that was read from a file: ours, and those of options that this process was given.

A run folder or a lens travels between people, and `_target_` in its manifest may name any callable. What was not registered
here is refused, and references (`${oc.env:...}`) that stand in such a file are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from neuronlens.config.groups import config_dir

GROUPS = ("saliency", "range", "gate", "edit", "head")
"""Groups whose options name a class."""
_given: set[str] = set()
"""Classes that options outside of the package name, of this process."""


def trust(folders: Iterable[Path], config: Any = None) -> None:
    """Let classes be built that options in these folders name, and those of a config that was composed in this process.

    Args:
        folders: given by `--config-dir` or Hydra's search path.
        config: as it was composed, in plain types.
    """
    for folder in folders:
        _given.update(_targets_in(folder))
    _given.update(target for _, target in targets(config))


def strangers(stored: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return key and sentence for each class that a stored config names and nobody registered here; none is imported."""
    known = _ours() | _given
    return [
        (
            key,
            f"{key} is '{target}', a class that neither neuronlens nor an option of this process names, so it is not built "
            "from a file. Next: if you trust it, neuronlens.compose(config_dir=<folder of its options>) first.",
        )
        for key, target in targets(stored)
        if target not in known
    ]


def targets(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give key and value of every `_target_` in nested mappings and lists."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            key = f"{prefix}{name}"
            if name == "_target_" and value is not None:
                yield key, str(value)
            else:
                yield from targets(value, f"{key}.")
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from targets(value, f"{prefix}{number}.")


def as_text(node: Any) -> Any:
    r"""Return a stored config in which references are text that OmegaConf gives back as it is.

    >>> as_text({"run_name": "a ${oc.env:HOME}"})
    {'run_name': 'a \\${oc.env:HOME}'}
    """
    if isinstance(node, str):
        return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", node)
    if isinstance(node, Mapping):
        return {name: as_text(value) for name, value in node.items()}
    return [as_text(value) for value in node] if isinstance(node, Sequence) else node


@cache
def _ours() -> frozenset[str]:
    return frozenset(_targets_in(config_dir()))


def _targets_in(folder: Path) -> Iterator[str]:
    for group in GROUPS:
        for path in sorted((folder / group).glob("*.yaml")):
            try:
                content = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (yaml.YAMLError, UnicodeDecodeError):
                continue  # refused with a sentence where it is chosen
            yield from (target for _, target in targets(content))
