"""Dataclasses from their plain form, without the libraries that compose a configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from neuronlens.errors import ConfigError, unknown

T = TypeVar("T")
UNTYPED = ("saliency", "range", "gate", "edit", "parts")
"""Keys of a config below which values have no declared types: what their parts' constructors take."""
INFINITIES = {"inf": math.inf, "-inf": -math.inf}


def folded(kind: type[T], stored: Mapping[str, Any], prefix: str = "") -> T:
    """Return a dataclass of plain values, those inside it too; what is left out has its default.

    The reverse of `fingerprint.plain` and of `storage.files.json_types`. Values are not checked.

    Args:
        kind: a dataclass whose fields are plain, dataclasses, or lists of dataclasses.
        stored: by field name; not modified.
        prefix: stands before a field's name in messages.

    Raises:
        ConfigError: a key that is no field, with the nearest one.
    """
    hints = get_type_hints(kind)
    known = [declared.name for declared in fields(kind)]  # type: ignore[arg-type]
    for key in stored:
        if key not in known:
            raise ConfigError(unknown("option", f"{prefix}{key}", [f"{prefix}{name}" for name in known]))
    return kind(**{name: _folded(hints[name], value, f"{prefix}{name}") for name, value in stored.items()})


def _folded(hint: Any, value: Any, key: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return folded(hint, value, f"{key}.")
    if isinstance(value, list):
        inner = next((one for one in get_args(hint) if is_dataclass(one)), None)
        return [one if inner is None else _folded(inner, one, f"{key}[{at}]") for at, one in enumerate(value)]
    takes_numbers = hint is float or float in get_args(hint)
    return INFINITIES.get(value, value) if takes_numbers and isinstance(value, str) else value


def with_infinity(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored config with the infinities of its untyped groups as numbers, which JSON keeps as text.

    Those of typed fields need no help: OmegaConf reads them, and so does `folded`.

    >>> with_infinity({"seed": 0, "range": {"tau": "inf"}})
    {'seed': 0, 'range': {'tau': inf}}
    """

    def numbers(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: numbers(entry) for key, entry in value.items()}
        return INFINITIES.get(value, value) if isinstance(value, str) else value

    return {key: numbers(value) if key in UNTYPED else value for key, value in stored.items()}
