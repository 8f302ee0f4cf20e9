"""Polysemanticity: how concepts share their salient neurons, per model, dataset and layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import neuronlens as nl
from experiments.means import IDENTITY, with_level
from experiments.runner import Experiment, Runs, main
from neuronlens import expected_jaccard, jaccard

FRACTIONS = (0.05, 0.1, 0.3, 0.5)


def tables(runs: Runs) -> list[nl.Table]:
    """Return overlap of salient sets against chance, and how many concepts a salient neuron serves."""
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("polysemanticity")
    for folder in runs.part("polysemanticity").values():
        first = folder.read_results().rows.iloc[0]
        for site, found in folder.restore_fitted()[0].items():
            for ranking in found.rankings.values():
                for fraction in FRACTIONS:
                    chosen = ranking.selected(top_fraction=fraction)
                    if not chosen.any():
                        continue  # the fraction is less than one neuron
                    rows.append(
                        {"model": first["model"], "dataset": first["dataset"], "layer": str(site.layer)}
                        | {"neurons": fraction, "saliency": ranking.name, "concepts": len(chosen)}
                        | _shared(chosen, bootstrap)
                    )
    columns = (
        *IDENTITY,
        nl.Column("neurons", "top", "", ".0%"),
        nl.Column("concepts", "concepts", "", "d"),
        nl.Column("jaccard", "mean", "Jaccard of two concepts' sets", ".3f", interval=True),
        nl.Column("chance", "by chance", "Jaccard of two concepts' sets", ".3f"),
        nl.Column("two", "two or more", "salient neurons that serve", ".0%"),
        nl.Column("half", "half of all", "salient neurons that serve", ".0%"),
        nl.Column("all", "all concepts", "salient neurons that serve", ".0%"),
    )
    caption = (
        "Salient sets by max saliency. The mean is over pairs of concepts; by chance is the expectation for independent random "
        "sets of the same size."
        + with_level(
            bootstrap,
            "Brackets: the mean's {} interval over concepts, since pairs that share one are not independent.",
        )
    )
    frame = pd.DataFrame(rows)
    return [
        nl.Table(
            "polysemanticity", "Concepts share salient neurons", caption, frame, columns, ("model", "dataset", "layer")
        )
    ]


def _shared(chosen: np.ndarray, bootstrap: nl.Bootstrap) -> dict[str, float]:
    """Return the overlap statistics of salient sets `[concept, neuron]`."""
    concepts, neurons = chosen.shape
    served = chosen.sum(axis=0)
    salient = served[served > 0]
    row = bootstrap.of_pairs(jaccard(chosen)).columns("jaccard")
    row["chance"] = expected_jaccard(neurons, int(chosen[0].sum()))
    for name, least in (("two", 2), ("half", concepts / 2), ("all", concepts)):
        row[name] = float((salient >= least).mean())
    return row


EXPERIMENT = Experiment("polysemanticity", ("polysemanticity",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
