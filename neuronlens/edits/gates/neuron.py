"""The gate that decides nothing: the whole neuron is edited, the baseline of every range."""

from __future__ import annotations

import numpy as np

from neuronlens.edits.gates.base import Evidence, Gate
from neuronlens.ranges.intervals import WHOLE, Intervals


class NeuronGate(Gate):
    """Open for every value."""

    grain = None
    reads_range = False
    reads_ranking = False
    needs_select = False

    def opening(self, evidence: Evidence) -> Intervals:
        """Return the whole neuron."""
        neurons = len(evidence.salient)
        return np.full((1, neurons), WHOLE[0]), np.full((1, neurons), WHOLE[1])
