"""What a value must hold, as small rules that check a value and say in words what they expect."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neuronlens.errors import unknown

LONGEST_SHOWN = 60
"""Characters of a wrong value that a message shows."""


class Rule(ABC):
    """Something that a value of the right type must hold."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What is expected, as it stands after the word "expected"."""

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """Return whether a value of the right type is as expected."""

    def faults(self, key: str, value: Any) -> list[str]:
        """Return one sentence per problem of the value that stands under `key`."""
        return [] if self.holds(value) else [refusal(key, value, self.words)]


def refusal(key: str, value: Any, expected: str) -> str:
    """Return the sentence for a value that is not as expected.

    >>> refusal("seed", -1, "at least 0")
    'seed is -1, expected at least 0.'
    """
    return f"{key} is {shown(value)}, expected {expected}."


def shown(value: Any) -> str:
    """Return a value as messages show it, on one line: null for None, text in quotes, long ones cut.

    >>> shown("wide"), shown(None), shown(True), shown(0.5)
    ("'wide'", 'null', 'true', '0.5')
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}...")
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


@dataclass(frozen=True)
class Bounds(Rule):
    """A number from `low` to `high`, never NaN.

    Attributes:
        low_open, high_open: whether the bound itself is refused.
        noun: what the number is ("a share"); without one the words are those of a count ("at least 1").
        unit: what is counted ("tokens").
        infinity: what inf means, where it is allowed.
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False
    noun: str = ""
    unit: str = ""
    infinity: str = ""

    @property
    def words(self) -> str:
        """The bounds: an interval where a noun says what the number is, else the least and the most.

        >>> between(0, 1, "[)", noun="a share").words, at_least(1, unit="token", most=64).words
        ('a share in [0, 1)', 'at least 1 token and at most 64')
        """
        if self.noun and math.isfinite(self.low) and math.isfinite(self.high):
            ends = "(" if self.low_open else "[", ")" if self.high_open else "]"
            return f"{self.noun} in {ends[0]}{self.low:.10g}, {self.high:.10g}{ends[1]}"
        least, most = _digits(self.low), _digits(self.high)
        bounds = []
        if math.isfinite(self.low):
            bounds.append(
                f"{'above' if self.low_open else '>=' if self.noun else 'at least'} {least} {self.unit}".strip()
            )
        if math.isfinite(self.high):
            bounds.append(f"{'below' if self.high_open else 'at most'} {most}")
        found = f"{self.noun or ('' if bounds else 'a finite number')} {' and '.join(bounds)}".strip()
        return f"{found} ({self.infinity})" if self.infinity else found

    def holds(self, value: float) -> bool:
        """Return whether the number is inside the bounds."""
        if value in (math.inf, -math.inf) and not self.infinity:  # math.isinf fails for whole numbers past a float's
            return False
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)


def _digits(number: float) -> str:
    return f"{number:,.0f}" if math.isfinite(number) and number == int(number) else str(number)


def at_least(low: float, *, most: float = math.inf, noun: str = "", unit: str = "", infinity: str = "") -> Bounds:
    """Return the rule for a number that is `low` or more, and `most` or less."""
    return Bounds(low, most, noun=noun, unit=unit, infinity=infinity)


def more_than(low: float, *, most: float = math.inf, noun: str = "") -> Bounds:
    """Return the rule for a number above `low`, and `most` or less."""
    return Bounds(low, most, low_open=True, noun=noun)


def between(low: float, high: float, ends: str = "[]", *, noun: str = "a number") -> Bounds:
    """Return the rule for a number in an interval; `ends` are its brackets, `(` and `)` for a bound that is left out."""
    return Bounds(low, high, low_open=ends[0] == "(", high_open=ends[1] == ")", noun=noun)


@dataclass(frozen=True)
class OneOf(Rule):
    """One of some names; `names` may be a function, which is asked anew for each value."""

    names: tuple[str, ...] | Callable[[], Sequence[str]]

    @property
    def known(self) -> tuple[str, ...]:
        """The names there are."""
        return self.names if isinstance(self.names, tuple) else tuple(self.names())

    @property
    def words(self) -> str:
        """The names, in their own order."""
        return f"one of {', '.join(self.known)}"

    def holds(self, value: str) -> bool:
        """Return whether the name is known."""
        return value in self.known

    def faults(self, key: str, value: str) -> list[str]:
        """Return the sentence for an unknown name, with the nearest one."""
        return [] if self.holds(value) else [unknown(key, shown(value)[1:-1], self.known)]


@dataclass(frozen=True)
class Holding(Rule):
    """Anything for which a function says yes; `words` say what that is."""

    test: Callable[[Any], bool]
    words: str = ""

    def holds(self, value: Any) -> bool:
        """Return what the function says."""
        return self.test(value)


def slot(mark: str) -> Holding:
    """Return the rule for text in which a placeholder stands once."""
    return Holding(lambda text: text.count(mark) == 1, f"one {mark} in it")


def matching(pattern: str, words: str) -> Holding:
    """Return the rule for text that a regular expression matches from end to end."""
    return Holding(lambda text: re.fullmatch(pattern, text, re.DOTALL) is not None, words)


SEED = at_least(0, most=2**32 - 1)
"""NumPy's and scikit-learn's generators take no larger one."""
FILLED = matching(r".*\S.*", "some text")
TOKENS = at_least(1, unit="token", most=1_000_000)
FRACTION = between(0, 1, noun="a fraction")
TAU = at_least(0, noun="a number", infinity="inf is the whole neuron")
