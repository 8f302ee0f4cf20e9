"""The gate of a logistic regression of the concept against the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np

from neuronlens.config.rules import OneOf, more_than
from neuronlens.config.schema import WHOLE_VECTORS
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.gates.base import Decides, Evidence, Gate, Score, whole_vector_grain
from neuronlens.edits.gates.joint import best_threshold, chosen_on, of_samples
from neuronlens.records import BoolArray, FloatArray
from neuronlens.saliency.probe import standardised


class LogisticGate(Gate):
    """Open where a logistic regression's log-odds of the concept exceed a threshold.

    Fitted on standardised values with an l2 penalty, both classes weighted alike. The threshold separates the concept from
    the rest best on the select split, as the joint gate's does.
    """

    reads_range = False
    reads_ranking = False
    needs_select = True

    def __init__(
        self,
        *,
        grain: Annotated[str, OneOf(WHOLE_VECTORS)] = "position",
        c: Annotated[float, more_than(0, noun="a number")] = 0.1,
    ) -> None:
        """Decide for each position, or for each sample from the mean of its tokens.

        Args:
            c: scikit-learn's C, the inverse weight of the penalty.

        Raises:
            ConfigError: another grain.
        """
        self.grain, self.c = whole_vector_grain(grain), float(c)

    def opening(self, evidence: Evidence) -> Score | Decides:
        """Return the log-odds minus their threshold.

        Raises:
            ActivationError: the concept or all others have no sample to fit on or to choose on.
        """
        select, member = chosen_on(evidence)
        found = evidence.activations
        require_contrast(found.statistics, evidence.concept)
        score = logistic_score(found.values, found.labels == evidence.concept, self.c)
        score = replace(score, constant=score.constant - best_threshold(score(select.values), member))
        return score if self.grain == "position" else of_samples(score)


def logistic_score(values: FloatArray, member: BoolArray, c: float) -> Score:
    """Return the log-odds of a logistic regression on standardised values, as a score of the values themselves.

    Args:
        values: `[sample, neuron]`; not modified.
        member: which samples carry the concept; some must, and some must not.
        c: scikit-learn's C.
    """
    from sklearn.linear_model import LogisticRegression  # here, so that a config is checked without scikit-learn

    scaled, sigma = standardised(values)
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=2000).fit(scaled, member)
    weights = np.divide(model.coef_[0], sigma, out=np.zeros_like(sigma), where=sigma > 0)
    constant = float(model.intercept_[0] - weights @ values.mean(axis=0, dtype=np.float64))
    return Score(np.zeros_like(weights), weights, constant)
