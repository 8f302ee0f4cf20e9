"""Claims 1 to 3, on what neurons are: shared between concepts, near Gaussian for each, with little overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, hypergeom

from neuronlens.measures import naming
from neuronlens.measures.estimates import Estimate
from neuronlens.measures.heldout import FITTED_BY
from neuronlens.measures.intervals import Bootstrap
from neuronlens.ranges.diagnostics.exact_normal import ALPHA, exact_normal, near_normal
from neuronlens.ranges.diagnostics.normality import ks_p
from neuronlens.records import BoolArray, FloatArray
from neuronlens.report.claims.verdicts import Evidence, judge, listed
from neuronlens.report.compare.runs import Run
from neuronlens.results.fitted import rankings_of

OVERLAP = float(np.exp(-0.5))
"""Bhattacharyya coefficient of two Gaussians of one deviation whose means are two deviations apart: exp(-2^2 / 8)."""
FIRING = 0.5


@cache
def expected_jaccard(neurons: int, salient: int, other: int | None = None) -> float:
    """Return the mean Jaccard overlap of two independent random sets of `salient` and `other` (as many) out of `neurons`.

    The number they share is hypergeometric: sum over x of P(x) x / (salient + other - x).
    """
    other = salient if other is None else other
    shared = np.arange(min(salient, other) + 1)
    either = np.maximum(salient + other - shared, 1)
    return float((hypergeom.pmf(shared, neurons, salient, other) * shared / either).sum())


def expected_shared(neurons: int, salient: Sequence[int]) -> float:
    """Return, of the neurons in one or more of random sets of these sizes, the share expected in two or more."""
    share = np.asarray(salient) / neurons
    none = np.prod(1 - share)
    one = sum(own * np.prod(np.delete(1 - share, place)) for place, own in enumerate(share))
    return float((1 - none - one) / (1 - none)) if none < 1 else float("nan")


def polysemantic(run: Run) -> Iterator[Evidence]:
    """Yield claim 1 for every site and ranking: what concepts' salient sets share, against independent random sets."""
    _, overlap = run.folder.read_diagnostics()
    if overlap.empty:
        return
    files = run.folder.read_fitted()
    for (site, saliency), group in overlap.groupby(["site", "saliency"], sort=False):
        concepts = tuple(dict.fromkeys(group["concept"]))
        ranking = rankings_of(files, str(site))[str(saliency)]
        neurons = ranking.scores.shape[1]
        if "salient" not in group:  # a run of an older version: its diagnostics took the configured fraction
            group = group.assign(salient=int(run.config.intervention.top_fraction * neurons))
        sizes = group.drop_duplicates("concept").set_index("concept")["salient"].loc[list(concepts)].to_numpy(dtype=int)
        if not sizes.any():
            continue
        selected = np.zeros(ranking.scores.shape, dtype=bool)
        for concept, size in enumerate(sizes):
            selected[concept, ranking.order[concept, :size]] = True
        pairs = [expected_jaccard(neurons, int(one), int(other)) for one, other in combinations(sorted(sizes), 2)]
        chance = float(np.mean(pairs or [np.nan]))
        shared = _square(group, "jaccard")
        estimate = run.bootstrap.of_pairs(shared)
        means = (shared.sum(axis=1) - np.diag(shared)) / max(len(concepts) - 1, 1)
        low = [f"{concepts[at]} ({means[at]:.3f})" for at in np.argsort(means) if means[at] <= chance]
        verdict = judge(estimate, chance, "above", len(concepts))
        many = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
        detail = f"{many} of {neurons} neurons salient"
        where: dict[str, Any] = {
            "claim": 1,
            "place": str(site),
            "setting": str(saliency),
            "concepts": len(concepts),
            "detail": detail,
        }
        yield Evidence(
            **where,
            statistic="mean Jaccard overlap of two concepts' salient sets",
            estimate=estimate,
            bound=chance,
            expected=chance,
            verdict=verdict,
            against=listed(low) or "no concept",
        )
        yield Evidence(
            **where,
            statistic="share of the salient neurons that are salient for two or more concepts",
            estimate=Estimate.bare(_shared(selected)),
            bound=None,
            expected=expected_shared(neurons, sizes.tolist()),
            verdict=None,
        )


