"""What code an outcome was computed by: a stage that is found again must not be that of an earlier version of a part."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from neuronlens.config.trust import targets

COMPUTING = ("hooks", "models", "activations", "saliency", "ranges", "edits", "sweep")
"""Rooms of the package that the outcome of a cell passes through."""


def code_behind(config: Any) -> str | None:
    """Return a hash of the sources that outcomes rest on: the package's, and those of the parts that a config names.

    Of a part in another package that whole package counts, for the part may use all of it. None where a part has no source
    that could be read: nobody knows whether it is still the same.

    Args:
        config: in plain types, with the `_target_` of every part.
    """
    elsewhere = {target.split(".")[0] for _, target in targets(config)} - {"neuronlens"}
    found = {"neuronlens": _own()} | {package: _hash(_sources(package)) for package in elsewhere}
    if not all(found.values()):
        return None
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


@cache
def _own() -> str | None:
    here = Path(__file__).resolve().parent.parent
    return _hash([here / "records.py", *(path for room in COMPUTING for path in (here / room).rglob("*.py"))])


def _sources(package: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.submodule_search_locations is not None:
        for folder in spec.submodule_search_locations:
            yield from Path(folder).rglob("*.py")
    elif spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
        yield Path(spec.origin)


def _hash(files: Iterable[Path]) -> str | None:
    """Return a hash of files' contents in the order of their paths; None where there is none."""
    digest = hashlib.sha256()
    several = sorted(files)
    for path in several:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest() if several else None
