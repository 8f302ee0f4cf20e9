"""Types and rules read off annotations, and values that are or are not of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from neuronlens.config.rules import FRACTION, at_least
from neuronlens.config.values import expected, faults

NAN = float("nan")


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (int, [0, -3, np.int64(2)], [1.0, True, "1", None, NAN], "a whole number"),
        (float, [0, 1.5, np.float32(2)], [True, "1", None, NAN, float("inf"), 10**400], "a number"),
        (bool, [True, False], [0, "true", None], "true or false"),
        (str, ["", "a"], [1, None, ["a"]], "text"),
        (int | None, [None, 1], ["1"], "a whole number, or null"),
        (list[float], [[], [1, 2.5]], [1.0, ["a"], "ab"], "a list of numbers"),
        (Sequence[str], [("a",)], [[1]], ""),
        (dict[str, str], [{}, {"a": "b"}], [{"a": 1}, []], "a mapping of texts"),
        (dict[str, Any], [{"a": 1}], [3], "a mapping"),
        (Any, [None, 1, "a"], [], ""),
        (int | str, [1, "a", 2.5], [], ""),
        (Literal["a", "b"], ["a"], ["c", 1], "text"),
        (Literal[1, 2], [1, 7], [], ""),
        (Annotated[int, at_least(1)], [1], [0, 1.5], "a whole number"),
        (Annotated[float | None, FRACTION], [None, 0.5], [2, "a"], "a number, or null"),
        (Annotated[int, "a note of somebody else's"], [1], ["a"], "a whole number"),
    ],
)
def test_a_value_is_compared_with_its_annotation(annotation: Any, good: list[Any], bad: list[Any], words: str) -> None:
    wanted = expected(annotation)
    assert wanted.words == words
    for value in good:
        assert faults("key", value, wanted) == []
    for value in bad:
        (sentence,) = faults("key", value, wanted)
        assert sentence.startswith(("key is ", "Unknown key "))


def test_a_wrong_type_is_told_with_type_and_rule() -> None:
    wanted = expected(Annotated[int, at_least(1)])
    assert faults("seed", "one", wanted) == ["seed is 'one', expected a whole number, at least 1."]
    assert faults("seed", 0, wanted) == ["seed is 0, expected at least 1."]