def _square(pairs: pd.DataFrame, column: str) -> FloatArray:
    """Return a column of a table of (concept, other) as `[concept, other]`, in the order of the table."""
    concepts = list(dict.fromkeys(pairs["concept"]))
    return pairs.pivot(index="concept", columns="other", values=column).loc[concepts, concepts].to_numpy(dtype=float)


def _shared(selected: BoolArray) -> float:
    times = selected.sum(axis=0)
    return float((times >= 2).sum() / (times >= 1).sum())


def near_gaussian(run: Run) -> Iterator[Evidence]:
    """Yield claim 2 for every site and ranking: held-out values of salient neurons against the fitted Gaussian."""
    neurons, _ = run.folder.read_diagnostics()
    if neurons.empty:
        return
    _, arrays, _, about = run.folder.read_fitted()
    for (site, saliency), group in neurons.groupby(["site", "saliency"], sort=False):
        fitted = dict(zip(about["concepts"], arrays[f"{site}/count"], strict=True))
        rows = group.drop_duplicates(["concept", "neuron"]).dropna(subset=["ks_statistic", "skewness"])
        rows = rows.assign(n_fit=rows["concept"].map(fitted))
        rows = rows[(rows["n_fit"] > 1) & (rows["n"] > 1)]
        if len(rows):
            yield from normality(str(site), str(saliency), rows, run.bootstrap)


def normality(site: str, saliency: str, rows: pd.DataFrame, bootstrap: Bootstrap) -> Iterator[Evidence]:
    """Yield claim 2's statistics for one site and ranking.

    Args:
        rows: one per (concept, neuron) with `n_fit`, `n` (samples tested), `ks_statistic`, `skewness`, `excess_kurtosis`.
    """
    parts = []
    for (n_fit, n), group in rows.groupby(["n_fit", "n"], sort=False):
        exact = exact_normal(int(n_fit), int(n))
        chance = {
            "exact_skewness": exact.skewness,
            "exact_kurtosis": exact.excess_kurtosis,
            "exact_ks": exact.ks_statistics.mean(),
        }
        edge = near_normal(int(n_fit), int(n))
        chance |= {"least_kept": edge.kept, "most_skewed": edge.skewness, "most_heavy": edge.excess_kurtosis}
        statistic = group["ks_statistic"].to_numpy()
        parts.append(group.assign(p=exact.p(statistic), tabled_p=ks_p(statistic, int(n)), **chance))
    rows = pd.concat(parts).sort_index()
    rows = rows.assign(kept=rows["p"] >= ALPHA, skewed=rows["skewness"].abs(), heavy=rows["excess_kurtosis"].abs())
    discovered = float(np.mean(false_discovery_control(rows["p"]) < ALPHA))
    tabulated = f"{np.mean(rows['tabled_p'] >= ALPHA):.3f} by the tabulated distribution"
    others = f"{tabulated}, {1 - discovered:.3f} after Benjamini-Hochberg"
    bounds = rows.groupby("concept", sort=False)[["least_kept", "most_skewed", "most_heavy"]].mean().mean()
    kept = f"share of (concept, neuron) pairs not rejected at {ALPHA:.0%}"
    kinds: list[tuple[str, str, float | None, float, Any]] = [
        (kept, "kept", bounds["least_kept"], 1 - ALPHA, "above"),
        ("mean absolute skewness", "skewed", bounds["most_skewed"], rows["exact_skewness"].mean(), "below"),
        ("mean absolute excess kurtosis", "heavy", bounds["most_heavy"], rows["exact_kurtosis"].mean(), "below"),
        ("mean Kolmogorov-Smirnov distance", "ks_statistic", None, rows["exact_ks"].mean(), "below"),
    ]
    size = f"{len(rows)} pairs, {rows['n_fit'].median():.0f} samples fitted and {rows['n'].median():.0f} tested each"
    for statistic, column, bound, expected, wanted in kinds:
        means = rows.groupby("concept", sort=False)[column].mean()
        estimate = bootstrap.of_mean(means.to_numpy(dtype=float))
        verdict = None if bound is None else judge(estimate, bound, wanted, len(means))
        against = "" if bound is None else _worst(means, bound, wanted) + _worst_neuron(rows, column, wanted)
        detail = f"{size}; {others}" if column == "kept" else size
        yield Evidence(
            *(2, site, saliency, statistic, estimate, bound, float(expected), len(means), verdict, against, detail)
        )


