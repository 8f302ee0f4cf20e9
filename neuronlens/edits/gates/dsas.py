"""The soft gate of DSAS: each position is edited as far as a logistic regression on principal components believes in it.

Arxiv 2512.03661 (read second-hand): x + strength h(x) (T(x) - x), h a logistic regression on the principal components of
texts' mean states, the concept's against a control's, applied token by token. The control here is every other concept.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import at_least, more_than
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.gates.base import Decides, Evidence, Gate, Score


class DsasGate(Gate):
    """Open at each position by the share h(x) = p(c | x) of a logistic regression fitted on record vectors."""

    grain = "position"
    reads_range = False
    reads_ranking = False
    needs_select = False

    def __init__(
        self,
        *,
        components: Annotated[int, at_least(1, most=100_000)] = 32,
        c: Annotated[float, more_than(0, noun="a number")] = 1.0,
    ) -> None:
        """Fit on the first `components` principal components, or as many as there are.

        Args:
            c: scikit-learn's C, the inverse weight of the penalty.
        """
        self.components, self.c = int(components), float(c)

    def opening(self, evidence: Evidence) -> Decides:
        """Return the soft decision.

        Raises:
            ActivationError: the concept or all others have no sample.
        """
        from sklearn.decomposition import PCA  # here, so that a config is checked without scikit-learn and torch
        from sklearn.linear_model import LogisticRegression

        from neuronlens.edits.gates.decisions import Quadratic

        found = evidence.activations
        require_contrast(found.statistics, evidence.concept)
        wide = found.values.astype(np.float64)
        reduce = PCA(min(self.components, *wide.shape), svd_solver="full").fit(wide)
        model = LogisticRegression(C=self.c, max_iter=2000)
        model.fit(reduce.transform(wide), found.labels == evidence.concept)
        weights = model.coef_[0] @ reduce.components_
        score = Score(np.zeros_like(weights), weights, float(model.intercept_[0] - weights @ reduce.mean_))
        return Quadratic.of(score, soft=True)
