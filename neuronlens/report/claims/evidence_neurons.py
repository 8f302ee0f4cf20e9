"""Claims 1 to 3, on what neurons are: shared between concepts, near Gaussian for each, with little overlap."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, hypergeom

from neuronlens.measures import naming
from neuronlens.measures.heldout import FITTED_BY
from neuronlens.measures.intervals import Bootstrap, Estimate
from neuronlens.ranges.diagnostics.exact_normal import exact_normal
from neuronlens.records import BoolArray, NeuronRanking
from neuronlens.report.claims.verdicts import Evidence, judge, listed
from neuronlens.report.compare.runs import Run

ALPHA = 0.05
NOT_REJECTED = 0.90
SKEWNESS, EXCESS_KURTOSIS = 0.5, 1.0
OVERLAP = float(np.exp(-0.5))
"""Bhattacharyya coefficient of two Gaussians of one deviation whose means are two deviations apart: exp(-2^2 / 8)."""
FIRING = 0.5


def expected_jaccard(neurons: int, salient: int) -> float:
    """Return the mean Jaccard overlap of two independent random sets of `salient` out of `neurons`.

    The number they share is hypergeometric: sum over x of P(x) x / (2 salient - x).
    """
    shared = np.arange(salient + 1)
    either = np.maximum(2 * salient - shared, 1)
    return float((hypergeom.pmf(shared, neurons, salient, salient) * shared / either).sum())


def expected_shared(neurons: int, salient: int, concepts: int) -> float:
    """Return, of the neurons in one or more of some random sets, the share expected in two or more."""
    share = salient / neurons
    none, one = (1 - share) ** concepts, concepts * share * (1 - share) ** (concepts - 1)
    return (1 - none - one) / (1 - none) if none < 1 else float("nan")


def polysemantic(run: Run) -> Iterator[Evidence]:
    """Yield claim 1 for every site and ranking: what concepts' salient sets share, against independent random sets."""
    _, overlap = run.folder.read_diagnostics()
    fraction = run.config.intervention.top_fraction
    if overlap.empty:
        return
    scores, *_ = run.folder.read_fitted()
    for (site, saliency), group in overlap.groupby(["site", "saliency"], sort=False):
        concepts = tuple(dict.fromkeys(group["concept"]))
        square = group.pivot(index="concept", columns="other", values="jaccard").loc[list(concepts), list(concepts)]
        selected = NeuronRanking(str(saliency), scores[f"{site}/{saliency}"], concepts).selected(top_fraction=fraction)
        neurons, salient = selected.shape[1], int(selected[0].sum())
        if not salient:
            continue
        chance = expected_jaccard(neurons, salient)
        shared = square.to_numpy()
        estimate = run.bootstrap.of_pairs(shared)
        means = (shared.sum(axis=1) - np.diag(shared)) / max(len(concepts) - 1, 1)
        low = [f"{concepts[at]} ({means[at]:.3f})" for at in np.argsort(means) if means[at] <= chance]
        verdict = judge(estimate, chance, "above")
        detail = f"{salient} of {neurons} neurons salient"
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
            estimate=Estimate(_shared(selected), float("nan"), float("nan")),
            bound=None,
            expected=expected_shared(neurons, salient, len(concepts)),
            verdict=None,
        )


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
        parts.append(group.assign(p=exact.p(group["ks_statistic"].to_numpy()), **chance))
    rows = pd.concat(parts).sort_index()
    rows = rows.assign(kept=rows["p"] >= ALPHA, skewed=rows["skewness"].abs(), heavy=rows["excess_kurtosis"].abs())
    discovered = float(np.mean(false_discovery_control(rows["p"]) < ALPHA))
    tabulated = f"{np.mean(rows['ks_p'] >= ALPHA):.3f} by the tabulated distribution"
    others = f"{tabulated}, {1 - discovered:.3f} after Benjamini-Hochberg"
    kinds: list[tuple[str, str, float | None, float, Any]] = [
        (f"share of (concept, neuron) pairs not rejected at {ALPHA:.0%}", "kept", NOT_REJECTED, 1 - ALPHA, "above"),
        ("mean absolute skewness", "skewed", SKEWNESS, rows["exact_skewness"].mean(), "below"),
        ("mean absolute excess kurtosis", "heavy", EXCESS_KURTOSIS, rows["exact_kurtosis"].mean(), "below"),
        ("mean Kolmogorov-Smirnov distance", "ks_statistic", None, rows["exact_ks"].mean(), "below"),
    ]
    size = f"{len(rows)} pairs, {rows['n_fit'].median():.0f} samples fitted and {rows['n'].median():.0f} tested each"
    for statistic, column, bound, expected, wanted in kinds:
        means = rows.groupby("concept", sort=False)[column].mean()
        estimate = bootstrap.of_concepts(means.to_numpy(dtype=float))
        verdict = None if bound is None else judge(estimate, bound, wanted)
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
    neurons, _ = run.folder.read_diagnostics()
    if neurons.empty:
        return
    for (site, saliency), group in neurons.groupby(["site", "saliency"], sort=False):
        pairs = group.drop_duplicates(["concept", "neuron"])
        means = pairs.groupby("concept", sort=False)["overlap"].mean().dropna()
        estimate = run.bootstrap.of_concepts(means.to_numpy())
        verdict = judge(estimate, OVERLAP, "below")
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
    estimate = bootstrap.of_concepts(ratio.to_numpy())
    statistic = "how often the range fires on the rest, as a share of how often on the concept"
    verdict = judge(estimate, FIRING, "below")
    return Evidence(
        3, site, setting, statistic, estimate, FIRING, 1.0, len(ratio), verdict, _worst(ratio, FIRING, "below")
    )
