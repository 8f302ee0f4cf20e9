"""Targets T(x) = scale * x + shift, per neuron, that dampen a concept or carry it over to the other concepts' law.

Each function returns (scale, shift), float64 `[neuron]`, for one concept c; the kernel gates and applies them. `notc`
stands for the samples of all other concepts.
"""

from __future__ import annotations

import numpy as np

from neuronlens.errors import ActivationError, ConfigError
from neuronlens.records import ActivationSet, ConceptStatistics, FloatArray
from neuronlens.saliency.auroc import auroc

Affine = tuple[FloatArray, FloatArray]

SIGMA_FLOOR = 1e-4
"""Deviation, in units of the activations, below which a neuron counts as constant; ml-act's threshold."""

BETA = 0.125
"""What dampening leaves of a value: the published soft mask's factor."""

CHUNK_VALUES = 1 << 21


def missing_samples(statistics: ConceptStatistics, concept: int) -> str | None:
    """Return why a contrast of this concept with the others cannot be fitted, or None where it can."""
    count = int(statistics.count[concept])
    others = int(statistics.count.sum()) - count
    if count and others:
        return None
    return f"{count} samples of the concept and {others} of the others, expected at least 1 of each"


def mean_shift(statistics: ConceptStatistics, concept: int) -> Affine:
    """Return T(x) = x - (mu_c - mu_notc): difference-in-means steering, ml-act's mean_ot.

    Raises:
        ActivationError: the concept or its complement has no sample.
    """
    _require_contrast(statistics, concept)
    difference = statistics.mean[concept] - statistics.complement_mean[concept]
    return np.ones_like(difference), -difference


def gaussian_transport(statistics: ConceptStatistics, concept: int) -> Affine:
    """Return T(x) = (sigma_notc / sigma_c)(x - mu_c) + mu_notc: the optimal map between two Gaussians, ml-act's gaussian_ot.

    The identity where either deviation (ddof 0) is below 1e-4.

    Raises:
        ActivationError: the concept or its complement has no sample.
    """
    _require_contrast(statistics, concept)
    source, target = statistics.std[concept], np.sqrt(statistics.complement_variance[concept])
    spread = (source >= SIGMA_FLOOR) & (target >= SIGMA_FLOOR)
    scale = np.divide(target, source, out=np.ones_like(source), where=spread)
    shift = statistics.complement_mean[concept] - scale * statistics.mean[concept]
    return scale, np.where(spread, shift, 0.0)


def linear_transport(activations: ActivationSet, concept: int) -> Affine:
    """Return T(x) = beta x + b, least squares from the sorted samples of c to those of notc (Rodriguez et al. 2025).

    With n samples on both sides the i-th smallest is paired with the i-th smallest. With n and m it is the same fit on
    the quantile functions: sample i holds the levels ((i - 1) / n, i / n], and a pair weighs what its levels share
    (the optimal coupling in one dimension), which uses every sample and no interpolation. beta = cov / var_c >= 0 and
    b = mu_notc - beta mu_c, so the mean arrives exactly. The identity where the deviation over S_c is below 1e-4.

    Raises:
        ActivationError: the concept or its complement has no sample.
    """
    _require_contrast(activations.statistics, concept)
    members = activations.labels == concept
    sources, targets = int(members.sum()), int((~members).sum())
    # In units of 1 / (n m) every level is a whole number, so pieces of no width cannot appear by rounding.
    ends = np.union1d(np.arange(1, sources + 1) * targets, np.arange(1, targets + 1) * sources)
    weights = np.diff(ends, prepend=0) / (sources * targets)
    from_source, from_target = (ends - 1) // targets, (ends - 1) // sources
    neurons = activations.values.shape[1]
    scale, shift = np.ones(neurons), np.zeros(neurons)
    width = max(1, CHUNK_VALUES // len(ends))
    for start in range(0, neurons, width):
        chunk = slice(start, start + width)
        values = activations.values[:, chunk].astype(np.float64)
        source, target = values[members], values[~members]
        source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
        source = np.sort(source - source_mean, axis=0)[from_source]
        target = np.sort(target - target_mean, axis=0)[from_target]
        variance, covariance = weights @ source**2, weights @ (source * target)
        spread = variance >= SIGMA_FLOOR**2
        scale[chunk] = np.divide(covariance, variance, out=np.ones_like(variance), where=spread)
        shift[chunk] = np.where(spread, target_mean - scale[chunk] * source_mean, 0.0)
    return scale, shift


def aura(activations: ActivationSet, concept: int) -> Affine:
    """Return T(x) = (1 - 2 (AUROC_j - 0.5)) x where AUROC_j(c against the rest) > 0.5, else x (Suau et al. 2024).

    Raises:
        ActivationError: the concept or its complement has no sample.
    """
    _require_contrast(activations.statistics, concept)
    area = auroc(activations.values, (activations.labels == concept).astype(np.int64), 2)[1]
    return np.where(area > 0.5, 1 - 2 * (area - 0.5), 1.0), np.zeros_like(area)


def dampen(statistics: ConceptStatistics, concept: int, *, beta: float = BETA) -> Affine:
    """Return T(x) = beta x. In a cell of `GatedEdit.distance` the same numbers make it `dampen_distance`.

    Raises:
        ConfigError: beta is not in [0, 1).
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta is {beta}, expected a number in [0, 1): 0 zeroes, 1 would change nothing.")
    neurons = statistics.mean.shape[1]
    return np.full(neurons, float(beta)), np.zeros(neurons)


def _require_contrast(statistics: ConceptStatistics, concept: int) -> None:
    reason = missing_samples(statistics, concept)
    if reason:
        raise ActivationError(f"Concept {concept} has {reason}.")
