"""Ranges and their Gaussians on samples they were not fitted on: a row per (site, concept, salient neuron)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neuronlens.edits.fitting import Fitted
from neuronlens.ranges.diagnostics.exact_normal import fitted_p
from neuronlens.ranges.diagnostics.firing import bhattacharyya, firing
from neuronlens.ranges.diagnostics.normality import describe, normal_cdf
from neuronlens.records import ActivationSet, BoolArray, FloatArray, Site
from neuronlens.saliency.overlap import jaccard
from neuronlens.saliency.scope import salient_sets

FITTED_BY = ["site", "saliency", "range", "tau"]
"""The columns in which the ranges of a run differ in these tables."""


def diagnose(
    fitted: Mapping[Site, Fitted], held_out: Mapping[Site, ActivationSet], *, scope: str = "layer", **selection: Any
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what salient neurons and their ranges do on held-out samples, and how concepts' salient sets overlap.

    Args:
        held_out: activations of samples that no ranking or range was fitted on.
        scope: `layer`, or `model` where all layers are ranked as one.
        selection: how many neurons count as salient, `top_fraction` or `top_count`: what `headline_selection` gives.

    Returns:
        Per (site, saliency, range, tau, concept, neuron): place in the ranking, held-out `skewness`, `excess_kurtosis`,
        Kolmogorov-Smirnov `ks_statistic` against the Gaussian fitted on the fit split and `ks_p`, its chance for an exactly
        Gaussian neuron fitted on as many samples (`n_fit`) and tested on as many (`n`), `firing_concept` (the coverage),
        `firing_rest`, `purity`, and the mean Bhattacharyya `overlap` of the concept's Gaussian with the others'. And per
        (site, saliency, two concepts): the `jaccard` overlap of their salient sets, the mean `bhattacharyya` overlap of
        their Gaussians at the first one's salient neurons, and how many these are, `salient`.
    """
    neurons, overlaps = [], []
    for site, found in fitted.items():
        test = held_out[site]
        statistics = found.activations.statistics
        shape = describe(test, normal_cdf(statistics))
        n_test = np.bincount(test.labels, minlength=len(test.concepts))
        shape["ks_p"] = fitted_p(shape["ks_statistic"], statistics.count, n_test)  # TRAPS 50
        with np.errstate(invalid="ignore"):
            similar = bhattacharyya(statistics)
        similar[np.arange(len(similar)), np.arange(len(similar))] = np.nan
        seen = np.isfinite(similar).sum(axis=1)
        others = np.where(seen > 0, np.nansum(similar, axis=1) / np.maximum(seen, 1), np.nan)
        for saliency, ranking in found.rankings.items():
            together = {
                other.layer: one.rankings[saliency] for other, one in fitted.items() if saliency in one.rankings
            }
            selected = salient_sets(together, scope=scope, **selection)[site.layer]
            shared = {"jaccard": jaccard(selected), "bhattacharyya": _at_salient(similar, selected)}
            pairs = _pairs(shared, test.concepts)
            sizes = np.repeat(selected.sum(axis=1), len(test.concepts))
            overlaps.append(pairs.assign(salient=sizes, site=str(site), saliency=saliency))
            for (range_name, tau), ranges in found.ranges.items():
                fired = firing(test.values, test.labels, ranges.lower, ranges.upper)
                for concept, name in enumerate(test.concepts):
                    order = ranking.order[concept]
                    chosen = order[selected[concept, order]]
                    columns = {key: values[concept, chosen] for key, values in shape.items()}
                    columns |= {
                        "firing_concept": fired.coverage[concept, chosen],
                        "purity": fired.purity[concept, chosen],
                    }
                    columns |= {"firing_rest": fired.rest[concept, chosen], "overlap": others[concept, chosen]}
                    identity = dict(zip(FITTED_BY, (str(site), saliency, range_name, tau), strict=True))
                    counts = {"n": n_test[concept], "n_fit": statistics.count[concept]}
                    frame = pd.DataFrame({"neuron": chosen, "place": np.arange(len(chosen)), **counts, **columns})
                    neurons.append(frame.assign(**identity, concept=name))
    tables = [frame for frame in neurons if len(frame)]
    return (pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()), pd.concat(overlaps, ignore_index=True)


def purity_by_chance(diagnostics: pd.DataFrame) -> dict[str, float]:
    """Return what purity is where a range fires on everybody alike: the concept's share of the held-out samples."""
    counts = diagnostics.drop_duplicates("concept").set_index("concept")["n"].astype(float)
    return {str(name): float(share) for name, share in (counts / counts.sum()).items()}


def _at_salient(similar: FloatArray, selected: BoolArray) -> FloatArray:
    """Return the mean over a concept's salient neurons `[concept, other]` of `[concept, other, neuron]`; NaN without any."""
    usable = selected[:, None] & np.isfinite(similar)
    count = usable.sum(axis=2)
    return np.where(count > 0, np.where(usable, similar, 0.0).sum(axis=2) / np.maximum(count, 1), np.nan)


def _pairs(shared: Mapping[str, FloatArray], concepts: tuple[str, ...]) -> pd.DataFrame:
    """Return squares `[concept, other]` as a table with a row per (concept, other)."""
    index = pd.MultiIndex.from_product([concepts, concepts], names=["concept", "other"])
    return pd.DataFrame({name: square.ravel() for name, square in shared.items()}, index=index).reset_index()
