"""How a key of the configuration is declared: its default, one sentence on what it does, and the rule of its values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import Field, field
from typing import Any, TypeVar

from neuronlens.config.rules import Rule

T = TypeVar("T")
ABOUT, RULE = "about", "rule"


def key(default: T, about: str, rule: Rule | None = None) -> T:
    """Return a dataclass field that knows what it is for; a default list or mapping is copied for each object.

    Args:
        about: one sentence.
        rule: of every value; None where the type says all.
    """
    notes = {ABOUT: about, RULE: rule}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: copy.deepcopy(default), metadata=notes)
    return field(default=default, metadata=notes)


def group(made: Callable[[], T], about: str) -> T:
    """Return a dataclass field that holds keys of its own, made by a dataclass."""
    return field(default_factory=made, metadata={ABOUT: about, RULE: None})


def about(declared: Field[Any]) -> str:
    """Return the sentence of a field; empty where it was declared without one."""
    return str(declared.metadata.get(ABOUT, ""))


def rule_of(declared: Field[Any]) -> Rule | None:
    """Return the rule of a field; None where the type says all."""
    found = declared.metadata.get(RULE)
    return found if isinstance(found, Rule) else None
