"""Writes `docs/reference/config.md`: every group's options and every key, read off the schema and the YAML files alone."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from neuronlens.config.entries import Entry
from neuronlens.config.groups import default_options, group_names, option_names, package, phrase
from neuronlens.config.help import every_entry
from neuronlens.config.rules import shown

PAGE = Path("docs") / "reference" / "config.md"
INTRODUCTION = """\
# Configuration

Made by `make reference` from the schema and the YAML files in `conf/`; a test fails where it is stale.

Everything is typed as `group=option` or `key=value` after `neuronlens`. An option sets several keys at once, and what is typed
as a key counts last. The default of a key is the one that holds where no option and no experiment sets another;
`neuronlens run --cfg job` prints the values of a run. `neuronlens help KEY` prints a row of this page.
"""
HEADING = "| key | type | default | expected | what it does |\n|---|---|---|---|---|"


def page() -> str:
    """Return the whole page as Markdown."""
    every = list(every_entry())
    parts = [INTRODUCTION, "## The run itself\n", _table([entry for _, entry in every if "." not in entry.key])]
    groups = group_names()
    prefixes = [package(group) for group in groups]
    for group in groups:
        parts += [f"\n## {group}\n", *_options(group)]
        prefix = package(group)
        own = [one for one in every if prefix and one[1].key.startswith(f"{prefix}.")]
        own = [one for one in own if not _stands_deeper(one[1].key, prefix, prefixes)]
        for option, rows in itertools.groupby(own, key=lambda one: one[0]):
            parts += [f"\nKeys with `{option}`:\n" if option else "\nKeys:\n", _table([entry for _, entry in rows])]
    return "\n".join(parts).rstrip() + "\n"


def _stands_deeper(key: str, prefix: str, prefixes: Sequence[str]) -> bool:
    """Return whether a key has its row under a group inside this one."""
    return any(len(other) > len(prefix) and key.startswith(f"{other}.") for other in prefixes)


def _options(group: str) -> Iterator[str]:
    default = default_options().get(group)
    yield f"| `{group}=` | what it is |\n|---|---|"
    for name in option_names(group):
        yield f"| `{name}`{' (default)' if name == default else ''} | {_escaped(phrase(group, name))} |"


def _table(rows: Sequence[Entry]) -> str:
    lines = [
        [f"`{entry.key}`", entry.wanted.words, f"`{shown(entry.value)}`", _escaped(entry.rule), _escaped(entry.about)]
        for entry in rows
    ]
    return "\n".join([HEADING, *(f"| {' | '.join(cells)} |" for cells in lines)])


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("|", "\\|")


def main(arguments: Sequence[str]) -> None:
    """Write the page to the path given, or to its place in the checkout that this is run in."""
    path = Path(arguments[0]) if arguments else PAGE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
