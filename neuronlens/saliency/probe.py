"""Saliency by the weights of a linear probe."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Annotated

import numpy as np

from neuronlens.config.rules import SEED, at_least, more_than
from neuronlens.errors import ConfigError
from neuronlens.records import ActivationSet, FloatArray, IntArray
from neuronlens.saliency.base import Ranker
from neuronlens.saliency.ranking import NeuronRanking

log = logging.getLogger(__name__)


def standardised(values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the values with mean 0 and deviation 1 per neuron, and the deviations they had (ddof 0), both float64.

    A constant neuron becomes 0, with deviation 0.

    >>> standardised(np.array([[1.0, 0.1], [3.0, 0.1]]))[0].tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    wide = values.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    # By its extremes: the computed deviation of a constant can be a rounding error and not 0.
    constant = wide.min(axis=0) == wide.max(axis=0)
    sigma = np.where(constant, 0.0, np.sqrt(np.mean(centred**2, axis=0)))
    return np.divide(centred, sigma, out=np.zeros_like(centred), where=sigma > 0), sigma


def probe_weights(
    values: FloatArray, labels: IntArray, *, concepts: int, l1: float, l2: float, max_iter: int, tol: float, seed: int
) -> FloatArray:
    """Return the weights of a multinomial logistic regression with elastic net.

    Minimises mean over samples of -log softmax(W x + b)_y + l1 sum abs(W) + l2 / 2 sum W^2, b free. scikit-learn
    minimises C sum(loss) + l1_ratio sum abs(W) + (1 - l1_ratio) / 2 sum W^2, hence C = 1 / (n (l1 + l2)) and
    l1_ratio = l1 / (l1 + l2). Without an l1 penalty the problem is smooth and L-BFGS solves it; with one, SAGA does. For
    two concepts scikit-learn fits one row w, the difference of ours: W = (-w / 2, w / 2) is the symmetric solution of the
    same problem, whose squares sum to w^2 / 2, hence half of l2 there.

    Args:
        values: `[sample, neuron]`, standardised; not modified.
        labels: concept index `[sample]`.
        tol: largest change of a weight in an epoch, relative to the largest weight, at which SAGA stops; L-BFGS stops
            where no slope of the loss is above a thousandth of it.

    Returns:
        `[concept, neuron]` float64; NaN for a concept that has no sample, or all of them. Where the solver stops at
        `max_iter` epochs first, the weights it has, and a warning in the log.
    """
    from sklearn.exceptions import ConvergenceWarning  # here, so that a config is checked without scikit-learn
    from sklearn.linear_model import LogisticRegression

    weights = np.full((concepts, values.shape[1]), np.nan)
    present = np.unique(labels)
    if len(present) < 2:
        return weights
    square = l2 / 2 if len(present) == 2 else l2
    total = l1 + square
    smooth = l1 == 0
    model = LogisticRegression(
        C=1 / (len(labels) * total) if total > 0 else math.inf,
        l1_ratio=l1 / total if total > 0 else 0.0,
        solver="lbfgs" if smooth else "saga",
        max_iter=max_iter,
        tol=tol / 1000 if smooth else tol,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the log says it instead, below
        model.fit(values, labels)
    if model.n_iter_.max() >= max_iter:
        log.warning(
            "The probe stopped after %d iterations short of tolerance %g. Next: saliency.max_iter higher, or l1 or l2.",
            max_iter,
            tol,
        )
    weights[present] = np.concatenate([-model.coef_, model.coef_]) / 2 if len(present) == 2 else model.coef_
    return weights


class ProbeSaliency(Ranker):
    """Scores a neuron by abs(W_cj) of a linear probe on standardised activations (SPEC section 2, `probe`).

    The default has no l1 penalty: the penalty makes most weights exactly zero (317 of 384 at 1e-3 on the default run's
    activations), and weights that are zero rank nothing. Without it every neuron has a weight of its own, the minimum is
    unique (l2 above 0), and L-BFGS reaches it about a hundred times faster than SAGA, which a path of l1 penalties would
    need once for each. With l1 above 0 neurons of weight zero are ordered by a second score, d' (TRAPS 40).

    Source: Dalvi et al. 2019; NeuroX' linear_probe, which adds l2 times the *norm* of W where this adds half its square.
    """

    def __init__(
        self,
        *,
        l1: Annotated[float, at_least(0, noun="a number")] = 0.0,
        l2: Annotated[float, at_least(0, noun="a number")] = 1e-3,
        scaled_by_std: bool = False,
        max_iter: Annotated[int, at_least(1, most=1_000_000)] = 200,
        tol: Annotated[float, more_than(0, noun="a number")] = 1e-3,
        seed: Annotated[int, SEED] = 0,
    ) -> None:
        """Fit with weights `l1` and `l2` of the two penalties, on the scale of the mean loss per sample in nats.

        Args:
            scaled_by_std: multiply the scores by sigma_j, the neuron's deviation over all samples.
            max_iter: iterations of the solver at most: epochs of SAGA, or of L-BFGS where l1 is 0.
            tol: relative change of the weights at which SAGA stops, 1000 times the slope at which L-BFGS does.
            seed: of the order in which SAGA visits the samples; L-BFGS visits all at once.

        Raises:
            ConfigError: a penalty is negative, or max_iter or tol is not positive.
        """
        for name, value in (("l1", l1), ("l2", l2)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"saliency.{name} is {value}, expected a finite number >= 0.")
        if max_iter < 1 or not tol > 0:
            raise ConfigError(f"saliency.max_iter is {max_iter} and saliency.tol {tol}, expected both above 0.")
        self.l1, self.l2, self.scaled_by_std = l1, l2, scaled_by_std
        self.max_iter, self.tol, self.seed = max_iter, tol, seed

    def rank(self, activations: ActivationSet) -> NeuronRanking:
        """Return scores `[concept, neuron]`; NaN for a concept that has no sample, or all; 0 for a constant neuron."""
        values, sigma = standardised(activations.values)
        weights = probe_weights(
            values,
            activations.labels,
            concepts=len(activations.concepts),
            l1=self.l1,
            l2=self.l2,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=self.seed,
        )
        scores = np.abs(weights)
        return NeuronRanking("probe", scores * sigma if self.scaled_by_std else scores, activations.concepts)
