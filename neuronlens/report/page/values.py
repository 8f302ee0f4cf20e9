"""Numbers and knobs as the page's JSON holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

Json = dict[str, Any]


def rounded(values: Iterable[Any], digits: int = 5) -> list[float | str | None]:
    """Return numbers at some significant digits; NaN becomes None and infinity text, for JSON has no word for them.

    >>> rounded([0.123456789, float("nan"), float("inf")])
    [0.12346, None, 'inf']
    """
    found: list[float | str | None] = []
    for value in values:
        if value is None or pd.isna(value):
            found.append(None)
        else:
            number = float(value)
            found.append(float(f"{number:.{digits}g}") if math.isfinite(number) else str(number))
    return found


def plain_knobs(values: Iterable[Any]) -> list[Any]:
    """Return a column of knobs as JSON: text, numbers, None where the knob plays no part."""
    return [value if isinstance(value, str) else rounded([value])[0] for value in values]
