"""The gate of dynamic SAE guardrails (DSG-like): open for a text in which the chosen units fire at many positions.

DynamicSAEGuardrails, `intervention.py`, read second-hand: a text is edited where the share of its positions at which any
chosen unit is open exceeds alpha, the 95th percentile of that share on text to be retained. A unit is here a salient
neuron, open inside the concept's range, and the text to be retained that of the other concepts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from neuronlens.config.rules import between
from neuronlens.edits.gates.base import Decides, Evidence, Gate
from neuronlens.edits.gates.joint import chosen_on


class DsgGate(Gate):
    """Open for a whole sample where the share of its positions with any salient neuron in range is above alpha.

    Shares are counted on tokens, so they must be what is fitted on. In a causal model the share is that of the tokens so far.
    """

    grain = "sample"
    reads_range = True
    reads_ranking = True
    needs_select = True
    reads_tokens = True

    def __init__(self, *, percentile: Annotated[float, between(0, 1, noun="a share")] = 0.95) -> None:
        """Take alpha at this percentile, a share in [0, 1], of the other concepts' texts of the select split."""
        self.percentile = float(percentile)

    def opening(self, evidence: Evidence) -> Decides:
        """Return the share minus alpha.

        Raises:
            ActivationError: the select split holds the concept in all or in none of its texts.
        """
        import torch  # here, so that a config is checked without it

        from neuronlens.edits.gates.decisions import FiringShare

        select, _ = chosen_on(evidence)
        assert evidence.intervals is not None, "a gate that reads a range is given one"
        lower, upper = (torch.from_numpy(bound[:, evidence.salient].astype(np.float64)) for bound in evidence.intervals)
        units = torch.from_numpy(np.flatnonzero(evidence.salient))
        share = FiringShare(units, lower, upper, 0.0, over="so_far")
        found, labels = share.of_texts(select)
        alpha = np.quantile(found[labels != evidence.concept], self.percentile, method="higher")
        return replace(share, threshold=float(alpha))
