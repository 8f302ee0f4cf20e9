"""The discriminant gate: a range on the one direction that tells a concept from the rest, in front of any edit.

The coordinate is z = w_c . (x - m), w_c = Sigma^-1 delta_c / (delta_c' Sigma^-1 delta_c), delta_c = mu_c - mu_notc: Fisher's
discriminant in units of delta_c, so that a step of z along delta_c is LEACE's own move (`edits/leace.py`). A range on it is
the interval of a rotated neuron.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np

from neuronlens.config.rules import TAU, OneOf, between
from neuronlens.config.schema import COVARIANCES
from neuronlens.edits.contrast import require_contrast
from neuronlens.edits.gates.base import Evidence, Gate, Score
from neuronlens.edits.gates.joint import best_threshold
from neuronlens.edits.shrinkage import Whitened, shrinkage_of, whitened
from neuronlens.errors import ActivationError, ConfigError, unknown
from neuronlens.records import ActivationSet, FloatArray

THETAS = ("youden", "tau", "false_alarm", "zero", "two_sided")
CHOSEN_ON_SELECT = ("youden", "false_alarm")
NO_DIRECTION = 1e-12
"""A separation this small, in units of the deviation, is float64 rounding: there is no direction."""


class DiscriminantGate(Gate):
    """Open where the discriminant coordinate z is above theta, or, `two_sided`, within an interval around its mean.

    | theta | value |
    |---|---|
    | `youden` | separates the concept from the rest best on the select split: see `best_threshold` |
    | `tau` | mean of z over the concept minus `tau` of its deviations, on the fit split; inf opens everywhere |
    | `false_alarm` | the (1 - alpha) quantile of z over the other concepts on the select split: a damage budget |
    | `zero` | 0: the mean of all samples |
    | `two_sided` | the interval mean -/+ `tau` deviations of z over the concept |
    """

    grain = "position"
    reads_range = False
    reads_ranking = False
    reads_covariance = True

    def __init__(
        self,
        *,
        theta: Annotated[str, OneOf(THETAS)] = "youden",
        tau: Annotated[float, TAU] = 0.0,
        alpha: Annotated[float, between(0, 1, "()", noun="a share")] = 0.05,
        covariance: Annotated[str, OneOf(COVARIANCES)] = "ledoit_wolf",
    ) -> None:
        """Take the rule of the threshold and its numbers; `tau` and `alpha` are read by the rules that name them.

        Raises:
            ConfigError: an unknown rule or covariance; or an interval of no width.
        """
        if theta not in THETAS:
            raise ConfigError(unknown("theta", theta, THETAS))
        if covariance not in COVARIANCES:
            raise ConfigError(unknown("covariance", covariance, COVARIANCES))
        if theta == "two_sided" and not tau > 0:
            raise ConfigError(
                f"tau is {tau}, expected a number above 0 where theta is two_sided, the interval of mean -/+ tau deviations. "
                "Next: ++gate.discriminant.tau=2.5."
            )
        self.theta, self.tau, self.alpha, self.covariance = theta, float(tau), float(alpha), covariance
        self.needs_select = theta in CHOSEN_ON_SELECT or covariance == "selected"
        self._whitened: tuple[ActivationSet, Whitened] | None = None

    def opening(self, evidence: Evidence) -> Score:
        """Return z minus its threshold.

        Raises:
            ActivationError: the concept has no direction, or the select split holds it in all or in none of its samples.
        """
        z = self.coordinate(evidence.activations, evidence.concept)
        low, high = self._bounds(z, evidence)
        constant = np.inf if np.isneginf(low) else z.constant - low
        return Score(z.quadratic, z.linear, constant, ceiling=np.inf if np.isposinf(high) else high - low)

    def coordinate(self, activations: ActivationSet, concept: int) -> Score:
        """Return z of a position `[neuron]`.

        Raises:
            ActivationError: the concept or its complement has no sample, or their means coincide.
        """
        statistics = activations.statistics
        require_contrast(statistics, concept)
        if self._whitened is None or self._whitened[0] is not activations:
            self._whitened = activations, whitened(activations.second, shrinkage_of(activations, self.covariance))
        fitted = self._whitened[1]
        delta = statistics.mean[concept] - statistics.complement_mean[concept]
        towards = fitted.solve(delta)
        separation = float(delta @ towards)
        if not separation > NO_DIRECTION**2:
            raise ActivationError("the means of the concept and of its complement coincide: no coordinate to gate on")
        read = towards / separation
        return Score(np.zeros_like(read), read, -float(read @ fitted.mean))

    def _bounds(self, z: Score, evidence: Evidence) -> tuple[float, float]:
        if self.theta == "zero":
            return 0.0, np.inf
        if self.theta in CHOSEN_ON_SELECT:
            return self._chosen(z, evidence), np.inf
        if np.isposinf(self.tau):
            return -np.inf, np.inf
        own = _of_concept(z, evidence.activations, evidence.concept)
        width = self.tau * float(own.std())
        return float(own.mean()) - width, float(own.mean()) + width if self.theta == "two_sided" else np.inf

    def _chosen(self, z: Score, evidence: Evidence) -> float:
        assert evidence.select is not None, "a gate that needs the select split is given it"
        member = evidence.select.labels == evidence.concept
        if member.all() or not member.any():
            raise ActivationError("the select split holds the concept in all or in none of its samples")
        scores = z(evidence.select.values)
        if self.theta == "youden":
            return best_threshold(scores, member)
        return float(np.quantile(scores[~member], 1 - self.alpha))


def _of_concept(z: Score, activations: ActivationSet, concept: int) -> FloatArray:
    return z(activations.values[activations.labels == concept])
