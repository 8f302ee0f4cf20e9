"""Every key of a configuration with its value and all that was declared of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, get_type_hints

from neuronlens.config.keys import about, rule_of
from neuronlens.config.values import Expected, expected


class Entry(NamedTuple):
    """One key.

    Attributes:
        key: dotted, as it is typed: `dataset.prompt.shots`.
        value: what stands there.
        wanted: its type and rules.
        about: one sentence on what it does.
        noted: the rule in words, where the rule itself is not at hand.
    """

    key: str
    value: Any
    wanted: Expected
    about: str
    noted: str = ""

    @property
    def rule(self) -> str:
        """What a value must hold beside its type, in words; empty where the type says all."""
        return self.noted or ", ".join(rule.words for rule in self.wanted.rules)


def entries(config: Any, prefix: str = "") -> Iterator[Entry]:
    """Give every key below a config dataclass, in the order of declaration, those of dataclasses in lists included."""
    hints = get_type_hints(type(config), include_extras=True)
    for declared in fields(config):
        key, value = f"{prefix}{declared.name}", getattr(config, declared.name)
        if is_dataclass(value):
            yield from entries(value, f"{key}.")
        elif isinstance(value, list) and value and all(map(is_dataclass, value)):
            for number, one in enumerate(value):
                yield from entries(one, f"{key}[{number}].")
        else:
            yield Entry(key, value, expected(hints[declared.name], rule_of(declared)), about(declared))
