"""The gates that read a range: open inside the concept's intervals, or outside of them."""

from __future__ import annotations

from neuronlens.edits.gates.base import Evidence, Gate
from neuronlens.ranges.intervals import Intervals, complement


class RangeGate(Gate):
    """Open where a value lies in the concept's range."""

    grain = "value"
    reads_range = True
    reads_ranking = False
    needs_select = False

    def opening(self, evidence: Evidence) -> Intervals:
        """Return the range itself."""
        assert evidence.intervals is not None, "a gate that reads a range is given one"
        return evidence.intervals


class OutsideGate(RangeGate):
    """Open where a value lies outside of the concept's range: a control."""

    def opening(self, evidence: Evidence) -> Intervals:
        """Return the range's complement."""
        return complement(*super().opening(evidence))