def _worst(means: pd.Series[Any], bound: float, wanted: str) -> str:
    ordered = means.sort_values(ascending=wanted == "above")
    beyond = ordered[ordered < bound] if wanted == "above" else ordered[ordered > bound]
    return listed(f"{concept} ({value:.2f})" for concept, value in beyond.items()) or "no concept"


def _worst_neuron(rows: pd.DataFrame, column: str, wanted: str) -> str:
    row = rows.loc[rows["p"].idxmin() if wanted == "above" else rows[column].idxmax()]
    figure = f"p {row['p']:.2g}" if wanted == "above" else f"{row[column]:.2f}"
    return f"; worst is neuron {row['neuron']} for {row['concept']} ({figure})"


def limited_overlap(run: Run) -> Iterator[Evidence]:
    """Yield claim 3 for every site and ranking: concepts' Gaussians against each other, and ranges firing on the rest."""
    neurons, overlap = run.folder.read_diagnostics()
    if neurons.empty:
        return
    for (site, saliency), group in neurons.groupby(["site", "saliency"], sort=False):
        pairs = group.drop_duplicates(["concept", "neuron"])
        means = pairs.groupby("concept", sort=False)["overlap"].mean().dropna()
        estimate = Estimate.bare(float(means.mean()))  # a run of an older version kept no pairs: no interval
        if "bhattacharyya" in overlap:
            own = overlap[(overlap["site"] == site) & (overlap["saliency"] == saliency)]
            estimate = run.bootstrap.of_pairs(_square(own, "bhattacharyya"))
        verdict = judge(estimate, OVERLAP, "below", len(means))
        mean = "mean Bhattacharyya overlap with the other concepts' Gaussians"
        against = _worst(means, OVERLAP, "below")
        yield Evidence(3, str(site), str(saliency), mean, estimate, OVERLAP, None, len(means), verdict, against)
        swept = group["tau"].dropna().unique()
        at = group[(group["tau"] == run.tau) | group["tau"].isna()] if run.tau in swept else group
        for key, fired in at.groupby(FITTED_BY, dropna=False, sort=False):
            row = dict(zip(FITTED_BY, key, strict=True))
            yield _firing(str(site), ", ".join(naming.words(row, FITTED_BY[1:])), fired, run.bootstrap)


def _firing(site: str, setting: str, rows: pd.DataFrame, bootstrap: Bootstrap) -> Evidence:
    rates = rows.groupby("concept", sort=False)[["firing_concept", "firing_rest"]].mean()
    rates = rates[rates["firing_concept"] > 0]
    ratio = rates["firing_rest"] / rates["firing_concept"]
    estimate = bootstrap.of_mean(ratio.to_numpy())
    statistic = "how often the range fires on the rest, as a share of how often on the concept"
    verdict = judge(estimate, FIRING, "below", len(ratio))
    return Evidence(
        3, site, setting, statistic, estimate, FIRING, 1.0, len(ratio), verdict, _worst(ratio, FIRING, "below")
    )
