"""What an edit that contrasts a concept with the others needs: samples of both."""

from __future__ import annotations

from neuronlens.errors import ActivationError
from neuronlens.records import ConceptStatistics


def missing_samples(statistics: ConceptStatistics, concept: int) -> str | None:
    """Return why a contrast of this concept with the others cannot be fitted, or None where it can."""
    count = int(statistics.count[concept])
    others = int(statistics.count.sum()) - count
    if count and others:
        return None
    return f"{count} samples of the concept and {others} of the others, expected at least 1 of each"


def require_contrast(statistics: ConceptStatistics, concept: int) -> None:
    """Refuse statistics in which a concept or its complement has no sample.

    Raises:
        ActivationError: one of both has none.
    """
    reason = missing_samples(statistics, concept)
    if reason:
        raise ActivationError(f"Concept {concept} has {reason}.")
