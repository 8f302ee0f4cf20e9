"""Exact p values of paired differences, and how they are read when a table holds several of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from neuronlens.records import FloatArray

MOST_EXACT = 40
"""Differences whose sign patterns are all counted; past it a seeded sample of patterns stands for them."""
DRAWS = 1 << 17


def sign_flip_p(differences: ArrayLike, *, seed: int = 0) -> float:
    """Return the two-sided p of "the differences are symmetric about 0": the share of sign patterns as extreme as theirs.

    Every one of the 2^n patterns is counted, by halves: sums over the first half against sorted sums over the second.
    Above `MOST_EXACT` differences 2^17 seeded patterns are drawn instead, and the observed one is counted among them.

    Returns:
        NaN for no difference.

    >>> sign_flip_p([0.1, 0.2, 0.3])
    0.25
    """
    x = np.abs(np.asarray(differences, dtype=np.float64))
    if not len(x):
        return float("nan")
    observed = abs(float(np.sum(differences)))
    least = observed - 1e-9 * max(float(x.sum()), 1e-300)  # equal sums differ by their rounding
    if len(x) > MOST_EXACT:
        signs = np.random.default_rng([seed, len(x)]).integers(0, 2, size=(DRAWS, len(x)), dtype=np.int8) * 2 - 1
        return float((1 + np.sum(np.abs(signs @ x) >= least)) / (1 + DRAWS))
    first, second = _sums(x[: len(x) // 2]), np.sort(_sums(x[len(x) // 2 :]))
    above = len(second) - np.searchsorted(second, least - first, side="left")
    below = np.searchsorted(second, -least - first, side="right")
    return float(min((above + below).sum() / (len(first) * len(second)), 1.0))


def _sums(x: FloatArray) -> FloatArray:
    """Return the sums of `x` under every pattern of signs `[2^n]`."""
    sums = np.zeros(1)
    for value in x:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def holm(p: ArrayLike) -> FloatArray:
    """Return Holm's (1979) adjusted p values, in the order given; NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full_like(values, np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
