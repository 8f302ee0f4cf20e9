"""Max, probe and probeless compared, random neurons beside them: what they choose, and what editing it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from experiments.means import IDENTITY, compared, masks, mean_columns, per_layer
from experiments.runner import Experiment, Runs, main
from neuronlens.report.table import PaperColumn, PaperTable
from neuronlens.saliency.overlap import jaccard

TOP_FRACTION = 0.3
MEASURES = ("concept_accuracy_drop", "complement_accuracy_drop", "complement_confidence_drop")
LEVEL = 0.6


def tables(runs: Runs) -> list[PaperTable]:
    """Return each ranker's masks at a fixed fraction, and its collateral at matched erasure."""
    return [_fixed(runs), _matched(runs)]


def _fixed(runs: Runs) -> PaperTable:
    chosen = _agreement(runs)
    rows: list[dict[str, Any]] = []
    for identity, cells, _ in per_layer(runs, "rankers"):
        for saliency in cells["saliency"].unique():
            for edit in ("zero", "complement_mean"):
                found = masks(cells, edit=edit, top_fraction=TOP_FRACTION, saliency=saliency)
                row = identity | {"edit": edit, "saliency": saliency} | chosen[(*identity.values(), saliency)]
                rows.append(row | compared(found["neuron"], found["range"], MEASURES))
    order = [*IDENTITY_NAMES, "edit"]
    frame = pd.DataFrame(rows).sort_values(
        order, key=lambda column: pd.factorize(column)[0], kind="stable", ignore_index=True
    )
    shown = []
    for name, short in zip(MEASURES, ("Acc drop", "CAcc drop", "CConf drop"), strict=True):
        shown += [PaperColumn(f"{gate}_{name}", gate, short, "+.3f") for gate in ("neuron", "range")]
        shown.append(PaperColumn(f"difference_{name}", "range - neuron", short, "+.3f", interval=True))
    columns = (
        *IDENTITY,
        PaperColumn("edit", "edit"),
        PaperColumn("saliency", "ranking"),
        PaperColumn("with_max", "with max", "Jaccard", ".2f"),
        PaperColumn("among_concepts", "of concepts", "Jaccard", ".2f"),
        *shown,
    )
    caption = (
        "Top 30 % of the neurons by each ranking, Gaussian range of tau 2.5. With max: the mean overlap of a concept's set with "
        "its set by max saliency; of concepts: that of two concepts' sets. 95 % bootstrap intervals over concepts, paired."
    )
    return PaperTable("rankers", "Which neurons are called salient", caption, frame, columns, tuple(order))


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


def _matched(runs: Runs) -> PaperTable:
    rows: list[dict[str, Any]] = []
    for folder in runs.part("rankers").values():
        table = folder.read_results()
        first, matched = table.rows.iloc[0], table.matched
        at = matched[np.isclose(matched["level"], LEVEL)]
        for key, own in at.groupby(["layers", "edit", "saliency", "gate"], sort=False):
            row = {"model": first["model"], "dataset": first["dataset"], "layer": str(key[0])}
            row |= dict(zip(("edit", "saliency", "gate"), key[1:], strict=True)) | {"concepts": len(own)}
            row["reached"] = int(own["kl"].notna().sum())
            for name in MEASURES[1:]:
                row |= mean_columns(name, own[name].to_numpy())
            rows.append(row)
    names = [*IDENTITY_NAMES, "edit"]
    frame = pd.DataFrame(rows).sort_values(
        names, key=lambda column: pd.factorize(column)[0], kind="stable", ignore_index=True
    )
    columns = (
        *IDENTITY,
        PaperColumn("edit", "edit"),
        PaperColumn("saliency", "ranking"),
        PaperColumn("gate", "mask"),
        PaperColumn("reached", "concepts reached", "", "d"),
        PaperColumn("complement_accuracy_drop", "CAcc drop", "", "+.3f", interval=True),
        PaperColumn("complement_confidence_drop", "CConf drop", "", "+.3f", interval=True),
    )
    caption = (
        f"What each ranking's masks cost the other concepts where {LEVEL:.0%} of a concept's base accuracy is erased; means over "
        "the concepts reached, which differ between rows, with 95 % bootstrap intervals over these."
    )
    return PaperTable("rankers_matched", "Rankings at matched erasure", caption, frame, columns, tuple(names))


EXPERIMENT = Experiment("rankers", ("rankers",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
