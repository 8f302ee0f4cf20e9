"""Normality of class-conditional activations on held-out samples, and how far their Gaussians overlap."""

from __future__ import annotations

from typing import Any

import pandas as pd

import neuronlens as nl
from experiments.means import IDENTITY, mean_columns, means_caption
from experiments.runner import Experiment, Runs, main

ALPHA = 0.05


def tables(runs: Runs) -> list[nl.Table]:
    """Return the shape of salient neurons' class-conditional activations, means over concepts."""
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("normality")
    for folder in runs.part("normality").values():
        first = folder.read_results().rows.iloc[0]
        found, overlap = folder.read_diagnostics()
        for site, own in found.groupby("site", sort=False):
            own = own.assign(
                kept=(own["ks_p"] >= ALPHA).where(own["ks_p"].notna()).astype(float),
                abs_skewness=own["skewness"].abs(),
                abs_kurtosis=own["excess_kurtosis"].abs(),
            )
            concepts = own.groupby("concept", sort=False)
            row: dict[str, Any] = {"model": first["model"], "dataset": first["dataset"]}
            row |= {"layer": str(site).rpartition(".")[2], "pairs": len(own), "concepts": concepts.ngroups}
            for name in (
                "kept",
                "ks_statistic",
                "abs_skewness",
                "abs_kurtosis",
                "firing_concept",
                "firing_rest",
            ):
                row |= mean_columns(name, concepts[name].mean().to_numpy(), bootstrap)
            pairs = overlap[overlap["site"] == site].pivot(index="concept", columns="other", values="bhattacharyya")
            row |= bootstrap.of_pairs(pairs.to_numpy()).columns("overlap")
            rows.append(row)
    columns = (
        *IDENTITY,
        nl.Column("pairs", "pairs", "", "d"),
        nl.Column("kept", "not rejected", "Kolmogorov-Smirnov", ".0%", interval=True),
        nl.Column("ks_statistic", "distance", "Kolmogorov-Smirnov", ".3f"),
        nl.Column("abs_skewness", "|skewness|", "moments", ".2f"),
        nl.Column("abs_kurtosis", "|ex. kurtosis|", "moments", ".2f"),
        nl.Column("overlap", "overlap", "", ".2f", interval=True),
        nl.Column("firing_concept", "concept", "inside tau 2.5", ".0%"),
        nl.Column("firing_rest", "others", "inside tau 2.5", ".0%"),
    )
    caption = (
        "The top 30 % neurons of each concept on samples that nothing was fitted on, against the Gaussian fitted on others. Not "
        "rejected: p at least 0.05, uncorrected, by the distribution simulated with the error of the fit in it: 95 % of exact "
        "Gaussians. Overlap: mean Bhattacharyya coefficient of the concept's Gaussian with the "
        "others' (1: the same). 98.76 % of a normal lies inside tau 2.5. " + means_caption(bootstrap)
    )
    frame = pd.DataFrame(rows)
    title = "Class-conditional activations against the Gaussian"
    return [nl.Table("normality", title, caption, frame, columns, ("model", "dataset"))]


EXPERIMENT = Experiment("normality", ("normality",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
