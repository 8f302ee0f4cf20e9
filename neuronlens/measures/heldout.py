"""Ranges and their Gaussians on samples they were not fitted on: a row per (site, concept, salient neuron)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from neuronlens.edits.fitting import Fitted
from neuronlens.ranges.diagnostics.firing import bhattacharyya, firing
from neuronlens.ranges.diagnostics.normality import describe, normal_cdf
from neuronlens.records import ActivationSet, Site
from neuronlens.saliency.overlap import jaccard

FITTED_BY = ["site", "saliency", "range", "tau"]
"""What tells the ranges of a run apart in these tables."""


def diagnose(
    fitted: Mapping[Site, Fitted], held_out: Mapping[Site, ActivationSet], *, top_fraction: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what salient neurons and their ranges do on held-out samples, and how concepts' salient sets overlap.

    Args:
        held_out: activations of samples that no ranking or range was fitted on.
        top_fraction: how many neurons count as salient.

    Returns:
        Per (site, saliency, range, tau, concept, neuron): place in the ranking, held-out `skewness`, `excess_kurtosis`,
        Kolmogorov-Smirnov `ks_statistic` and `ks_p` against the Gaussian fitted on the fit split, `firing_concept` (the
        coverage) and `firing_rest`, `purity`, and the mean Bhattacharyya `overlap` of the concept's Gaussian with the
        others'. And per (site, saliency, two concepts): the Jaccard overlap of their salient sets.
    """
    neurons, overlaps = [], []
    for site, found in fitted.items():
        test = held_out[site]
        statistics = found.activations.statistics
        shape = describe(test, normal_cdf(statistics))
        with np.errstate(invalid="ignore"):
            similar = bhattacharyya(statistics)
        similar[np.arange(len(similar)), np.arange(len(similar))] = np.nan
        seen = np.isfinite(similar).sum(axis=1)
        others = np.where(seen > 0, np.nansum(similar, axis=1) / np.maximum(seen, 1), np.nan)
        for saliency, ranking in found.rankings.items():
            selected = ranking.selected(top_fraction=top_fraction)
            overlaps.append(_overlap(site, saliency, jaccard(selected), test.concepts))
            count = int(selected[0].sum())
            for (range_name, tau), ranges in found.ranges.items():
                fired = firing(test.values, test.labels, ranges.lower, ranges.upper)
                for concept, name in enumerate(test.concepts):
                    chosen = ranking.order[concept, :count]
                    columns = {key: values[concept, chosen] for key, values in shape.items()}
                    columns |= {
                        "firing_concept": fired.coverage[concept, chosen],
                        "purity": fired.purity[concept, chosen],
                    }
                    columns |= {"firing_rest": fired.rest[concept, chosen], "overlap": others[concept, chosen]}
                    identity = dict(zip(FITTED_BY, (str(site), saliency, range_name, tau), strict=True))
                    n = int((test.labels == concept).sum())
                    frame = pd.DataFrame({"neuron": chosen, "place": np.arange(count), "n": n, **columns})
                    neurons.append(frame.assign(**identity, concept=name))
    tables = [frame for frame in neurons if len(frame)]
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), pd.concat(overlaps, ignore_index=True)


def _overlap(site: Site, saliency: str, shared: np.ndarray, concepts: tuple[str, ...]) -> pd.DataFrame:
    pairs = [(one, other, shared[i, j]) for i, one in enumerate(concepts) for j, other in enumerate(concepts)]
    return pd.DataFrame(pairs, columns=["concept", "other", "jaccard"]).assign(site=str(site), saliency=saliency)
