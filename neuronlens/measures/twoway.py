"""An interval for concepts and samples together: all concepts are measured on one test set, which is drawn too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import stdtrit

from neuronlens.measures.estimates import Estimate
from neuronlens.measures.intervals import Bootstrap
from neuronlens.records import FloatArray


def two_way(values: FloatArray, bootstrap: Bootstrap) -> Estimate:
    """Return the mean over concepts of their means over samples, with an interval for other concepts and other samples.

    An interval over concepts alone is for other concepts on these very samples. Here both are drawn with replacement, each
    by itself (the pigeonhole bootstrap, Owen 2007), and the bounds are Student's t at one less than the concepts times the
    deviation of the draws, which a handful of concepts makes too small by sqrt((n - 1) / n).

    Args:
        values: `[concept, sample]`, such as what each sample loses more under one method than under another when a concept
            is edited; NaN where a pair does not count, such as a concept's own samples.
        bootstrap: level, number and seed of the draws.

    Returns:
        Single numbers; NaN bounds below two concepts or two samples, and where no interval is wanted.
    """
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    concepts, samples = values.shape
    mean = float((filled.sum(axis=1) / known.sum(axis=1)).mean()) if concepts and known.any(axis=1).all() else np.nan
    if min(concepts, samples) < 2 or not bootstrap.resamples or np.isnan(mean):
        return Estimate.bare(mean)
    rows = bootstrap.counts(concepts).astype(np.float64)
    columns = replace(bootstrap, seed=bootstrap.seed + 1).counts(samples).astype(np.float64)
    seen = columns @ known.T.astype(np.float64)  # [resample, concept]; a draw may miss all samples of a concept
    means = np.divide(columns @ filled.T, seen, out=np.zeros_like(seen), where=seen > 0)
    weight = (rows * (seen > 0)).sum(axis=1)
    draws = (rows * means).sum(axis=1)[weight > 0] / weight[weight > 0]
    half = (
        float(stdtrit(concepts - 1, 0.5 + bootstrap.level / 2)) * draws.std(ddof=1) * np.sqrt(concepts / (concepts - 1))
    )
    return Estimate(mean, mean - half, mean + half)
