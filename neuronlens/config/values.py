"""Compares a value with an annotated type and its rule, and says types in words."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from neuronlens.config.rules import Bounds, OneOf, Rule, refusal

WORDS: Mapping[object, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "truth values"),
    str: ("text", "texts"),
    list: ("a list", "lists"),
    dict: ("a mapping", "mappings"),
}
"""Types in words, one and several."""


class Expected(NamedTuple):
    """What is known of a value before it is there.

    Attributes:
        kind: its type without null and without notes; `Any` where any will do.
        nullable: whether null will do.
        rules: what it must hold beside its type.
    """

    kind: Any
    nullable: bool
    rules: tuple[Rule, ...]

    @property
    def words(self) -> str:
        """The type in words: `a list of numbers, or null`; empty where any will do."""
        found = _words(self.kind)
        return f"{found}, or null" if self.nullable and found else found


def expected(annotation: Any, rule: Rule | None = None) -> Expected:
    """Return what an annotation says of a value: its type, null and the rules that are noted in `Annotated`.

    >>> expected(int | None).words, expected(list[float]).words
    ('a whole number, or null', 'a list of numbers')
    """
    rules: tuple[Rule, ...] = () if rule is None else (rule,)
    nullable = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *notes = get_args(annotation)
            rules += tuple(note for note in notes if isinstance(note, Rule))
        elif get_origin(annotation) in (Union, types.UnionType):
            kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
            nullable = nullable or len(kinds) < len(get_args(annotation))
            annotation = kinds[0] if len(kinds) == 1 else Any  # a choice of types is the part's own affair
        elif get_origin(annotation) is Literal:
            names = get_args(annotation)
            if not all(isinstance(name, str) for name in names):
                return Expected(Any, nullable, rules)
            annotation, rules = str, (*rules, OneOf(names))
        else:
            return Expected(annotation, nullable, rules)


def faults(key: str, value: Any, wanted: Expected) -> list[str]:
    """Return one sentence per problem of a value: its type first, and where that is right its rules."""
    if value is None and wanted.nullable:
        return []
    if not is_of(value, wanted.kind):
        held = ", ".join(rule.words for rule in wanted.rules)
        words = held if held.startswith(wanted.words) else f"{wanted.words}, {held}".rstrip(", ")
        return [refusal(key, value, words)]
    rules = wanted.rules or ((Bounds(),) if wanted.kind is float else ())
    return [fault for rule in rules for fault in rule.faults(key, value)]


def is_of(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type; a whole number is a number, a truth value is neither."""
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin is bool:
        return isinstance(value, bool)
    if origin is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if origin is float:
        return isinstance(value, Real) and not isinstance(value, bool) and _fits_a_float(value)
    if origin is str:
        return isinstance(value, str)
    if origin in (list, Sequence):
        entry = inner[0] if inner else Any
        return isinstance(value, (list, tuple)) and all(is_of(one, entry) for one in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(is_of(one, inner[1] if inner else Any) for one in value.values())
    return True


def _fits_a_float(value: Real) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _words(kind: Any) -> str:
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin not in WORDS:
        return ""
    several = WORDS.get(inner[-1], ("", ""))[1] if inner else ""
    return f"{WORDS[origin][0]} of {several}" if several else WORDS[origin][0]
