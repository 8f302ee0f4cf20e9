"""The one rule by which a difference, or any mean over concepts, is called shown: claims, tables and comparisons ask it."""

from __future__ import annotations

from typing import Literal

import numpy as np

FEWEST_CONCEPTS = 5
"""Concepts below which nothing is called shown: four differences of one sign come up by chance in one of eight cases."""
TOO_FEW: Literal["too few concepts to say"] = "too few concepts to say"
Side = Literal["above", "below", "not shown", "too few concepts to say"]


def shown_side(low: float, high: float, concepts: int, bound: float = 0.0) -> Side:
    """Return on which side of a bound a mean over concepts is shown to lie, if on any.

    Its whole interval must lie there, and the interval must be over `FEWEST_CONCEPTS` or more: with an interval of 95 %
    either side then comes up in at most 3 % of cases where nothing is there (`benchmarks/coverage.py`). Nothing is shown
    without an interval (NaN).

    Args:
        low, high: the ends of the interval.
        concepts: how many the mean is over.

    >>> shown_side(0.1, 0.3, 5), shown_side(-0.3, -0.1, 5), shown_side(-0.1, 0.3, 5), shown_side(0.1, 0.3, 4)
    ('above', 'below', 'not shown', 'too few concepts to say')
    """
    if concepts < FEWEST_CONCEPTS:
        return TOO_FEW
    if low > bound:
        return "above"
    return "below" if high < bound else "not shown"


def without_intervals(low: float, concepts: int) -> bool:
    """Return whether a mean that could have an interval has none, because a run was asked to make none."""
    return concepts >= 2 and bool(np.isnan(low))
