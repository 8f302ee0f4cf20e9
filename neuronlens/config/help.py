"""What `neuronlens --help` and `neuronlens help KEY` print, read off the schema and the YAML files alone."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from neuronlens.config.entries import Entry, entries
from neuronlens.config.groups import default_options, group_names, option_names, package, part_entries, phrase
from neuronlens.config.rules import shown
from neuronlens.config.schema import Config
from neuronlens.errors import ConfigError, nearest

WIDTH = 120
INDENT = "      "
CLOSING = "An option or an experiment may set another value than the default: neuronlens run --cfg job prints them all."


def overview(folders: Sequence[Path] = ()) -> str:
    """Return every group with its options, the one that is taken where none is typed marked by a star.

    Args:
        folders: with options beside ours.
    """
    defaults = default_options()
    lines = ["Groups and their options (* where none is typed):"]
    for group in group_names():
        marked = [f"{name}*" if defaults.get(group) == name else name for name in option_names(group, folders)]
        lines += textwrap.wrap(
            ", ".join(marked),
            WIDTH,
            initial_indent=f"  {group:<22} ",
            subsequent_indent=" " * 25,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def described(word: str, folders: Sequence[Path] = ()) -> str:
    """Return type, default, rule and sentence of a key, of all keys below it, or of all keys with this last name.

    Args:
        word: a key (`dataset.prompt.shots`), the beginning of some (`dataset.prompt`), a last name (`tau`), or a group
            (`evaluation/documents`), whose options are listed first.
        folders: with options beside ours.

    Raises:
        ConfigError: there is no such key or group.
    """
    groups = group_names()
    prefix = package(word) if word in groups else word
    found = [
        (option, entry)
        for option, entry in every_entry(folders)
        if prefix and (f"{entry.key}.".startswith(f"{prefix}.") or entry.key.endswith(f".{prefix}"))
    ]
    if not found and word not in groups:
        keys = [entry.key for _, entry in every_entry(folders)]
        near = nearest(word, [*groups, *keys, *(key.rpartition(".")[0] for key in keys)])
        meant = f" Did you mean '{near}'?" if near else ""
        raise ConfigError(f"Unknown key or group '{word}'.{meant} Next: neuronlens --help lists the groups.")
    lines = [f"Options of {word}:", *_options(word, folders), ""] if word in groups else []
    for option, own in itertools.groupby(sorted(found, key=lambda one: bool(one[0])), key=lambda one: one[0]):
        lines += [f"With {option}:"] if option else []
        lines += [line for _, entry in own for line in _lines(entry)]
    return "\n".join([*lines, "", CLOSING] if found else lines).rstrip()


def every_entry(folders: Sequence[Path] = ()) -> Iterator[tuple[str, Entry]]:
    """Give every key there is, each with the option that it needs (`range=gaussian`) or empty text.

    Args:
        folders: with options beside ours.
    """
    groups = {package(group): group for group in group_names()}
    for entry in entries(Config()):
        group = groups.get(entry.key, "")
        options = option_names(group, folders) if group else []
        own = [(f"{group}={option}", one) for option in options for one in part_entries(group, option, folders)]
        yield from own or [("", entry)]


def _options(group: str, folders: Sequence[Path]) -> Iterator[str]:
    default = default_options().get(group)
    for name in option_names(group, folders):
        line = f"{phrase(group, name, folders)}{' (where none is typed)' if name == default else ''}"
        yield from textwrap.wrap(line, WIDTH, initial_indent=f"  {name:<20} ", subsequent_indent=" " * 23)


def _lines(entry: Entry) -> Iterator[str]:
    yield f"  {entry.key}"
    rule = f" Expected: {entry.rule}." if entry.rule else ""
    kind = f"{entry.wanted.words}, default" if entry.wanted.words else "default"
    yield from textwrap.wrap(entry.about, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    line = f"{kind[0].upper()}{kind[1:]} {shown(entry.value)}.{rule}"
    yield from textwrap.wrap(line, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
