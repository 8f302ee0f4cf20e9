"""Normality of class-conditional activations on held-out samples, and how far their Gaussians overlap."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.means import IDENTITY, mean_columns
from experiments.runner import Experiment, Runs, main
from neuronlens.report.table import PaperColumn, PaperTable

ALPHA = 0.05


def tables(runs: Runs) -> list[PaperTable]:
    """Return the shape of salient neurons' class-conditional activations, means over concepts."""
    rows: list[dict[str, Any]] = []
    for folder in runs.part("normality").values():
        first = folder.read_results().rows.iloc[0]
        found = folder.read_diagnostics()[0]
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
                "overlap",
                "firing_concept",
                "firing_rest",
            ):
                row |= mean_columns(name, concepts[name].mean().to_numpy())
            rows.append(row)
    columns = (
        *IDENTITY,
        PaperColumn("pairs", "pairs", "", "d"),
        PaperColumn("kept", "not rejected", "Kolmogorov-Smirnov", ".0%", interval=True),
        PaperColumn("ks_statistic", "distance", "Kolmogorov-Smirnov", ".3f"),
        PaperColumn("abs_skewness", "|skewness|", "moments", ".2f"),
        PaperColumn("abs_kurtosis", "|ex. kurtosis|", "moments", ".2f"),
        PaperColumn("overlap", "overlap", "", ".2f", interval=True),
        PaperColumn("firing_concept", "concept", "inside tau 2.5", ".0%"),
        PaperColumn("firing_rest", "others", "inside tau 2.5", ".0%"),
    )
    caption = (
        "The top 30 % neurons of each concept on samples that nothing was fitted on, against the Gaussian fitted on others. Not "
        "rejected: p at least 0.05, uncorrected. Overlap: mean Bhattacharyya coefficient of the concept's Gaussian with the "
        "others' (1: the same). 98.76 % of a normal lies inside tau 2.5. Means over concepts, 95 % intervals over concepts."
    )
    frame = pd.DataFrame(rows)
    title = "Class-conditional activations against the Gaussian"
    return [PaperTable("normality", title, caption, frame, columns, ("model", "dataset"))]


EXPERIMENT = Experiment("normality", ("normality",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
