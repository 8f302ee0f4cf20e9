"""Each kind of rule: what it lets through, what it refuses, and the words it refuses with."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronlens.config.containers import Joined, ListOf, Nullable, ValuesOf
from neuronlens.config.rules import (
    FILLED,
    FRACTION,
    SEED,
    TAU,
    Bounds,
    Holding,
    OneOf,
    Rule,
    at_least,
    between,
    matching,
    more_than,
    shown,
    slot,
)

INF, NAN = math.inf, math.nan
NAMES = OneOf(("zero", "mean"))
RULES: list[tuple[Rule, list[Any], list[Any], str]] = [
    (at_least(1), [1, 2, 10**400], [0, -1, NAN, INF, -INF], "at least 1"),
    (at_least(2, unit="tokens", most=9), [2, 9], [1, 10], "at least 2 tokens and at most 9"),
    (at_least(1, most=65_536), [65_536], [65_537], "at least 1 and at most 65,536"),
    (more_than(0), [0.1], [0, -1.0, NAN, INF], "above 0"),
    (more_than(0, most=10, noun="a rate"), [10], [0, 10.5], "a rate in (0, 10]"),
    (between(0, 1), [0, 0.5, 1], [-0.1, 1.1, NAN], "a number in [0, 1]"),
    (between(0, 1, "()", noun="a share"), [0.5], [0, 1], "a share in (0, 1)"),
    (between(0, 1, "[)", noun="a factor"), [0], [1], "a factor in [0, 1)"),
    (between(0, 0.5, "(]", noun="a share"), [0.5], [0], "a share in (0, 0.5]"),
    (between(-1e6, 1e6, noun="a finite number"), [-1e6], [1e308], "a finite number in [-1000000, 1000000]"),
    (Bounds(), [0, -1e308], [NAN, INF, -INF], "a finite number"),
    (TAU, [0, 2.5, INF], [-1, -INF, NAN], "a number >= 0 (inf is the whole neuron)"),
    (SEED, [0, 2**32 - 1], [-1, 2**32], "at least 0 and at most 4,294,967,295"),
    (NAMES, ["zero"], ["zeroo", ""], "one of zero, mean"),
    (OneOf(lambda: ["late"]), ["late"], ["early"], "one of late"),
    (Joined(NAMES), ["zero", "mean+zero"], ["zero+", "means"], "one of zero, mean, or several joined by +"),
    (slot("{text}"), ["a {text}"], ["a", "{text}{text}"], "one {text} in it"),
    (matching("[a-f]{2}", "two letters"), ["ab"], ["abc", "a\n"], "two letters"),
    (FILLED, ["a", " \n b"], ["", " \n"], "some text"),
    (Holding(lambda value: value is True, "yes"), [True], [1], "yes"),
    (ListOf(FRACTION), [[0, 1]], [[], [2]], "one or more, each a fraction in [0, 1]"),
    (ListOf(NAMES, least=0), [[], ["zero"]], [["one"]], "each one of zero, mean"),
    (ValuesOf(FRACTION), [{}, {"a": 1}], [{"a": 2}], "each a fraction in [0, 1]"),
    (Nullable(at_least(1), "all"), [None, 1], [0], "at least 1, or null for all"),
    (Nullable(at_least(1)), [None], [0], "at least 1, or null"),
]


@pytest.mark.parametrize(("rule", "good", "bad", "words"), RULES, ids=[entry[3] for entry in RULES])
def test_a_rule_lets_through_refuses_and_says_what_it_expects(
    rule: Rule, good: list[Any], bad: list[Any], words: str
) -> None:
    assert rule.words == words
    for value in good:
        assert rule.holds(value)
        assert rule.faults("key", value) == []
    for value in bad:
        assert not rule.holds(value)
        (sentence,) = rule.faults("key", value)
        assert "key" in sentence
        assert sentence.endswith((".", "null."))


def test_names_are_answered_with_the_nearest() -> None:
    assert NAMES.faults("edit", "zeroo") == ["Unknown edit 'zeroo'. Did you mean 'zero'? Available: mean, zero."]
    assert len(Joined(NAMES).faults("edit", "zeroo+meen+zeroo")) == 2


def test_every_wrong_entry_is_named_once_and_under_its_own_key() -> None:
    assert ListOf(FRACTION).faults("top", [2, 0.5, 3, 2]) == [
        "top is 2, expected a fraction in [0, 1].",
        "top is 3, expected a fraction in [0, 1].",
    ]
    assert ValuesOf(FILLED).faults("files", {"train": "a", "test": ""}) == ["files.test is '', expected some text."]


def test_names_of_a_function_are_asked_anew() -> None:
    known = ["zero"]
    rule = OneOf(lambda: known)
    assert not rule.holds("mean")
    known.append("mean")
    assert rule.holds("mean")


@given(st.text())
def test_a_shown_value_is_one_short_line(text: str) -> None:
    assert len(shown(text).splitlines()) == 1
    assert len(shown("a" * 1000 + text)) < 70


@given(st.floats(), st.floats(-10, 10), st.floats(-10, 10))
def test_an_interval_holds_what_lies_inside(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert between(low, high).holds(value) == (low <= value <= high)
    assert between(low, high, "()").holds(value) == (low < value < high)
