"""Checks overrides as they are typed against the schema, before Hydra composes them, so that all problems are found at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from neuronlens.config.entries import entries
from neuronlens.config.groups import group_names, is_option, option_names
from neuronlens.config.keys import rule_of
from neuronlens.config.rules import refusal, shown
from neuronlens.config.schema import Config
from neuronlens.config.values import Expected, expected, faults, is_of
from neuronlens.errors import nearest, unknown

BY_NAME = ("edit", "gate", "head")
"""Groups of which an option is named by a key of the config, not by `group=option`."""


class Typed(NamedTuple):
    """What is wrong with overrides by themselves.

    Attributes:
        sentences: key and sentence of each problem.
        rest: the overrides that have none.
        whole: whether the rest can be composed to look for more: no option of a group is wrong.
    """

    sentences: list[tuple[str, str]]
    rest: list[str]
    whole: bool


def typed_problems(overrides: Sequence[str], folders: Sequence[Path] | None = ()) -> Typed:
    """Return what is wrong with overrides before they are composed.

    Args:
        overrides: as they are typed, without flags; none of them sweeps over jobs.
        folders: with options beside ours; None where Hydra's search path has some, so that options are not checked here.
    """
    found: list[tuple[str, str]] = []
    rest, whole = [], True
    for text in overrides:
        try:
            (override,) = OverridesParser.create().parse_overrides([text])
        except (HydraException, ValueError, OverflowError):
            key = text.partition("=")[0].strip()
            found.append((key, _unreadable(text)))
            whole = whole and "=" in text and key.strip("+~") not in group_names()
            continue
        key = override.key_or_group
        if key.startswith("hydra.sweeper.params"):
            found.append(
                (key, f"{key} stands in an experiment's file and is not typed. Next: <key>=<value>,<value> -m.")
            )
            continue
        if key.split(".")[0].split("/")[0] == "hydra":
            rest.append(text)
            continue
        is_group = key in group_names() and key not in BY_NAME and not isinstance(override._value, dict)
        sentences = list(_of_group(override, folders) if is_group else _of_key(override))
        found += [(key, sentence) for sentence in sentences]
        whole = whole and not (is_group and sentences)
        rest += [] if sentences else [text]
    return Typed(found, rest, whole)


def _unreadable(text: str) -> str:
    """Return the sentence for an override that Hydra's grammar does not read."""
    key, sign, value = text.partition("=")
    if not sign:
        return f"{shown(text)} is no override, expected key=value or group=option. Next: neuronlens --help lists both."
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return (
        f"{shown(text)} cannot be read: text with any of = : , {{ }} [ ] ( ) and spaces needs quotes, and brackets must "
        f"close. Next: \"{key}='{quoted}'\", with both kinds of quotes."
    )


def _of_group(override: Override, folders: Sequence[Path] | None) -> Iterator[str]:
    group, value = override.key_or_group, None if override.is_delete() else override.value()
    names = option_names(group, folders or ())
    if override.is_sweep_override():
        yield _several(override)
    elif override.is_delete():
        yield f"The group '{group}' cannot be taken out. Next: {group}=<option>, one of {', '.join(names)}."
    elif not isinstance(value, str):
        yield refusal(group, _python(value), f"the name of one option: {', '.join(names)}")
    elif folders is not None and not is_option(group, value, folders):
        yield unknown(f"{group} option", value, names)


def _several(override: Override) -> str:
    key, text = override.key_or_group, override.get_value_string()
    return (
        f"{key}={text} lists several values without -m. Next: -m runs one job for each; {key}=[{text}] is a list, and "
        f"{key}='{text}' in two kinds of quotes is text."
    )


def _of_key(override: Override) -> Iterator[str]:
    key = override.key_or_group
    if not key.strip():
        yield f"{shown(override.input_line)} has no key before the sign =, expected key=value."
        return
    if key in BY_NAME or "@" in key or ":" in key:
        return  # explained where Hydra refuses them
    known = schema_keys()
    free = free_mapping(key)
    if override.is_delete():
        if free is None or free == key:
            yield f"'{key}' cannot be taken out, for every key has a value. Next: {key.rpartition('.')[2]}=<value>, or null."
        return
    if free is not None and free != key:
        return  # held against what the part or reader takes
    if override.is_sweep_override():
        yield _several(override)
        return
    value = _python(override.value())
    if override.is_add() and not override.is_force_add() and key in known:
        yield f"'{key}' has a value already, so it needs no +. Next: {key}=<value>."
        return
    yield from _faults(key, value, known)


