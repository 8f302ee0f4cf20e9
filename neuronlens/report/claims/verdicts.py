"""What a claim is held against, and the three answers there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuronlens.measures.intervals import Estimate

HOLDS, FAILS, OPEN = "holds", "does not hold", "not shown"
MOST_LISTED = 5


def judge(estimate: tuple[float, float, float], bound: float, wanted: Literal["above", "below"]) -> str:
    """Return whether an interval lies wholly on the wanted side of a bound, wholly on the other, or neither is shown.

    >>> judge((0.4, 0.3, 0.5), 0.2, "above"), judge((0.4, 0.3, 0.5), 0.2, "below"), judge((0.4, 0.1, 0.5), 0.2, "above")
    ('holds', 'does not hold', 'not shown')
    """
    _, low, high = estimate
    above, below = low > bound, high < bound  # both False without an interval
    if above or below:
        return HOLDS if above == (wanted == "above") else FAILS
    return OPEN


@dataclass(frozen=True)
class Evidence:
    """One statistic of one claim in one place.

    Attributes:
        claim: its number.
        place: site and layer.
        setting: of what (ranking, range, edit, dose, level), as people write it.
        statistic: what `estimate` is of.
        estimate: mean over concepts and the bounds of its interval.
        bound: what the rule holds the interval against; None where the statistic has no rule.
        expected: what chance, or exact Gaussians, would give; None where that has no number.
        concepts: how many the mean is over.
        verdict: `holds`, `does not hold`, `not shown`; None where the statistic has no rule.
        against: the concepts and neurons that go against the claim, worst first.
        detail: figures behind the estimate.
    """

    claim: int
    place: str
    setting: str
    statistic: str
    estimate: Estimate
    bound: float | None
    expected: float | None
    concepts: int
    verdict: str | None
    against: str = ""
    detail: str = ""

    def row(self) -> dict[str, Any]:
        """Return the evidence as a row of the claims table."""
        row = asdict(self)
        return row | Estimate(*row.pop("estimate")).columns("value")


def listed(entries: Iterable[str], most: int = MOST_LISTED) -> str:
    """Return some entries in a sentence, and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    every = list(entries)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
