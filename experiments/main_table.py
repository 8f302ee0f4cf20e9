"""The main table: neuron mask against range mask, per model and dataset, over concepts and concept by concept."""

from __future__ import annotations

from typing import Any

import pandas as pd

import neuronlens as nl
from experiments.means import IDENTITY, MEASURES, compared, masks, mean_columns, means_caption, per_layer, with_level
from experiments.runner import Experiment, Runs, main

TOP_FRACTION = 0.3
DROPS = [f"{name}_drop" for name in MEASURES]
COST = ("complement_accuracy_drop", "complement_confidence_drop")
EDITS = ("zero", "complement_mean")
WHAT = (
    "Acc and Conf are the concept's accuracy and gold confidence, CAcc and CConf the other concepts'. Top 30 % of the neurons "
    "by max saliency, Gaussian range of tau 2.5, ranges fitted and measured on disjoint samples."
)


def tables(runs: Runs) -> list[nl.Table]:
    """Return the means, their drops with paired differences, matched erasure, and the concepts one by one."""
    means: list[dict[str, Any]] = []
    bootstrap = runs.bootstrap("main_table")
    single: list[dict[str, Any]] = []
    for identity, cells, base in per_layer(runs, "main_table"):
        for edit in EDITS:
            found = masks(cells, edit=edit, top_fraction=TOP_FRACTION)
            row = identity | {"edit": edit}
            for name in MEASURES:
                row |= mean_columns(f"base_{name}", found["range"][f"base_{name}"], bootstrap)
            means.append(row | compared(found["neuron"], found["range"], [*MEASURES, *DROPS], bootstrap))
            for concept in found["range"].index.intersection(found["neuron"].index):
                row = identity | {"edit": edit, "concept": concept, "n": int(base.loc[concept, "n_concept"])}
                for name in MEASURES:
                    row[f"base_{name}"] = found["range"].loc[concept, f"base_{name}"]
                    for gate, own in found.items():
                        row |= {f"{gate}_{name}{end}": own.loc[concept, name + end] for end in ("", "_low", "_high")}
                single.append(row)
    return [_levels(means), _drops(means, bootstrap), _matched(runs, bootstrap), _concepts(single, bootstrap)]


def _levels(rows: list[dict[str, Any]]) -> nl.Table:
    shown = [
        nl.Column(f"{gate}_{name}", short, group, ".3f")
        for gate, group in (("base", "Base"), ("neuron", "Neuron mask"), ("range", "Range mask"))
        for name, short in MEASURES.items()
    ]
    columns = (*IDENTITY, nl.Column("edit", "edit"), *shown)
    caption = f"{WHAT} Means over concepts; intervals are in the CSV."
    return nl.Table("main_table", "Neuron mask against range mask", caption, pd.DataFrame(rows), columns, GROUPS)


def _drops(rows: list[dict[str, Any]], bootstrap: nl.Bootstrap) -> nl.Table:
    shown = []
    for name in DROPS:
        for gate, heading in (("neuron", "neuron"), ("range", "range"), ("difference", "range - neuron")):
            shown.append(
                nl.Column(f"{gate}_{name}", heading, nl.RESULTS[name].published, "+.3f", interval=gate == "difference")
            )
    columns = (*IDENTITY, nl.Column("edit", "edit"), *shown)
    caption = (
        f"Unedited minus edited. {means_caption(bootstrap)} A larger Acc drop erases more, smaller CAcc and CConf drops "
        "spare more."
    )
    frame = pd.DataFrame(rows)
    return nl.Table("main_table_drops", "Drops under the masks", caption, frame, columns, GROUPS)


GROUPS = ("model", "dataset", "layer")


def _matched(runs: Runs, bootstrap: nl.Bootstrap) -> nl.Table:
    rows: list[dict[str, Any]] = []
    for folder in runs.part("main_table").values():
        table = folder.read_results()
        first = table.rows.iloc[0]
        for found in table.comparison.to_dict("records"):
            row = {"model": first["model"], "dataset": first["dataset"], "layer": str(found["layers"])}
            row |= {"edit": found["edit"], "erased": found["level"], "concepts": found["n_concepts"]}
            for name in COST:
                row |= {f"{gate}_{name}": found[f"{name}_{gate}"] for gate in ("neuron", "range", "difference")}
                row |= {f"difference_{name}_{end}": found[f"{name}_{end}"] for end in ("low", "high")}
                row[f"wins_{name}"] = found[f"{name}_wins"]
            rows.append(row)
    shown = []
    for name in COST:
        group = nl.RESULTS[name].published
        shown += [nl.Column(f"{gate}_{name}", gate, group, ".3f") for gate in ("neuron", "range")]
        shown.append(nl.Column(f"difference_{name}", "range - neuron", group, "+.3f", interval=True))
        shown.append(nl.Column(f"wins_{name}", "range wins", group, "d"))
    columns = (*IDENTITY, nl.Column("edit", "edit"), nl.Column("erased", "erased", "", ".0%"))
    caption = (
        "What both masks cost the other concepts where they erase the same share of a concept's base accuracy, over the "
        "concepts that both reach." + with_level(bootstrap, "{} bootstrap intervals over concepts, paired.")
    )
    frame = pd.DataFrame(rows)
    columns = (*columns, nl.Column("concepts", "concepts", "", "d"), *shown)
    return nl.Table("main_table_matched", "Collateral at matched erasure", caption, frame, columns, GROUPS)


def _concepts(rows: list[dict[str, Any]], bootstrap: nl.Bootstrap) -> nl.Table:
    shown = [
        nl.Column(f"{gate}_{name}", short, group, ".3f")
        for gate, group in (("base", "Base"), ("neuron", "Neuron mask"), ("range", "Range mask"))
        for name, short in MEASURES.items()
    ]
    columns = (
        *IDENTITY,
        nl.Column("edit", "edit"),
        nl.Column("concept", "concept"),
        nl.Column("n", "n", "", "d"),
        *shown,
    )
    caption = WHAT + with_level(bootstrap, "{} bootstrap intervals over samples are in the CSV.")
    frame = pd.DataFrame(rows)
    return nl.Table(
        "main_table_concepts", "Neuron mask against range mask by concept", caption, frame, columns, (*GROUPS, "edit")
    )


EXPERIMENT = Experiment("main_table", ("main_table",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