def _faults(key: str, value: Any, known: Mapping[str, Expected]) -> Iterator[str]:
    """Give the type faults of a value that is typed under a key; of a mapping those of the keys below it."""
    if isinstance(value, str) and "${" in value:
        return  # it is what it refers to
    if key in known:
        yield from _type_faults(key, value, known[key])
        return
    below = sorted({name.removeprefix(f"{key}.").partition(".")[0] for name in known if name.startswith(f"{key}.")})
    if not below:
        return  # an unknown key, explained where Hydra refuses it
    if not isinstance(value, Mapping):
        yield refusal(key, value, f"a mapping with keys of {', '.join(below)}")
        return
    for name, entry in value.items():
        inner = f"{key}.{name}"
        if str(name) not in below:
            yield unknown("option", inner, [f"{key}.{one}" for one in below])
        else:
            yield from _faults(inner, entry, known)


def _type_faults(key: str, value: Any, wanted: Expected) -> Iterator[str]:
    """Give the faults of a value that OmegaConf would not take: its type, and that of what it holds."""
    inner = (get_args(wanted.kind) or (None,))[-1]
    if get_origin(wanted.kind) is list and dataclasses.is_dataclass(inner) and isinstance(inner, type):
        yield from _records(key, value, inner)
        return
    value = as_taken(value, wanted.kind)
    if value is None and wanted.nullable:
        return
    if value is None or not is_of(value, wanted.kind):
        yield from faults(key, value, wanted)


def _records(key: str, value: Any, kind: type) -> Iterator[str]:
    """Give the faults of a list of mappings, each of which stands for a dataclass."""
    fields = {declared.name: declared for declared in dataclasses.fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    words = f"a list of mappings with keys of {', '.join(sorted(fields))}"
    if not isinstance(value, list):
        yield refusal(key, value, words)
        return
    for number, one in enumerate(value):
        if not isinstance(one, Mapping):
            yield refusal(f"{key}[{number}]", one, f"a mapping with keys of {', '.join(sorted(fields))}")
            continue
        for name, entry in one.items():
            if name not in fields:
                yield unknown(f"key of {key}", str(name), fields)
            else:
                wanted = expected(hints[name], rule_of(fields[name]))
                yield from _type_faults(f"{key}[{number}].{name}", entry, wanted)


def as_taken(value: Any, kind: Any) -> Any:
    """Return a value as OmegaConf takes it for a type: numbers as text for text, text of a number as a number.

    >>> as_taken(3, str), as_taken("3", int), as_taken("x", int), as_taken([1, "a"], list[str])
    ('3', 3, 'x', ['1', 'a'])
    """
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is list and isinstance(value, list):
        return [as_taken(one, inner[0] if inner else Any) for one in value]
    if origin is dict and isinstance(value, dict):
        return {str(name): as_taken(one, inner[1] if inner else Any) for name, one in value.items()}
    if origin is str and isinstance(value, (int, float)):
        return str(value)
    if origin in (int, float) and isinstance(value, str):
        try:
            return origin(value)
        except ValueError:
            return value
    if origin is bool and (isinstance(value, str) or value in (0, 1)):
        words = {
            "true": True,
            "yes": True,
            "on": True,
            "1": True,
            "false": False,
            "no": False,
            "off": False,
            "0": False,
        }
        return words.get(str(value).lower(), value)
    return value


def _python(value: Any) -> Any:
    """Return what the parser made of a value in Python's types, quoted text without its quotes."""
    if isinstance(value, Mapping):
        return {_python(name): _python(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_python(one) for one in value]
    return getattr(value, "text", value)


@cache
def schema_keys() -> Mapping[str, Expected]:
    """Return every key of the config with what is known of its value."""
    return {entry.key: entry.wanted for entry in entries(Config())}


def free_mapping(key: str) -> str | None:
    """Return the key of the mapping with entries of one's own that a key is or stands below; None where it does neither.

    >>> free_mapping("range.tau"), free_mapping("dataset.merge"), free_mapping("model.name")
    ('range', 'dataset.merge', None)
    """
    words, known = key.split("."), schema_keys()
    for count in range(1, len(words) + 1):
        name = ".".join(words[:count])
        if name in known and (get_origin(known[name].kind) or known[name].kind) is dict:
            return name
    return None


def near_key(key: str) -> str:
    """Return the words that name the nearest key of the schema; empty where none is near."""
    known = schema_keys()
    near = nearest(key, known) or nearest(key.rpartition(".")[2], known)
    return f" Did you mean '{near}'?" if near and near != key else ""
