"""Max, probe and probeless compared, random neurons beside them: what they choose, and what editing it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import neuronlens as nl
from experiments.means import IDENTITY, compared, masks, mean_columns, means_caption, per_layer, with_level
from experiments.runner import Experiment, Runs, main
from neuronlens import jaccard

TOP_FRACTION = 0.3
MEASURES = ("concept_accuracy_drop", "complement_accuracy_drop", "complement_confidence_drop")
LEVEL = 0.6


def tables(runs: Runs) -> list[nl.Table]:
    """Return each ranker's masks at a fixed fraction, and its collateral at matched erasure."""
    return [_fixed(runs), _matched(runs)]


def _fixed(runs: Runs) -> nl.Table:
    chosen = _agreement(runs)
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("rankers")
    for identity, cells, _ in per_layer(runs, "rankers"):
        for saliency in cells["saliency"].unique():
            for edit in ("zero", "complement_mean"):
                found = masks(cells, edit=edit, top_fraction=TOP_FRACTION, saliency=saliency)
                row = identity | {"edit": edit, "saliency": saliency} | chosen[(*identity.values(), saliency)]
                rows.append(row | compared(found["neuron"], found["range"], MEASURES, bootstrap))
    order = [*IDENTITY_NAMES, "edit"]
    frame = pd.DataFrame(rows).sort_values(
        order, key=lambda column: pd.factorize(column)[0], kind="stable", ignore_index=True
    )
    shown = []
    for name in MEASURES:
        short = nl.RESULTS[name].published
        shown += [nl.Column(f"{gate}_{name}", gate, short, "+.3f") for gate in ("neuron", "range")]
        shown.append(nl.Column(f"difference_{name}", "range - neuron", short, "+.3f", interval=True))
    columns = (
        *IDENTITY,
        nl.Column("edit", "edit"),
        nl.Column("saliency", "ranking"),
        nl.Column("with_max", "with max", "Jaccard", ".2f"),
        nl.Column("among_concepts", "of concepts", "Jaccard", ".2f"),
        *shown,
    )
    caption = (
        "Top 30 % of the neurons by each ranking, Gaussian range of tau 2.5. With max: the mean overlap of a concept's set with "
        "its set by max saliency; of concepts: that of two concepts' sets. " + means_caption(bootstrap)
    )
    return nl.Table("rankers", "Which neurons are called salient", caption, frame, columns, tuple(order))


IDENTITY_NAMES = tuple(column.name for column in IDENTITY)


def _agreement(runs: Runs) -> dict[tuple[str, ...], dict[str, float]]:
    """Return, by (model, dataset, layer, ranking), how a ranking's salient sets overlap with max's and one another."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for folder in runs.part("rankers").values():
        first = folder.read_results().rows.iloc[0]
        for site, fitted in folder.restore_fitted()[0].items():
            sets = {name: ranking.selected(top_fraction=TOP_FRACTION) for name, ranking in fitted.rankings.items()}
            for name, own in sets.items():
                shared = (own & sets["max"]).sum(axis=1) / (own | sets["max"]).sum(axis=1)
                pairs = jaccard(own)[np.triu_indices(len(own), 1)]
                key = (str(first["model"]), str(first["dataset"]), str(site.layer), name)
                found[key] = {"with_max": float(shared.mean()), "among_concepts": float(np.mean(pairs))}
    return found


def _matched(runs: Runs) -> nl.Table:
    rows: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("rankers")
    for folder in runs.part("rankers").values():
        table = folder.read_results()
        first, matched = table.rows.iloc[0], table.matched
        at = matched[np.isclose(matched["level"], LEVEL)]
        for key, own in at.groupby(["layers", "edit", "saliency", "gate"], sort=False):
            row = {"model": first["model"], "dataset": first["dataset"], "layer": str(key[0])}
            row |= dict(zip(("edit", "saliency", "gate"), key[1:], strict=True)) | {"concepts": len(own)}
            row["reached"] = int(own["kl"].notna().sum())
            for name in MEASURES[1:]:
                row |= mean_columns(name, own[name].to_numpy(), bootstrap)
            rows.append(row)
    names = [*IDENTITY_NAMES, "edit"]
    frame = pd.DataFrame(rows).sort_values(
        names, key=lambda column: pd.factorize(column)[0], kind="stable", ignore_index=True
    )
    columns = (
        *IDENTITY,
        nl.Column("edit", "edit"),
        nl.Column("saliency", "ranking"),
        nl.Column("gate", "mask"),
        nl.Column("reached", "concepts reached", "", "d"),
        *(nl.Column(name, nl.RESULTS[name].published, "", "+.3f", interval=True) for name in MEASURES[1:]),
    )
    caption = (
        f"What each ranking's masks cost the other concepts where {LEVEL:.0%} of a concept's base accuracy is erased; means over "
        f"the concepts reached, which differ between rows{with_level(bootstrap, 'with {} intervals over these')}."
    )
    return nl.Table("rankers_matched", "Rankings at matched erasure", caption, frame, columns, tuple(names))


EXPERIMENT = Experiment("rankers", ("rankers",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
