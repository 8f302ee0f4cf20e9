"""What the page shows of held-out samples, of shared neurons and of skipped cells, as plain JSON."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from neuronlens.measures.heldout import FITTED_BY, purity_by_chance
from neuronlens.report.page.values import Json, plain_knobs, rounded


def overlap_data(overlap: pd.DataFrame, concepts: Sequence[str]) -> list[Json]:
    """Return, per (site, ranking), the Jaccard overlap of salient sets `[concept, other]`."""
    if overlap.empty:
        return []
    found = []
    for (site, saliency), panel in overlap.groupby(["site", "saliency"], sort=False):
        square = panel.pivot(index="concept", columns="other", values="jaccard").reindex(
            index=concepts, columns=concepts
        )
        found.append({"site": site, "saliency": saliency, "square": [rounded(row, 4) for row in square.to_numpy()]})
    return found


HELD_OUT = {
    "coverage": "the range fires on the concept",
    "rest": "it fires on the rest",
    "purity": "purity",
    "chance": "purity by chance",
    "overlap": "overlap with the others' Gaussians",
    "skewness": "skewness",
    "kurtosis": "excess kurtosis",
    "ks": "Kolmogorov-Smirnov distance",
    "normal": "neurons whose normality is not refused (p at least 0.05)",
}


def held_out_data(diagnostics: pd.DataFrame) -> list[Json]:
    """Return, per (site, ranking, range, tau, concept), what its salient neurons and their ranges do on held-out samples.

    `chance` is the purity of a range that fires on everybody alike.
    Shares and overlap are means over the concept's salient neurons, shape and distance medians, `normal` a share of them.
    """
    if diagnostics.empty:
        return []
    knobs = [*FITTED_BY, "concept"]
    normal = (diagnostics["ks_p"] >= 0.05).where(diagnostics["ks_p"].notna())
    chance = diagnostics["concept"].map(purity_by_chance(diagnostics))
    groups = diagnostics.assign(normal=normal, chance=chance).groupby(knobs, dropna=False, sort=False)
    table = pd.DataFrame(
        {
            "neurons": groups.size(),
            "coverage": groups["firing_concept"].mean(),
            "rest": groups["firing_rest"].mean(),
            "purity": groups["purity"].mean(),
            "chance": groups["chance"].first(),
            "overlap": groups["overlap"].mean(),
            "skewness": groups["skewness"].median(),
            "kurtosis": groups["excess_kurtosis"].median(),
            "ks": groups["ks_statistic"].median(),
            "normal": groups["normal"].apply(lambda column: column.astype(float).mean()),
        }
    ).reset_index()
    columns = {name: plain_knobs(table[name]) for name in knobs}
    columns |= {name: rounded(table[name], 4) for name in ("neurons", *HELD_OUT)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def skipped_data(rows: pd.DataFrame) -> list[Json]:
    """Return each reason for which cells were skipped, with its concepts and how many cells it hit."""
    skipped = rows[rows["skipped"].notna()]
    return [
        {"reason": str(reason), "concepts": list(dict.fromkeys(group["concept"])), "cells": len(group)}
        for reason, group in skipped.groupby("skipped", sort=False)
    ]
