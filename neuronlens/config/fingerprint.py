"""What a stage's inputs are, as JSON types and as one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1  # raised when a stored stage changes its meaning, so that no old file is found again


def plain(value: Any) -> Any:
    """Return `value` as JSON types: dataclasses and containers unfolded, paths as text, numbers as Python's own."""
    if type(value).__module__.startswith("omegaconf."):
        from omegaconf import OmegaConf  # here, so that a lens is read without it

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
