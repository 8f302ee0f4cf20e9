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
    """Return the means, their drops with paired differences, matched erasure, damage budgets, the concepts one by one."""
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
    return [
        _levels(means),
        _drops(means, bootstrap),
        _matched(runs, bootstrap),
        _budget(runs, bootstrap),
        _concepts(single, bootstrap),
    ]


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


ALL = (("", "difference"), ("_low", "low"), ("_high", "high"))
"""What the columns of a difference over all concepts end in, here and in `comparison.parquet`."""


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
                row |= {f"all_{name}{end}": found[f"{name}_all_{key}"] for end, key in ALL}
                row[f"wins_all_{name}"] = found[f"{name}_wins_all"]
            rows.append(row)
    shown = []
    for name in COST:
        group = nl.RESULTS[name].published
        shown += [nl.Column(f"{gate}_{name}", gate, group, ".3f") for gate in ("neuron", "range")]
        shown.append(nl.Column(f"difference_{name}", "range - neuron", group, "+.3f", interval=True))
        shown.append(nl.Column(f"wins_{name}", "range wins", group, "d"))
        shown.append(nl.Column(f"all_{name}", "all concepts", group, "+.3f", interval=True))
        shown.append(nl.Column(f"wins_all_{name}", "wins, all", group, "d"))
    columns = (*IDENTITY, nl.Column("edit", "edit"), nl.Column("erased", "erased", "", ".0%"))
    caption = (
        "What both masks cost the other concepts where they erase the same share of a concept's base accuracy, over the "
        "concepts that both reach. All concepts: one that a mask does not erase as much counts with the worst collateral of "
        "its curve, and is lost by it." + with_level(bootstrap, "{} intervals over concepts, paired.")
    )
    frame = pd.DataFrame(rows)
    columns = (*columns, nl.Column("concepts", "concepts", "", "d"), *shown)
    return nl.Table("main_table_matched", "Collateral at matched erasure", caption, frame, columns, GROUPS)


def _budget(runs: Runs, bootstrap: nl.Bootstrap) -> nl.Table:
    rows: list[dict[str, Any]] = []
    erased = "concept_accuracy_drop"
    for folder in runs.part("main_table").values():
        table = folder.read_results()
        first = table.rows.iloc[0]
        assert table.budget_comparison is not None, "a run of this version compares at damage budgets"
        for found in table.budget_comparison.to_dict("records"):
            row = {"model": first["model"], "dataset": first["dataset"], "layer": str(found["layers"])}
            row |= {
                "edit": found["edit"],
                "damage": nl.RESULTS[found["damage"]].heading,
                "budget": found["budget"],
            }
            row |= {f"{gate}_erases": found[f"{erased}_{gate}"] for gate in ("neuron", "range")}
            row |= {"difference": found[f"{erased}_difference"]}
            row |= {f"difference_{end}": found[f"{erased}_{end}"] for end in ("low", "high")}
            rows.append(row | {"wins": found[f"{erased}_wins"], "concepts": found["n_concepts"]})
    columns = (
        *IDENTITY,
        nl.Column("edit", "edit"),
        nl.Column("damage", "the others' loss"),
        nl.Column("budget", "at most", "", ".2f"),
        *(nl.Column(f"{gate}_erases", f"{gate} erases", "", ".3f") for gate in ("neuron", "range")),
        nl.Column("difference", "range - neuron", "", "+.3f", interval=True),
        nl.Column("wins", "range wins", "", "d"),
        nl.Column("concepts", "concepts", "", "d"),
    )
    caption = (
        "The largest drop of a concept's accuracy among the doses at which the other concepts lose no more than the budget."
        + with_level(bootstrap, "{} intervals over concepts, paired.")
    )
    return nl.Table("main_table_budget", "Erasure at a damage budget", caption, pd.DataFrame(rows), columns, GROUPS)


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
    caption = WHAT + with_level(bootstrap, "{} intervals over samples are in the CSV.")
    frame = pd.DataFrame(rows)
    return nl.Table(
        "main_table_concepts", "Neuron mask against range mask by concept", caption, frame, columns, (*GROUPS, "edit")
    )


EXPERIMENT = Experiment("main_table", ("main_table",), tables)

if __name__ == "__main__":
    main(EXPERIMENT)
