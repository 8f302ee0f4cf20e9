"""Estimates with intervals that cover what they state: means, shares, paired shares, differences, means over pairs.

Every interval here is a formula: nothing is resampled, so equal data give equal bounds in every process. Which formula
covers its level, for how many values and under which laws, is measured by `benchmarks/coverage.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from neuronlens.records import FloatArray

TOLERANCE = 1e-12
"""Relative size below which the spread of equal values is the rounding of their sum."""


ENDS = ("", "_low", "_high")
"""What the columns of an estimate end in: the value, and the two bounds of its interval."""


class Estimate(NamedTuple):
    """A value and the bounds of its interval, arrays of one shape or single numbers; NaN bounds where there is none."""

    value: Any
    low: Any
    high: Any

    def columns(self, name: str) -> dict[str, Any]:
        """Return the estimate as columns of a table: `name`, `name_low` and `name_high`.

        >>> Estimate(0.2, 0.1, 0.3).columns("drop")
        {'drop': 0.2, 'drop_low': 0.1, 'drop_high': 0.3}
        """
        return {name + end: value for end, value in zip(ENDS, self, strict=True)}

    @classmethod
    def bare(cls, value: Any) -> Estimate:
        """Return a value, or an array of them, without an interval."""
        nothing = np.full(np.shape(value), np.nan)[()]
        return cls(value, nothing, nothing)


NOTHING = Estimate.bare(float("nan"))


def of_mean(values: ArrayLike, level: float) -> Estimate:
    """Return means over the last axis with their intervals: Student's t, widened on a side where the sample is skewed.

    The bounds are the wider ones of two intervals: Student's t, exact for normal values, and Hall's (1992) cubic
    transformation of it, which corrects for skewness and needs no resampling. With g the sample's adjusted skewness
    (G1 = sqrt(n (n - 1)) / (n - 2) m3 / m2^1.5), a = g / 3, b = g / (6 n), q = t quantile / sqrt(n):
    mean - s ((1 + 3 a (+-q - b))^(1/3) - 1) / a.

    Args:
        values: `[..., value]`, independent draws along the last axis.
        level: of the interval, in (0, 1).

    Returns:
        `[...]`; NaN bounds below two values, t alone below three; NaN throughout where a value is NaN.
    """
    x = np.asarray(values, dtype=np.float64)
    n = x.shape[-1]
    if not n:
        return Estimate.bare(np.full(x.shape[:-1], np.nan)[()])
    mean = x.mean(axis=-1)
    if n < 2:
        return Estimate.bare(mean)
    with np.errstate(invalid="ignore", over="ignore"):  # an infinite value has a mean and no interval
        return Estimate(mean, *_mean_bounds(x, mean, level))


def _mean_bounds(x: FloatArray, mean: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    n = x.shape[-1]
    centred = x - mean[..., None]
    # Equal values have a mean that is off by a rounding error: their spread is none.
    centred = np.where(np.abs(centred) <= TOLERANCE * np.abs(x).max(axis=-1, keepdims=True), 0.0, centred)
    second = (centred**2).mean(axis=-1)
    deviation = np.sqrt(second * n / (n - 1))
    q = float(stdtrit(n - 1, 0.5 + level / 2)) / np.sqrt(n)
    low, high = -q * np.ones_like(mean), q * np.ones_like(mean)
    if n > 2:
        spread = np.where(second > 0, second, 1.0)
        skewness = np.where(second > 0, (centred**3).mean(axis=-1) / spread**1.5, 0.0) * np.sqrt(n * (n - 1)) / (n - 2)
        low = np.minimum(low, -_hall(q, skewness, n))
        high = np.maximum(high, -_hall(-q, skewness, n))
    return mean + deviation * low, mean + deviation * high


def _hall(q: float, skewness: FloatArray, n: int) -> FloatArray:
    """Return the studentised value whose cubic transformation is `q`; `q` itself where there is no skewness."""
    flat = np.abs(skewness) < 1e-6
    a = np.where(flat, 1.0, skewness) / 3
    bent = (np.cbrt(1 + 3 * a * (q - skewness / (6 * n))) - 1) / a
    return np.where(flat, q, bent)


def of_share(hits: ArrayLike, n: ArrayLike, level: float) -> Estimate:
    """Return shares of `n` with Wilson's score interval, which has a width at 0 and at 1 too; NaN where n is 0.

    Args:
        hits, n: counts of one shape.
    """
    k, whole = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64))
    safe = np.where(whole > 0, whole, np.nan)
    z2 = float(ndtri(0.5 + level / 2)) ** 2
    share = k / safe
    centre = (share + z2 / (2 * safe)) / (1 + z2 / safe)
    half = np.sqrt(z2 * (share * (1 - share) / safe + z2 / (4 * safe**2))) / (1 + z2 / safe)
    return Estimate(share, np.clip(centre - half, 0.0, share), np.clip(centre + half, share, 1.0))


def of_paired_shares(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, level: float) -> Estimate:
    """Return drops of a share between two readings of the same samples, with Tango's (1998) score interval.

    The bounds are the differences d at which the score statistic of (lost - gained - n d), with the nuisance share at
    its restricted maximum likelihood value, equals the normal quantile.

    Args:
        lost: samples that were right before and are wrong after.
        gained: samples that were wrong before and are right after.
        n: samples; NaN comes back where it is 0.

    Returns:
        (lost - gained) / n and its bounds within [-1, 1].
    """
    b, c, whole = np.broadcast_arrays(*(np.asarray(part, dtype=np.float64) for part in (lost, gained, n)))
    safe = np.where(whole > 0, whole, np.nan)
    drop = (b - c) / safe
    z = float(ndtri(0.5 + level / 2))
    ends = [_bisect(b, c, safe, drop, wanted, edge) for wanted, edge in ((z, -1.0), (-z, 1.0))]
    return Estimate(drop, np.minimum(ends[0], drop), np.maximum(ends[1], drop))


def _bisect(b: FloatArray, c: FloatArray, n: FloatArray, drop: FloatArray, wanted: float, edge: float) -> FloatArray:
    """Return the difference between `drop` and `edge` at which the score statistic is `wanted`: it falls as d grows."""
    near, far = drop.copy(), np.full_like(drop, edge)
    for _ in range(50):
        middle = (near + far) / 2
        inside = np.abs(_score(b, c, n, middle)) < abs(wanted)
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return np.where(np.isnan(drop), np.nan, (near + far) / 2)


def _score(b: FloatArray, c: FloatArray, n: FloatArray, d: FloatArray) -> FloatArray:
    linear = (2 * n - b + c) * d - b - c
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * d * (1 - d), 0.0))
    nuisance = (root - linear) / (4 * n)
    variance = n * (2 * nuisance + d * (1 - d))
    beyond = b - c - n * d
    certain = np.where(beyond > 0, np.inf, np.where(beyond < 0, -np.inf, 0.0))
    return np.where(variance > 0, beyond / np.sqrt(np.where(variance > 0, variance, 1.0)), certain)


def of_difference(one: Estimate, other: Estimate) -> Estimate:
    """Return one estimate minus an independent other, its bounds by the method of variance estimates recovery (MOVER).

    Zou & Donner 2008: each side's own distance to its bound stands for its deviation in that direction.
    """
    value = one.value - other.value
    low = value - np.hypot(one.value - one.low, other.high - other.value)
    high = value + np.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high)


def of_pairs(square: FloatArray, level: float) -> Estimate:
    """Return the mean over pairs of different members, with an interval over members: pairs that share one are not independent.

    `of_mean` of the jackknife's pseudo-values: n times the mean less (n - 1) times the mean without a member.

    Args:
        square: `[member, member]`, of which the two values of a pair are averaged; the diagonal is not read. A member
            whose values are all NaN is left out.

    Returns:
        Single numbers; NaN bounds below three members (TRAPS 39).
    """
    apart = np.array(square, dtype=np.float64)
    np.fill_diagonal(apart, np.nan)
    known = ~np.isnan(apart).all(axis=1)
    n = int(known.sum())
    if n < 2:
        return NOTHING
    apart = apart[np.ix_(known, known)]
    np.fill_diagonal(apart, 0.0)
    whole, rows = apart.sum(), apart.sum(axis=0) + apart.sum(axis=1)
    mean = whole / (n * (n - 1))
    if n < 3:
        return Estimate.bare(mean)
    without = (whole - rows) / ((n - 1) * (n - 2))
    found = of_mean(n * mean - (n - 1) * without, level)
    return Estimate(mean, mean + (found.low - found.value), mean + (found.high - found.value))
