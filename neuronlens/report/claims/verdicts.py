"""What a claim is held against, and the four answers there are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from neuronlens.measures.estimates import Estimate
from neuronlens.measures.verdict import TOO_FEW, shown_side

HOLDS, FAILS, OPEN = "holds", "does not hold", "not shown"
VERDICTS = (HOLDS, FAILS, OPEN, TOO_FEW)
MOST_LISTED = 5


def judge(estimate: tuple[float, float, float], bound: float, wanted: Literal["above", "below"], concepts: int) -> str:
    """Return whether a mean over concepts is shown to lie on the wanted side of a bound, on the other, or on neither.

    >>> judge((0.4, 0.3, 0.5), 0.2, "above", 8), judge((0.4, 0.3, 0.5), 0.2, "below", 8)
    ('holds', 'does not hold')
    >>> judge((0.4, 0.1, 0.5), 0.2, "above", 8), judge((0.4, 0.3, 0.5), 0.2, "above", 4)
    ('not shown', 'too few concepts to say')
    """
    _, low, high = estimate
    side = shown_side(low, high, concepts, bound)
    if side in ("above", "below"):
        return HOLDS if side == wanted else FAILS
    return side


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
        verdict: `holds`, `does not hold`, `not shown`, `too few concepts to say`; None where the statistic has no rule.
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
